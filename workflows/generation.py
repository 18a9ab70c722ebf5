"""One generation's whole life: validate, reserve, submit, wait, persist, settle.

Each phase is a method of its name; each ends the generation by raising `_End`. Whatever happens, `settle` runs last and
the ledger holds one resolution. A cancellation is a flag that the phases look at: before the POST it ends the
generation free of charge; afterwards the job is paid for, so the generation goes on until the truth is known.
"""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TypeVar

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        ErrorInfo,
        GenerationRequest,
        GenerationResult,
        Persisted,
        PersistInput,
        Plan,
        ReadInput,
        Reserved,
        ReserveInput,
        ResolveInput,
        SettleInput,
        StatusReading,
        Submission,
        SubmitInput,
        Validated,
        ValidateInput,
        WakeSignal,
    )
    from onetake.core.names import GENERATION_WORKFLOW, WAKE_SIGNAL, Phase, Resolution, SearchAttribute
    from workflows import options
    from workflows.details import details_of, without_quotes
    from workflows.outcomes import cost_of_failure, error_of, failure_of, last_try_of

T = TypeVar("T")

_NOTHING_WAS_SENT = {"vendor_throttled", "vendor_unreachable"}

_TENANT = SearchAttributeKey.for_keyword(SearchAttribute.TENANT)
_VENDOR = SearchAttributeKey.for_keyword(SearchAttribute.VENDOR)
_ROUTE = SearchAttributeKey.for_keyword(SearchAttribute.ROUTE)
_PHASE = SearchAttributeKey.for_keyword(SearchAttribute.PHASE)
_ERROR_CODE = SearchAttributeKey.for_keyword(SearchAttribute.ERROR_CODE)
_DAY = SearchAttributeKey.for_keyword(SearchAttribute.DAY)

ATTEMPT = 1  # failover to another vendor would count up; every key carries it from the first day


