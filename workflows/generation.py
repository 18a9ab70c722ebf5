"""One generation's whole life: validate, reserve, submit, wait, persist, settle.

Each phase is a method of its name; each ends the generation by raising `_End`. Whatever happens, `settle` runs last and
the ledger holds one resolution. A cancellation is a flag that the phases look at: before the POST it ends the
generation free of charge; afterwards the job is paid for, so the generation goes on until the truth is known.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        ErrorInfo,
        GenerationRequest,
        GenerationResult,
        PersistInput,
        Plan,
        ReadInput,
        ReserveInput,
        ResolveInput,
        SettleInput,
        StatusReading,
        Submission,
        SubmitInput,
        ValidateInput,
        WakeSignal,
    )
    from onetake.core.names import (
        FIRST_ATTEMPT,
        GENERATION_WORKFLOW,
        WAKE_SIGNAL,
        EndStatus,
        Phase,
        Resolution,
        SearchAttribute,
    )
    from workflows import options, steps
    from workflows.details import details_of, without_quotes
    from workflows.outcomes import cost_of_failure, failure_of, last_try_of
    from workflows.state import GenerationState, has_attribute, show, with_phase

T = TypeVar("T")

_NOTHING_WAS_SENT = {"vendor_throttled", "vendor_unreachable"}


class _End(Exception):
    """How the generation ends, raised by the phase that knows."""

    def __init__(self, status: EndStatus, resolution: Resolution, error: ErrorInfo | None = None) -> None:
        super().__init__(status)
        self.status: EndStatus = status
        self.resolution: Resolution = resolution
        self.error = error


@workflow.defn(name=GENERATION_WORKFLOW)
class Generation:
    """Runs one generation. The argument is a `GenerationRequest`; the result, also as failure details, is a
    `GenerationResult`. Failed and canceled generations close as Failed and Canceled."""

    _request: GenerationRequest

    def __init__(self) -> None:
        self._state = GenerationState()
        self._wakes = steps.Wakes()
        self._reads = 0

    @workflow.run
    async def run(self, request: GenerationRequest) -> GenerationResult:
        """Live to the end. The phases run beside this coroutine, so that a cancellation cannot cut one in half."""
        self._request = request
        life = asyncio.create_task(self._live())
        try:
            return await asyncio.shield(life)
        except asyncio.CancelledError:
            self._state.canceled = True
            return await life

    @workflow.signal(name=WAKE_SIGNAL)
    def wake(self, signal: WakeSignal) -> None:
        """A callback came for this attempt. It only wakes: what it claims is not looked at here."""
        if signal.attempt == FIRST_ATTEMPT:
            self._wakes.hear()

    async def _live(self) -> GenerationResult:
        try:
            plan = await self._validate()
            await self._reserve(plan)
            task_id = await self._submit(plan)
            await self._wait(plan, task_id)
            await self._persist(plan, task_id)
            end = _End("completed", "post")
        except _End as ended:
            end = ended
        # Not inside the `except`: what is raised there would carry the phase's error into the history as its cause.
        return await self._settle(end)

    # -- The phases ----------------------------------------------------------------------------------------------------

    async def _validate(self) -> Plan:
        if self._was_started_by_our_client():
            self._show("validating")
        else:
            self._enter("validating", self._attributes_of_request())
        info = workflow.info()
        order = ValidateInput(
            request=self._request, workflow_id=info.workflow_id, run_id=info.original_execution_run_id
        )
        try:
            validated = await steps.validate(order)
        except ActivityError as error:
            raise _End("failed", "none", last_try_of(error) or ErrorInfo.of("ledger_unavailable")) from None
        self._state.generation_id, self._state.plan = validated.generation_id, validated.plan
        if validated.plan is None:
            raise _End("failed", "none", validated.error)
        return validated.plan

    async def _reserve(self, plan: Plan) -> None:
        self._end_if_canceled()
        self._enter("reserving", {SearchAttribute.ROUTE: plan.route, SearchAttribute.VENDOR: plan.vendor})
        order = ReserveInput(
            generation_id=self._state.generation_id,
            attempt=FIRST_ATTEMPT,
            tenant=self._request.tenant,
            user=self._request.user,
            feature=self._request.feature,
            route=plan.route,
            vendor=plan.vendor,
            price=plan.price,
        )
        await self._until_canceled(steps.reserve(order, plan))

    async def _submit(self, plan: Plan) -> str:
        """Submit, and resolve an outcome that is not known. Nothing is submitted again from here: Temporal repeats
        the activity, and the activity sends only what the intent row allows."""
        self._end_if_canceled()
        self._enter("submitting")
        submission, failure = await self._submit_once(plan)
        if submission is None or submission.state in {"sending", "ambiguous"}:
            self._state.error = submission.error if submission else failure
            submission = await self._resolve(plan)
            self._state.error = None
        if submission.state == "accepted" and submission.vendor_task_id:
            self._state.task_id = submission.vendor_task_id
            self._state.reported_micros = submission.reported_micros
            return submission.vendor_task_id
        if submission.state == "rejected":
            raise _End("failed", "release", submission.error or ErrorInfo.of("vendor_rejected"))
        self._end_if_canceled()
        raise _End("failed", "release", failure or ErrorInfo.of("vendor_unreachable"))

    async def _submit_once(self, plan: Plan) -> tuple[Submission | None, ErrorInfo | None]:
        """The submit activity: what it answered, or the failure with which it ended without telling."""
        order = SubmitInput(
            generation_id=self._state.generation_id,
            attempt=FIRST_ATTEMPT,
            workflow_id=workflow.info().workflow_id,
            plan=plan,
            request=self._request,
        )
        handle = steps.submit(order)
        await workflow.wait_condition(lambda: handle.done() or self._state.canceled)
        if not handle.done():
            handle.cancel()  # a POST under way is not cut off: the activity answers with its outcome
        try:
            return await handle, None
        except ActivityError as error:
            failure = failure_of(error)
        if failure is not None and failure.code in _NOTHING_WAS_SENT:
            self._end_if_canceled()  # it came while an attempt was being turned away
            raise _End("failed", "release", failure)
        return None, failure

    async def _resolve(self, plan: Plan) -> Submission:
        """Find out what became of a submission. It is never sent again while that is not known."""
        self._enter("resolving")
        started = workflow.now()
        order = ResolveInput(generation_id=self._state.generation_id, attempt=FIRST_ATTEMPT, plan=plan)
        while (left_s := plan.unknown_deadline_s - _seconds_since(started)) > 1:
            self._wakes.note()
            submission = await self._raced(steps.resolve(order, self._next_number(), left_s))
            if submission is not None:
                return submission
            if not self._wakes.due:
                break  # the time is over
        look = order.model_copy(update={"last_look": True})
        try:
            submission = await steps.resolve(look, self._next_number(), options.last_look_s(plan))
        except ActivityError:
            submission = Submission(state="ambiguous")
        if submission.state in {"sending", "ambiguous"}:
            # What was learned stands in the stored error: how the answer was lost, and whether the balance fell.
            raise _End("failed", "suspend", submission.error or ErrorInfo.of("submission_outcome_unknown"))
        return submission

    async def _wait(self, plan: Plan, task_id: str) -> None:
        """Poll, raced with the webhook: a callback cancels the poll and one authoritative read decides."""
        self._enter("generating")
        self._state.refusal = None
        started = workflow.now()
        self._wakes.recall()  # a callback that came before the vendor's id did is a reason to read at once
        while True:
            waited_s = _seconds_since(started)
            reading = await self._next_reading(plan, task_id, waited_s)
            if reading is not None and reading.state != "open":
                break
        self._state.reading = reading
        if reading.state == "missing":
            raise _End("failed", "suspend", ErrorInfo.of("vendor_task_lost"))
        self._end_if_failed(plan, reading)

    def _end_if_failed(self, plan: Plan, reading: StatusReading) -> None:
        if reading.state == "failed":
            self._state.reading = reading
            raise _End("failed", cost_of_failure(plan, reading), reading.error or ErrorInfo.of("vendor_failed"))

    async def _next_reading(self, plan: Plan, task_id: str, waited_s: float) -> StatusReading | None:
        """The next reading, or None when a callback woke us and the vendor could not be read: go round again."""
        left_s = plan.deadline_s - waited_s
        if left_s <= 1:
            raise self._too_late()
        order = self._read_order(plan, task_id, waiting=True, elapsed_s=waited_s)
        number = self._next_number()
        if not self._wakes.due:
            reading = await self._raced(steps.poll(order, number, left_s))
            if reading is not None:
                return reading
            if not self._wakes.due:
                raise self._too_late()
        self._wakes.note()
        try:
            return await steps.read_once(order.model_copy(update={"waiting": False}), number)
        except ActivityError as error:
            self._state.refusal = last_try_of(error)
        return None

    def _too_late(self) -> _End:
        """The deadline: the job may still be billed. A key that was refused to the last is another's to mend."""
        refusal = self._state.refusal
        refused = refusal is not None and refusal.code == "vendor_auth"
        return _End("failed", "suspend", refusal if refused else ErrorInfo.of("vendor_timeout"))

    async def _persist(self, plan: Plan, task_id: str) -> None:
        self._state.canceled_while_rendering = self._state.canceled
        self._enter("persisting")
        order = PersistInput(
            generation_id=self._state.generation_id,
            attempt=FIRST_ATTEMPT,
            tenant=self._request.tenant,
            plan=plan,
            vendor_task_id=task_id,
        )
        for _ in range(options.MOST_VERDICTS):
            if await self._persist_once(order):
                return
            await self._confirm(plan, task_id)
        raise _End("failed", "suspend", ErrorInfo.of("vendor_protocol_error"))

    async def _persist_once(self, order: PersistInput) -> bool:
        """Store the clip; False when the vendor says by now that the job has failed."""
        try:
            self._state.persisted = await steps.persist(order)
        except ActivityError as error:
            failure = failure_of(error) or ErrorInfo.of("storage_unavailable")
        else:
            return True
        if failure.code != "vendor_failed":
            raise _End("failed", "post", failure)
        return False

    async def _confirm(self, plan: Plan, task_id: str) -> None:
        """The vendor said success, and now failure: what it says to one more read is its word."""
        order = self._read_order(plan, task_id, waiting=False)
        with suppress(ActivityError):
            self._end_if_failed(plan, await steps.confirm(order, self._next_number()))

    async def _settle(self, end: _End) -> GenerationResult:
        """Resolve the hold, record the end, and close the workflow the way the generation ended."""
        end = self._as_canceled(end)
        if end.error is not None:
            end.error = without_quotes(end.error, self._request)
        state = self._state
        state.error = end.error
        self._show("settling")
        if not state.generation_id:
            raise _closed(end.error or ErrorInfo.of("internal_error"))
        order = SettleInput(
            generation_id=state.generation_id,
            attempt=FIRST_ATTEMPT,
            status=end.status,
            resolution=end.resolution,
            actual_micros=state.billed_micros if end.resolution == "post" else None,
            basis="pinned_price" if state.billed_micros is None else "vendor_reported",
            error=end.error,
            assets=state.persisted.assets if state.persisted else (),
            warnings=state.persisted.warnings if state.persisted else (),
            vendor_task_id=state.task_id,
        )
        result = state.result = await steps.settle(order, state.plan)
        self._enter("done", {SearchAttribute.ERROR_CODE: result.error.code} if result.error else {})
        if result.status == "completed":
            return result
        if result.status == "canceled":
            raise CancelledError("The generation was canceled.")
        raise _closed(result.error or ErrorInfo.of("internal_error"), result)

    def _as_canceled(self, end: _End) -> _End:
        """A cancellation that came while the vendor rendered ends as canceled, with the cost as it is."""
        state = self._state
        rendering = state.canceled if state.phase == "generating" else state.canceled_while_rendering
        if not rendering or (end.error and end.error.code == "submission_outcome_unknown"):
            return end
        error = ErrorInfo.of("canceled", _what_canceling_did(state.plan, kept=state.persisted is not None))
        return _End("canceled", end.resolution, error)

    def _end_if_canceled(self) -> None:
        if self._state.canceled:
            raise _End("canceled", "release", ErrorInfo.of("canceled"))

    # -- Racing and waiting --------------------------------------------------------------------------------------------

    async def _until_canceled(self, handle: workflow.ActivityHandle[T]) -> T:
        """Await an activity that costs nothing to abandon: a cancellation ends the generation at once."""
        await workflow.wait_condition(lambda: handle.done() or self._state.canceled)
        if not handle.done():
            handle.cancel()
            raise _End("canceled", "release", ErrorInfo.of("canceled"))
        try:
            return await handle
        except ActivityError as error:
            raise _End("failed", "release", failure_of(error) or ErrorInfo.of("ledger_unavailable")) from None

    async def _raced(self, handle: workflow.ActivityHandle[T]) -> T | None:
        """Await a poll raced with callbacks; None when one came or the poll's time is over."""
        raced = await steps.race(handle, self._wakes)
        if raced.failure is not None:
            raise _End("failed", "suspend", raced.failure)
        if raced.timed_out:
            self._state.refusal = raced.last_try
        return raced.answer

    def _read_order(self, plan: Plan, task_id: str, *, waiting: bool, elapsed_s: float = 0.0) -> ReadInput:
        return ReadInput(
            generation_id=self._state.generation_id,
            attempt=FIRST_ATTEMPT,
            plan=plan,
            vendor_task_id=task_id,
            waiting=waiting,
            elapsed_s=elapsed_s,
        )

    def _next_number(self) -> int:
        """The number of a look or a read, for its activity id."""
        self._reads += 1
        return self._reads

    # -- What an operator sees -----------------------------------------------------------------------------------------

    def _enter(self, phase: Phase, attributes: Mapping[str, str] | None = None) -> None:
        self._show(phase, with_phase(phase, attributes or {}))

    def _show(self, phase: Phase, attributes: Mapping[str, str] | None = None) -> None:
        self._state.phase = phase
        show(details_of(self._state, workflow.now()), attributes)

    def _was_started_by_our_client(self) -> bool:
        """Ours sets the search attributes at the start; a plain one does not."""
        return has_attribute(SearchAttribute.TENANT)

    def _attributes_of_request(self) -> Mapping[str, str]:
        day = workflow.info().start_time.strftime("%Y-%m-%d")
        return {SearchAttribute.TENANT: self._request.tenant, SearchAttribute.DAY: day}


def _what_canceling_did(plan: Plan | None, *, kept: bool) -> str:
    """Why a job that was canceled while it rendered may have cost something."""
    way = "" if plan is None or plan.cancelable else f"{plan.vendor} offers no way to cancel a job, so it went on."
    clip = "The vendor had been paid, so the clip was kept." if kept else ""
    return f"{way} {clip}".strip()


def _closed(error: ErrorInfo, result: GenerationResult | None = None) -> ApplicationError:
    details = [] if result is None else [result]
    return ApplicationError(error.message, *details, type=error.code, non_retryable=True)


def _seconds_since(moment: datetime) -> float:
    return (workflow.now() - moment).total_seconds()
