"""The activities as typed calls, and the one race of a poll with a vendor's callback.

A call returns the handle of an activity that has been scheduled; awaiting it gives the activity's answer.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from onetake.core import names
    from onetake.core.contracts import (
        CorrectInput,
        ErrorInfo,
        GenerationResult,
        Persisted,
        PersistInput,
        Plan,
        ReadInput,
        Reconciled,
        ReconcileInput,
        Recovered,
        RecoveryCase,
        RecoveryRequest,
        Reserved,
        ReserveInput,
        ResolveInput,
        SettleInput,
        StatusReading,
        Submission,
        SubmitInput,
        Validated,
        ValidateInput,
    )
    from workflows import options
    from workflows.outcomes import failure_of, last_try_of

T = TypeVar("T")


def validate(order: ValidateInput) -> workflow.ActivityHandle[Validated]:
    return workflow.start_activity(names.VALIDATE, order, result_type=Validated, **options.validate())


def reserve(order: ReserveInput, plan: Plan) -> workflow.ActivityHandle[Reserved]:
    return workflow.start_activity(names.RESERVE, order, result_type=Reserved, **options.reserve(plan))


def submit(order: SubmitInput) -> workflow.ActivityHandle[Submission]:
    name = names.vendor_activity(order.plan.vendor, "submit")
    return workflow.start_activity(name, order, result_type=Submission, **options.submit(order.plan))


def resolve(order: ResolveInput, number: int, limit_s: float) -> workflow.ActivityHandle[Submission]:
    """Look for `limit_s` seconds for what became of a submission; `number` counts the looks of this run."""
    name, config = names.vendor_activity(order.plan.vendor, "resolve"), options.resolve(order.plan, number, limit_s)
    return workflow.start_activity(name, order, result_type=Submission, **config)


def poll(order: ReadInput, number: int, limit_s: float) -> workflow.ActivityHandle[StatusReading]:
    """Read until the job is over, for `limit_s` seconds at most; `number` counts the reads of this run."""
    return _read(order, options.wait(order.plan, number, limit_s))


def read_once(order: ReadInput, number: int) -> workflow.ActivityHandle[StatusReading]:
    """Read, and take whatever the vendor says."""
    return _read(order, options.read_once(order.plan, number))


def confirm(order: ReadInput, number: int) -> workflow.ActivityHandle[StatusReading]:
    """Read once more what the vendor has contradicted itself about."""
    return _read(order, options.confirm(order.plan, number))


def _read(order: ReadInput, config: workflow.ActivityConfig) -> workflow.ActivityHandle[StatusReading]:
    name = names.vendor_activity(order.plan.vendor, "read_status")
    return workflow.start_activity(name, order, result_type=StatusReading, **config)


def persist(order: PersistInput) -> workflow.ActivityHandle[Persisted]:
    return workflow.start_activity(names.PERSIST, order, result_type=Persisted, **options.persist(order.plan))


def settle(order: SettleInput, plan: Plan | None) -> workflow.ActivityHandle[GenerationResult]:
    config = options.settle(plan, order.resolution)
    return workflow.start_activity(names.SETTLE, order, result_type=GenerationResult, **config)


def examine(request: RecoveryRequest) -> workflow.ActivityHandle[RecoveryCase]:
    return workflow.start_activity(names.EXAMINE, request, result_type=RecoveryCase, **options.examine())


def correct(order: CorrectInput) -> workflow.ActivityHandle[Recovered]:
    return workflow.start_activity(names.CORRECT, order, result_type=Recovered, **options.correct())


def reconcile(order: ReconcileInput) -> workflow.ActivityHandle[Reconciled]:
    return workflow.start_activity(names.RECONCILE, order, result_type=Reconciled, **options.reconcile())


# -- Callbacks ---------------------------------------------------------------------------------------------------------


class Wakes:
    """The callbacks that a run has heard of. Only their number counts: what they claim is not looked at here."""

    def __init__(self) -> None:
        self._heard = 0
        self._noted = 0

    def hear(self) -> None:
        """One more has come; a flood is not followed, polling goes on."""
        self._heard = min(self._heard + 1, options.MOST_WAKES)

    @property
    def due(self) -> bool:
        """Whether one has come that nobody has looked after."""
        return self._heard > self._noted

    def note(self) -> None:
        """Whatever has come is being looked after now."""
        self._noted = self._heard

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