EndStatus = Literal["completed", "failed", "canceled"]


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
        # Without the request: a start with none, or with two, must fail in `run` and not leave the run open for ever.
        self._phase: Phase = "accepted"
        self._id = ""
        self._plan: Plan | None = None
        self._task_id: str | None = None
        self._reading: StatusReading | None = None
        self._refusal: ErrorInfo | None = None
        self._reported_micros: int | None = None
        self._persisted: Persisted | None = None
        self._result: GenerationResult | None = None
        self._canceled_while_rendering = False
        self._error: ErrorInfo | None = None
        self._canceled = False
        self._wakes = 0
        self._seen_wakes = 0
        self._reads = 0

    @workflow.run
    async def run(self, request: GenerationRequest) -> GenerationResult:
        """Live to the end. The phases run beside this coroutine, so that a cancellation cannot cut one in half."""
        self._request = request
        life = asyncio.create_task(self._live())
        try:
            return await asyncio.shield(life)
        except asyncio.CancelledError:
            self._canceled = True
            return await life

    @workflow.signal(name=WAKE_SIGNAL)
    def wake(self, signal: WakeSignal) -> None:
        """A callback came for this attempt. It only wakes: what it claims is not looked at here."""
        if signal.attempt == ATTEMPT and self._wakes < options.MOST_WAKES:
            self._wakes += 1

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
        if _TENANT in workflow.info().typed_search_attributes:
            self._show("validating")
        else:  # started by a plain client
            self._enter("validating", *self._attributes_of_request())
        info = workflow.info()
        order = ValidateInput(
            request=self._request, workflow_id=info.workflow_id, run_id=info.original_execution_run_id
        )
        try:
            validated = await workflow.execute_activity("validate", order, result_type=Validated, **options.validate())
        except ActivityError as error:
            raise _End("failed", "none", last_try_of(error) or error_of("ledger_unavailable")) from None
        self._id, self._plan = validated.generation_id, validated.plan
        if validated.plan is None:
            raise _End("failed", "none", validated.error)
        return validated.plan

    async def _reserve(self, plan: Plan) -> None:
        self._end_if_canceled()
        self._enter("reserving", _ROUTE.value_set(plan.route), _VENDOR.value_set(plan.vendor))
        order = ReserveInput(
            generation_id=self._id,
            attempt=ATTEMPT,
            tenant=self._request.tenant,
            user=self._request.user,
            feature=self._request.feature,
            route=plan.route,
            vendor=plan.vendor,
            price=plan.price,
        )
        await self._until_canceled(
            workflow.start_activity("reserve", order, result_type=Reserved, **options.reserve(plan))
        )

    async def _submit(self, plan: Plan) -> str:
        """Submit, and resolve an outcome that is not known. Nothing is submitted again from here: Temporal repeats
        the activity, and the activity sends only what the intent row allows."""
        self._end_if_canceled()
        self._enter("submitting")
        submission, failure = await self._submit_once(plan)
        if submission is None or submission.state in {"sending", "ambiguous"}:
            self._error = submission.error if submission else failure
            submission = await self._resolve(plan)
            self._error = None
        if submission.state == "accepted" and submission.vendor_task_id:
            self._task_id = submission.vendor_task_id
            self._reported_micros = submission.reported_micros
            return submission.vendor_task_id
        if submission.state == "rejected":
            raise _End("failed", "release", submission.error or error_of("vendor_rejected"))
        self._end_if_canceled()
        raise _End("failed", "release", failure or error_of("vendor_unreachable"))

    async def _submit_once(self, plan: Plan) -> tuple[Submission | None, ErrorInfo | None]:
        """The submit activity: what it answered, or the failure with which it ended without telling."""
        order = SubmitInput(
            generation_id=self._id,
            attempt=ATTEMPT,
            workflow_id=workflow.info().workflow_id,
            plan=plan,
            request=self._request,
        )
        handle = workflow.start_activity(f"{plan.vendor}.submit", order, result_type=Submission, **options.submit(plan))
        await workflow.wait_condition(lambda: handle.done() or self._canceled)
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
        order = ResolveInput(generation_id=self._id, attempt=ATTEMPT, plan=plan)
        while (left_s := plan.unknown_deadline_s - _seconds_since(started)) > 1:
            self._reads += 1
            self._seen_wakes = self._wakes
            submission = await self._unless_woken(
                workflow.start_activity(
                    f"{plan.vendor}.resolve",
                    order,
                    result_type=Submission,
                    **options.resolve(plan, self._reads, left_s),
                )
            )
            if submission is not None:
                return submission
            if self._wakes == self._seen_wakes:
                break  # the time is over
        self._reads += 1
        look = order.model_copy(update={"last_look": True})
        try:
            submission = await workflow.execute_activity(
                f"{plan.vendor}.resolve",
                look,
                result_type=Submission,
                **options.resolve(plan, self._reads, options.last_look_s(plan)),
            )
        except ActivityError:
            submission = Submission(state="ambiguous")
        if submission.state in {"sending", "ambiguous"}:
            # What was learned stands in the stored error: how the answer was lost, and whether the balance fell.
            raise _End("failed", "suspend", submission.error or error_of("submission_outcome_unknown"))
        return submission

    async def _wait(self, plan: Plan, task_id: str) -> None:
        """Poll, raced with the webhook: a callback cancels the poll and one authoritative read decides."""
        self._enter("generating")
        self._refusal = None
        started = workflow.now()
        self._seen_wakes = 0  # a callback that came before the vendor's id did is a reason to read at once
        while True:
            waited_s = _seconds_since(started)
            reading = await self._next_reading(plan, task_id, waited_s)
            if reading is not None and reading.state != "open":
                break
        self._reading = reading
        if reading.state == "missing":
            raise _End("failed", "suspend", error_of("vendor_task_lost"))
        self._end_if_failed(plan, reading)

    def _end_if_failed(self, plan: Plan, reading: StatusReading) -> None:
        if reading.state == "failed":
            self._reading = reading
            raise _End("failed", cost_of_failure(plan, reading), reading.error or error_of("vendor_failed"))

    async def _next_reading(self, plan: Plan, task_id: str, waited_s: float) -> StatusReading | None:
        """The next reading, or None when a callback woke us and the vendor could not be read: go round again."""
        left_s = plan.deadline_s - waited_s
        if left_s <= 1:
            raise self._too_late()
        order = ReadInput(
            generation_id=self._id,
            attempt=ATTEMPT,
            plan=plan,
            vendor_task_id=task_id,
            waiting=True,
            elapsed_s=waited_s,
        )
        self._reads += 1
        if self._wakes == self._seen_wakes:
            reading = await self._unless_woken(
                workflow.start_activity(
                    f"{plan.vendor}.read_status",
                    order,
                    result_type=StatusReading,
                    **options.wait(plan, self._reads, left_s),
                )
            )
            if reading is not None:
                return reading
            if self._wakes == self._seen_wakes:
                raise self._too_late()
        self._seen_wakes = self._wakes
        try:
            return await workflow.execute_activity(
                f"{plan.vendor}.read_status",
                order.model_copy(update={"waiting": False}),
                result_type=StatusReading,
                **options.read_once(plan, self._reads),
            )
        except ActivityError as error:
            self._refusal = last_try_of(error)
        return None

    def _too_late(self) -> _End:
        """The deadline: the job may still be billed. A key that was refused to the last is another's to mend."""
        refused = self._refusal is not None and self._refusal.code == "vendor_auth"
        return _End("failed", "suspend", self._refusal if refused else error_of("vendor_timeout"))

    async def _persist(self, plan: Plan, task_id: str) -> None:
        self._canceled_while_rendering = self._canceled
        self._enter("persisting")
        order = PersistInput(
            generation_id=self._id,
            attempt=ATTEMPT,
            tenant=self._request.tenant,
            plan=plan,
            vendor_task_id=task_id,
        )
        for _ in range(options.MOST_VERDICTS):
            if await self._persist_once(plan, order):
                return
            await self._confirm(plan, task_id)
        raise _End("failed", "suspend", error_of("vendor_protocol_error"))

    async def _persist_once(self, plan: Plan, order: PersistInput) -> bool:
        """Store the clip; False when the vendor says by now that the job has failed."""
        try:
            self._persisted = await workflow.execute_activity(
                "persist", order, result_type=Persisted, **options.persist(plan)
            )
        except ActivityError as error:
            failure = failure_of(error) or error_of("storage_unavailable")
        else:
            return True
        if failure.code != "vendor_failed":
            raise _End("failed", "post", failure)
        return False

    async def _confirm(self, plan: Plan, task_id: str) -> None:
        """The vendor said success, and now failure: what it says to one more read is its word."""
        self._reads += 1
        order = ReadInput(generation_id=self._id, attempt=ATTEMPT, plan=plan, vendor_task_id=task_id, waiting=False)
        with suppress(ActivityError):
            reading = await workflow.execute_activity(
                f"{plan.vendor}.read_status", order, result_type=StatusReading, **options.confirm(plan, self._reads)
            )
            self._end_if_failed(plan, reading)

    async def _settle(self, end: _End) -> GenerationResult:
        """Resolve the hold, record the end, and close the workflow the way the generation ended."""
        end = self._as_canceled(end)
        if end.error is not None:
            end.error = without_quotes(end.error, self._request)
        self._error = end.error
        self._show("settling")
        if not self._id:
            raise _closed(end.error or error_of("internal_error"))
        read = self._reading.reported_micros if self._reading else None
        reported = self._reported_micros if read is None else read
        order = SettleInput(
            generation_id=self._id,
            attempt=ATTEMPT,
            status=end.status,
            resolution=end.resolution,
            actual_micros=reported if end.resolution == "post" else None,
            basis="pinned_price" if reported is None else "vendor_reported",
            error=end.error,
            assets=self._persisted.assets if self._persisted else (),
            warnings=self._persisted.warnings if self._persisted else (),
            vendor_task_id=self._task_id,
        )
        result = await workflow.execute_activity(
            "settle", order, result_type=GenerationResult, **options.settle(self._plan, end.resolution)
        )
        self._result = result
        self._enter("done", *([_ERROR_CODE.value_set(result.error.code)] if result.error else []))
        if result.status == "completed":
            return result
        if result.status == "canceled":
            raise CancelledError("The generation was canceled.")
        raise _closed(result.error or error_of("internal_error"), result)

    def _as_canceled(self, end: _End) -> _End:
        """A cancellation that came while the vendor rendered ends as canceled, with the cost as it is."""
        rendering = self._canceled if self._phase == "generating" else self._canceled_while_rendering
        if not rendering or (end.error and end.error.code == "submission_outcome_unknown"):
            return end
        error = error_of("canceled", _what_canceling_did(self._plan, kept=self._persisted is not None))
        return _End("canceled", end.resolution, error)

    def _end_if_canceled(self) -> None:
        if self._canceled:
            raise _End("canceled", "release", error_of("canceled"))

    # -- Racing and waiting --------------------------------------------------------------------------------------------

    async def _until_canceled(self, handle: workflow.ActivityHandle[T]) -> T:
        """Await an activity that costs nothing to abandon: a cancellation ends the generation at once."""
        await workflow.wait_condition(lambda: handle.done() or self._canceled)
        if not handle.done():
            handle.cancel()
            raise _End("canceled", "release", error_of("canceled"))
        try:
            return await handle
        except ActivityError as error:
            raise _End("failed", "release", failure_of(error) or error_of("ledger_unavailable")) from None

    async def _unless_woken(self, handle: workflow.ActivityHandle[T]) -> T | None:
        """Await a poll raced with the webhook; None when a callback woke us or the poll's time is over."""
        await workflow.wait_condition(lambda: handle.done() or self._wakes > self._seen_wakes)
        if not handle.done():
            handle.cancel()
        try:
            return await handle
        except ActivityError as error:
            if is_cancelled_exception(error):
                return None
            if (failure := failure_of(error)) is not None:
                raise _End("failed", "suspend", failure) from None
            self._refusal = last_try_of(error)
            return None  # the poll's time is over

    # -- What an operator sees -----------------------------------------------------------------------------------------

    def _enter(self, phase: Phase, *attributes: SearchAttributeUpdate[Any]) -> None:
        updates = [_PHASE.value_set(phase), *attributes]
        workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]
        self._show(phase)

    def _show(self, phase: Phase) -> None:
        self._phase = phase
        workflow.set_current_details(self._details())

    def _attributes_of_request(self) -> tuple[SearchAttributeUpdate[Any], ...]:
        return (
            _TENANT.value_set(self._request.tenant),
            _DAY.value_set(workflow.info().start_time.strftime("%Y-%m-%d")),
        )

    def _details(self) -> str:
        return details_of(
            phase=self._phase,
            generation_id=self._id,
            plan=self._plan,
            task_id=self._task_id,
            persisted=self._persisted,
            error=self._error,
            result=self._result,
            canceled=self._canceled,
            now=workflow.now(),
        )


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
