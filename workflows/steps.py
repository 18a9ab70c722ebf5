"""The activities as typed calls, and the one race of a poll with a vendor's callback.

A call returns the handle of an activity that has been scheduled; awaiting it gives the activity's answer. The short
steps on the ledger are coroutines: they run inside the workflow's own task first.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from onetake.core import names
    from onetake.core.contracts import (
        CorrectInput,
        ErrorInfo,
        GenerationResult,
        InspectInput,
        Message,
        Persisted,
        PersistInput,
        Plan,
        ReadInput,
        Reconciled,
        ReconcileInput,
        RecordInput,
        Recovered,
        RecoveryCase,
        RecoveryRequest,
        Reserved,
        ReserveInput,
        ResolveInput,
        Restored,
        RestoreInput,
        SettleInput,
        StatusReading,
        Submission,
        SubmitInput,
        SweepInput,
        Swept,
        Validated,
        ValidateInput,
    )
    from workflows import options
    from workflows.outcomes import failure_of, last_try_of

T = TypeVar("T")


async def validate(order: ValidateInput) -> Validated:
    return await _at_once(names.VALIDATE, order, Validated, options.validate())


async def inspect(order: InspectInput) -> Validated:
    """Look at the media that a request names, which may take many seconds."""
    config = options.inspect(workflow.info().task_queue)
    return await workflow.execute_activity(names.INSPECT, order, result_type=Validated, **config)


async def reserve(order: ReserveInput, plan: Plan) -> Reserved:
    return await _at_once(names.RESERVE, order, Reserved, options.reserve(plan))


def wait_in_line(order: ReserveInput, plan: Plan, left_s: float) -> workflow.ActivityHandle[Reserved]:
    """Reserve as soon as the vendor has room, for `left_s` seconds at most."""
    config = options.wait_in_line(plan, left_s)
    return workflow.start_activity(names.RESERVE, order, result_type=Reserved, **config)


async def _at_once(name: str, order: Message, answer: type[T], config: workflow.ActivityConfig) -> T:
    """Inside the workflow's own task, which costs the engine a tenth of an activity. What does not succeed there at
    once is an activity of its own, so that operators see it pending, with its tries and its last failure.

    The ledger's steps may be repeated: when the short one was cut off after its commit, the long one finds its rows.
    Raises what the step failed with, inside an ActivityError when it was the activity that failed.
    """
    try:
        return await workflow.execute_local_activity(name, order, result_type=answer, **options.at_once(config))
    except FailureError as error:  # there the failure itself, and not an ActivityError around it
        if is_cancelled_exception(error) or (isinstance(error, ApplicationError) and error.non_retryable):
            raise
    return await workflow.execute_activity(name, order, result_type=answer, **config)


def submit(order: SubmitInput, number: int) -> workflow.ActivityHandle[Submission]:
    """Submit; `number` counts these activities, of which the second is patient."""
    name = names.vendor_activity(order.plan.vendor, "submit")
    return workflow.start_activity(name, order, result_type=Submission, **options.submit(order.plan, number))


def resolve(order: ResolveInput, number: int, limit_s: float) -> workflow.ActivityHandle[Submission]:
    """Look for `limit_s` seconds for what became of a submission; `number` counts the looks of this run."""
    name, config = names.vendor_activity(order.plan.vendor, "resolve"), options.resolve(order.plan, number, limit_s)
    return workflow.start_activity(name, order, result_type=Submission, **config)


def read(order: ReadInput, number: int, limit_s: float) -> workflow.ActivityHandle[StatusReading]:
    """Read, for `limit_s` seconds at most while the vendor cannot be asked; `number` counts the reads of this run."""
    return _read(order, options.read(order.plan, number, limit_s))


def poll(order: ReadInput, number: int, limit_s: float) -> workflow.ActivityHandle[StatusReading]:
    """Read until the job is over, for `limit_s` seconds at most."""
    config = options.poll(order.plan, number, limit_s)
    return _read(order.model_copy(update={"until_over": True}), config)


def confirm(order: ReadInput, number: int) -> workflow.ActivityHandle[StatusReading]:
    """Read once more what the vendor has contradicted itself about."""
    return _read(order, options.confirm(order.plan, number))


def _read(order: ReadInput, config: workflow.ActivityConfig) -> workflow.ActivityHandle[StatusReading]:
    name = names.vendor_activity(order.plan.vendor, "read_status")
    return workflow.start_activity(name, order, result_type=StatusReading, **config)


def persist(order: PersistInput, number: int) -> workflow.ActivityHandle[Persisted]:
    config = options.persist(order.plan, number, woken=order.woken)
    return workflow.start_activity(names.PERSIST, order, result_type=Persisted, **config)


def record(order: RecordInput, plan: Plan) -> workflow.ActivityHandle[Submission]:
    return workflow.start_activity(names.RECORD, order, result_type=Submission, **options.record(plan))


async def settle(order: SettleInput, plan: Plan | None) -> GenerationResult:
    return await _at_once(names.SETTLE, order, GenerationResult, options.settle(plan, order.resolution))


async def restore(order: RestoreInput) -> Restored:
    return await workflow.execute_activity(names.RESTORE, order, result_type=Restored, **options.restore(order.plan))


def examine(request: RecoveryRequest) -> workflow.ActivityHandle[RecoveryCase]:
    return workflow.start_activity(names.EXAMINE, request, result_type=RecoveryCase, **options.examine())


def correct(order: CorrectInput) -> workflow.ActivityHandle[Recovered]:
    return workflow.start_activity(names.CORRECT, order, result_type=Recovered, **options.correct())


def reconcile(order: ReconcileInput) -> workflow.ActivityHandle[Reconciled]:
    return workflow.start_activity(names.RECONCILE, order, result_type=Reconciled, **options.reconcile())


def sweep(order: SweepInput) -> workflow.ActivityHandle[Swept]:
    return workflow.start_activity(names.SWEEP, order, result_type=Swept, **options.sweep(workflow.info().task_queue))


# -- Callbacks ---------------------------------------------------------------------------------------------------------


class Wakes:
    """The callbacks that a run has heard of. Their number counts; that one names another job is a reason to look into
    it, once, and nothing is taken from it."""

    def __init__(self) -> None:
        self._heard = 0
        self._noted = 0
        self._claimed: list[str] = []
        self._examined = 0

    def hear(self, claimed_task_id: str | None = None) -> None:
        """One more has come; a flood is not followed, polling goes on."""
        self._heard = min(self._heard + 1, options.MOST_WAKES)
        if claimed_task_id and claimed_task_id not in self._claimed and len(self._claimed) < options.MOST_WAKES:
            self._claimed.append(claimed_task_id)

    def other_than(self, task_id: str) -> str | None:
        """The latest job that was named and is not this one."""
        return next((claimed for claimed in reversed(self._claimed) if claimed != task_id), None)

    def name_another(self, task_id: str) -> bool:
        """Whether another job was named that nobody has looked into."""
        return any(claimed != task_id for claimed in self._claimed[self._examined :])

    def examine(self) -> None:
        """Whatever was named has been looked into."""
        self._examined = len(self._claimed)

    @property
    def due(self) -> bool:
        """Whether one has come that nobody has looked after."""
        return self._heard > self._noted

    def note(self) -> None:
        """Whatever has come is being looked after now."""
        self._noted = self._heard

    async def sleep(self, pause_s: float, why: str | None = None) -> None:
        """Sleep until one is due, for `pause_s` seconds at most; `why` is what the timer says."""
        if pause_s > 0 and not self.due:
            with suppress(asyncio.TimeoutError):
                pause = timedelta(seconds=pause_s)
                await workflow.wait_condition(lambda: self.due, timeout=pause, timeout_summary=why)

    def recall(self) -> None:
        """Whatever has ever come is a reason to look again."""
        self._noted = 0


@dataclass(frozen=True)
class Raced(Generic[T]):
    """How a poll that was raced with callbacks ended: with an answer, with a failure for good, because its time is over
    (then `last_try` is how its last attempt ended, if it said), or with none of these: a callback came."""

    answer: T | None = None
    failure: ErrorInfo | None = None
    timed_out: bool = False
    last_try: ErrorInfo | None = None


async def race(handle: workflow.ActivityHandle[T], wakes: Wakes) -> Raced[T]:
    """Await a poll until it ends or a callback comes, which cancels it. A poll that ends at that very moment counts."""
    await workflow.wait_condition(lambda: handle.done() or wakes.due)
    if not handle.done():
        handle.cancel()
    try:
        return Raced(answer=await handle)
    except ActivityError as error:
        return Raced() if is_cancelled_exception(error) else _lost(error)


def _lost(error: ActivityError) -> Raced[Any]:
    failure = failure_of(error)
    return Raced(failure=failure) if failure else Raced(timed_out=True, last_try=last_try_of(error))
