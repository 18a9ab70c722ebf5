"""One generation's whole life: validate, reserve, submit, wait, persist, settle.

Each phase is a method of its name; each ends the generation by raising `_End`. Whatever happens, `settle` runs last and
the ledger holds one resolution. A cancellation is a flag that the phases look at: before the POST it ends the
generation free of charge; afterwards the job is paid for, so the generation goes on until the truth is known.

It is over 400 lines because the phases stand together: what one leaves to the next is read in one place.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, CancelledError, FailureError

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        ErrorInfo,
        GenerationRequest,
        GenerationResult,
        PersistInput,
        Plan,
        ReadInput,
        Reserved,
        ReserveInput,
        StatusReading,
        Submission,
        SubmitInput,
        Validated,
        ValidateInput,
        WakeSignal,
    )
    from onetake.core.ids import generation_id_in
    from onetake.core.names import (
        FIRST_ATTEMPT,
        GENERATION_WORKFLOW,
        TURNED_AWAY,
        WAKE_SIGNAL,
        EndStatus,
        Phase,
        Resolution,
        SearchAttribute,
    )
    from workflows import options, orders, steps
    from workflows.details import details_of, without_quotes
    from workflows.outcomes import (
        closed_with,
        cost_of_failure,
        failure_of,
        is_lost,
        last_try_of,
        learned_by,
        reserved_or_billed,
        what_canceling_did,
    )
    from workflows.state import GenerationState, has_attribute, show

T = TypeVar("T")


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
        self._steps = 0  # looks, reads and persists begun
        self._reads = 0  # those that a timer made due
        self._unasked = False  # the last read brought no word of the vendor's, for a reason of ours
        self._doubts = 0  # looks at answers that contradict each other
        self._filed: Phase | None = None  # the phase in the search attribute

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
        """A callback came for this attempt. It only wakes; a claim about another job than ours is looked into."""
        if signal.attempt == FIRST_ATTEMPT:
            self._wakes.hear(signal.claimed_task_id)

    async def _live(self) -> GenerationResult:
        try:
            plan = await self._validate()
            await self._reserve(plan)
            accepted = await self._submit(plan)
            self._state.task_id = accepted.vendor_task_id or ""
            task_id = await self._wait(plan, self._state.task_id, accepted.first_read_s)
            await self._persist(plan, task_id)
            end = _End("completed", "post")
        except _End as ended:
            end = ended
        # Not inside the `except`: what is raised there would carry the phase's error into the history as its cause.
        return await self._settle(end)

    # -- The phases ----------------------------------------------------------------------------------------------------

    async def _validate(self) -> Plan:
        self._show("validating", {} if self._was_started_by_our_client() else self._attributes_of_request())
        info = workflow.info()
        order = ValidateInput(
            request=self._request, workflow_id=info.workflow_id, run_id=info.original_execution_run_id
        )
        try:
            validated = await steps.validate(order)
        except FailureError as error:
            if failure_of(error) is None:  # nobody has said that the row is another's: a client of ours has written it
                self._state.generation_id = generation_id_in(info.workflow_id, self._request.tenant) or ""
            raise _End("failed", "none", last_try_of(error) or ErrorInfo.of("ledger_unavailable")) from None
        self._state.generation_id = validated.generation_id
        plan = self._admitted(validated)
        if self._request.names_media:
            look = steps.inspect(orders.inspect(self._state, self._request, plan))
            plan = self._admitted(await self._until_canceled(look, or_else=ErrorInfo.of("inputs_busy")))
        return plan

    def _admitted(self, validated: Validated) -> Plan:
        self._state.plan = validated.plan
        if validated.plan is None:
            raise _End("failed", "none", validated.error)
        return validated.plan

    async def _reserve(self, plan: Plan) -> None:
        self._end_if_canceled()
        self._show("reserving", {} if self._was_started_by_our_client() else _attributes_of_plan(plan))
        order = orders.reserve(self._state, self._request, plan)
        reserved = await self._until_canceled(self._as_known(plan, lambda: steps.reserve(order, plan)))
        if reserved.waits_for is not None:
            reserved = await self._wait_in_line(order, plan, reserved.waits_for)
        self._state.epoch = reserved.epoch

    async def _wait_in_line(self, order: ReserveInput, plan: Plan, why: ErrorInfo) -> Reserved:
        """Say what is waited for where operators filter, and hold nothing until the vendor has room."""
        self._state.waits_for = why
        self._file("reserving")
        patient = order.model_copy(update={"patient": True, "age_s": orders.age_s()})
        left_s = plan.deadline_s - patient.age_s
        waiting = self._as_known(plan, lambda: steps.wait_in_line(patient, plan, left_s))
        reserved = await self._until_canceled(waiting, or_else=why)
        self._state.waits_for = None
        return reserved

    async def _submit(self, plan: Plan) -> Submission:
        """Submit, and resolve an outcome that is not known. Nothing is submitted again from here: Temporal repeats
        the activity, and the activity sends only what the intent row allows."""
        self._end_if_canceled()
        self._enter("submitting")
        submission, failure = await self._submit_when_taken(plan)
        if submission is None or submission.state in {"sending", "ambiguous"}:
            self._state.error = submission.error if submission else failure
            submission = await self._resolve(plan)
            self._state.sent, self._state.error = submission.state, None
        if submission.state == "accepted" and submission.vendor_task_id:
            self._state.billed_micros = reserved_or_billed(plan, submission.reported_micros)
            return submission
        if submission.state == "rejected":
            raise _End("failed", "release", submission.error or ErrorInfo.of("vendor_rejected"))
        self._end_if_canceled()
        raise _End("failed", "release", failure or ErrorInfo.of("vendor_unreachable"))

    async def _submit_when_taken(self, plan: Plan) -> tuple[Submission | None, ErrorInfo | None]:
        """Submit; when the vendor takes nothing now, say so where operators filter, and go on patiently."""
        started = workflow.now()
        order = orders.submit(self._state, self._request, plan)
        submission, failure = await self._submit_once(order)
        if submission is None or submission.state != "not_sent" or submission.error is None:
            return submission, failure
        self._end_if_canceled()
        self._state.waits_for = submission.error
        self._file("submitting")
        unsure, waited_s = order.may_be_sent or submission.unsure, _seconds_since(started)
        patient = order.model_copy(
            update={"patient": True, "waited_s": waited_s, "age_s": orders.age_s(), "may_be_sent": unsure}
        )
        submission, failure = await self._submit_once(patient)
        self._state.waits_for = None
        return submission, failure

    async def _submit_once(self, order: SubmitInput) -> tuple[Submission | None, ErrorInfo | None]:
        """The submit activity: what it answered, or the failure with which it ended without telling."""
        self._state.sent = "ambiguous"
        handle = steps.submit(order, number=2 if order.patient else 1)
        await workflow.wait_condition(lambda: handle.done() or self._state.canceled)
        if not handle.done():
            handle.cancel()  # a POST under way is not cut off: the activity answers with its outcome
        try:
            submission = await handle
        except ActivityError as error:
            failure, learned = failure_of(error), learned_by(error)
            if learned is not None:
                return await self._recorded(order.plan, learned), None
        else:
            self._state.sent = "ambiguous" if submission.unsure else submission.state
            if submission.unrecorded:
                submission = await self._recorded(order.plan, submission)
            await self._heed_cancellation(submission)
            return submission, None
        if failure is not None and failure.code in TURNED_AWAY:
            self._end_if_canceled()  # it came while an attempt was being turned away
            raise _End("failed", "release", failure)
        return None, failure

    async def _recorded(self, plan: Plan, learned: Submission) -> Submission:
        """Have recorded what the vendor answered while the ledger was away. It is in this history by now, and waited
        for without an end: a job that is known is never looked for.

        A database that lost it is told that something was sent, so that the record still tells all of it. What finds no
        row then either was not sent, or has ended there: the settlement tells it."""
        stored, order = learned, orders.record(self._state, learned)
        self._state.sent = "not_sent" if learned.state == "not_sent" else "ambiguous"
        for _ in range(options.MOST_RECORDS):
            try:
                stored = await steps.record(order, plan)
                break
            except FailureError as error:
                if not is_lost(error):
                    raise
            await self._restore(plan)
        self._state.sent = stored.state
        return stored

    async def _heed_cancellation(self, submission: Submission) -> None:
        """Our client notes a cancellation in the row before it asks Temporal for it: it may be known there first."""
        if submission.error is not None and submission.error.code == "canceled":
            with suppress(asyncio.TimeoutError):
                limit = timedelta(seconds=options.CANCEL_LIMIT_S)
                await workflow.wait_condition(lambda: self._state.canceled, timeout=limit)
            raise _End("canceled", "release", submission.error)

    async def _resolve(self, plan: Plan) -> Submission:
        """Find out what became of a submission. It is never sent again while that is not known."""
        self._file("resolving")
        started = workflow.now()
        order = orders.resolve(self._state, plan)
        left_s, longest_s = plan.unknown_deadline_s, options.kept_away_s(plan, plan.unknown_deadline_s)
        while left_s > 1:
            self._wakes.note()
            submission = await self._raced(steps.resolve(order, self._next_number(), left_s))
            if submission is not None:
                return submission
            left_s = plan.unknown_deadline_s - _seconds_since(started)
            refusal = self._state.refusal
            kept_away = refusal is not None and _is_ours(refusal)
            if not self._wakes.due and not kept_away:
                break  # the time is over
            if left_s <= 1 and kept_away:  # the vendor was not asked at the end of it
                left_s = min(options.one_read_s(plan), longest_s - _seconds_since(started))
        look = order.model_copy(update={"last_look": True})
        try:
            submission = await steps.resolve(look, self._next_number(), options.last_look_s(plan))
        except ActivityError:
            submission = Submission(state="ambiguous")
        if submission.state in {"sending", "ambiguous"}:
            # What was learned stands in the stored error: how the answer was lost, and whether the balance fell.
            raise _End("failed", "suspend", submission.error or ErrorInfo.of("submission_outcome_unknown"))
        return submission

    async def _wait(self, plan: Plan, task_id: str, first_read_s: float | None) -> str:
        """Ask the vendor when a read is due, and at once when a callback comes: then the clip is stored in one step.

        Returns the id of the job that is over: another than the one waited for when our own token named it."""
        self._state.refusal = None
        self._enter("generating")
        started = workflow.now()
        self._wakes.recall()  # a callback that came before the vendor's id did is a reason to read at once
        again_s = plan.cadence.first_read_s if first_read_s is None else first_read_s
        asked_s = float("-inf")
        while True:
            left_s = plan.deadline_s - _seconds_since(started)
            # Whatever kept us away until now: it is not too late before the vendor was asked about the deadline's time.
            # Where our own speed or absence kept us away it was not asked.
            last = left_s <= options.SPARE_S and asked_s >= plan.deadline_s - 2 * options.SPARE_S
            await self._until_due(plan, left_s if last else min(again_s, left_s - options.SPARE_S), last=last)
            begun_s = _seconds_since(started)
            if self._wakes.name_another(task_id):
                task_id = await self._reconsider(plan, task_id)
            reading = None
            if doubtful := self._wakes.name_another(task_id):  # nobody could look into it: no clip is taken before
                self._wakes.note()
            else:
                reading, task_id = await self._ask(orders.read(self._state, plan, task_id, elapsed_s=begun_s))
            if not self._unasked or _seconds_since(started) >= options.kept_away_s(plan, plan.deadline_s):
                asked_s = begun_s
            if reading is not None and reading.state != "open":
                break
            again_s = 0.0 if reading is None else reading.again_s or plan.cadence.interval_s
            if doubtful:
                again_s = self._doubtful_gap_s(plan)
        if reading.state == "missing":
            raise _End("failed", "suspend", ErrorInfo.of("vendor_task_lost"))
        self._end_if_failed(plan, reading)
        return task_id

    async def _ask(self, order: ReadInput) -> tuple[StatusReading | None, str]:
        """The vendor's word, and the job to ask about next. A job that is another order's is nobody's answer: until our
        own token names ours, the generation waits."""
        plan, task_id = order.plan, order.vendor_task_id
        try:
            return await (self._persist_woken(order) if self._wakes.due else self._read(order)), task_id
        except _End as end:
            if end.error is None or end.error.code != "vendor_protocol_error":
                raise
            ours = await self._reconsider(plan, task_id)
            if ours != task_id:
                return None, ours
            if not plan.callbacks:
                raise
            again_s = self._doubtful_gap_s(plan)
            return self._heard(StatusReading(state="open", vendor_state="", error=end.error, again_s=again_s)), task_id

    async def _reconsider(self, plan: Plan, task_id: str) -> str:
        """The vendor's answers contradict each other about which job is ours: the one that our own token named is."""
        self._state.other_task_id = self._wakes.other_than(task_id)
        self._show("generating")
        self._doubts += 1
        order = orders.reconsider(self._state, plan)
        try:
            submission = await steps.resolve(order, self._next_number(), options.last_look_s(plan))
        except ActivityError as error:
            self._unasked = failure_of(error) is None and _is_ours(last_try_of(error))
            return task_id
        self._wakes.examine()
        if submission.vendor_task_id is None:
            return task_id
        self._state.task_id = submission.vendor_task_id
        return submission.vendor_task_id

    def _doubtful_gap_s(self, plan: Plan) -> float:
        """Answers that contradict each other are looked into ever less often: each look leaves events."""
        first_s, longest_s = plan.cadence.interval_s, options.LONGEST_DOUBT_S * plan.time_scale
        return max(first_s, min(first_s * 2 ** min(self._doubts - 1, 20), longest_s))

    def _end_if_failed(self, plan: Plan, reading: StatusReading) -> None:
        if reading.state == "failed":
            self._state.hear(reading)
            raise _End("failed", cost_of_failure(plan, reading), reading.error or ErrorInfo.of("vendor_failed"))

    async def _until_due(self, plan: Plan, pause_s: float, *, last: bool) -> None:
        """Wait for the next read's time, or for a callback. In what is left after the last read, which comes just
        before the deadline, only a callback counts."""
        self._state.woken_at = None
        self._state.next_read_at = None if last else workflow.now() + timedelta(seconds=pause_s)
        self._show("generating")
        await self._wakes.sleep(pause_s, f"until the next read; a callback of {plan.vendor} comes first")
        if last and not self._wakes.due:
            raise self._too_late()

    async def _read(self, order: ReadInput) -> StatusReading | None:
        """What the vendor says; None when a callback came while it could not be asked, or the time was over."""
        self._reads += 1
        left_s, number = order.plan.deadline_s - order.elapsed_s, self._next_number()
        if left_s <= 2 * options.SPARE_S:
            left_s = options.one_read_s(order.plan)  # a busy machine needs more for the last read than is left
        step = steps.read
        if self._reads > options.MOST_TIMED_READS:
            step, self._state.next_read_at = steps.poll, None  # Pending Activities show the next try
            self._show("generating")
        return self._heard(await self._raced(step(order, number, left_s)))

    async def _persist_woken(self, read: ReadInput) -> StatusReading | None:
        """Ask the vendor and store the clip in one step; None when it has contradicted itself, or nobody could do it in
        time: ask again, as if no callback had come. A callback decides nothing, also not about money."""
        self._wakes.note()
        self._state.canceled_while_rendering = self._state.canceled
        self._state.woken_at, self._state.next_read_at = workflow.now(), None
        self._show("generating")
        order = orders.persist(self._state, self._request, read.plan, read.vendor_task_id)
        order = order.model_copy(update={"woken": True, "elapsed_s": read.elapsed_s})
        reading, failure = await self._persist_once(order)
        if failure is not None and failure.code == "vendor_protocol_error":
            raise _End("failed", "suspend", failure)
        if failure is not None:
            word = await self._confirm(read.plan, read.vendor_task_id)
            if failure.code != "vendor_failed":
                paid = word is not None and word.state == "succeeded"
                raise _End("failed", "post" if paid else "suspend", failure)
        if reading is None or reading.state != "succeeded":
            self._state.woken_at = None  # it was still being rendered, as far as a cancellation is concerned
        return self._heard(reading)

    def _heard(self, reading: StatusReading | None) -> StatusReading | None:
        if reading is not None:
            self._state.hear(reading)
            self._state.refusal = reading.error if reading.state == "open" else None
            self._unasked = self._state.refusal is not None and _is_ours(self._state.refusal)
        return reading

    def _too_late(self) -> _End:
        """The deadline: the job may still be billed. A key that was refused to the last is another's to mend, and
        so are answers that contradict each other."""
        refusal = self._state.refusal
        refused = refusal is not None and refusal.code in {"vendor_auth", "vendor_protocol_error"}
        return _End("failed", "suspend", refusal if refused else ErrorInfo.of("vendor_timeout"))

    async def _persist(self, plan: Plan, task_id: str) -> None:
        if self._state.persisted is not None:
            return  # in the step that a callback woke
        self._state.canceled_while_rendering = self._state.canceled
        self._enter("persisting")
        order = orders.persist(self._state, self._request, plan, task_id)
        for _ in range(options.MOST_VERDICTS):
            reading, failure = await self._persist_once(order)
            if self._heard(reading) is not None:
                return
            if failure is None or failure.code != "vendor_failed":
                raise _End("failed", "post", failure or self._state.refusal or ErrorInfo.of("storage_unavailable"))
            await self._confirm(plan, task_id)
        raise _End("failed", "suspend", ErrorInfo.of("vendor_protocol_error"))

    async def _persist_once(self, order: PersistInput) -> tuple[StatusReading | None, ErrorInfo | None]:
        """Store the clip: the vendor's word, or the failure with which it ended, or neither when its time was over.
        `vendor_failed` means that the vendor said success, and now failure."""
        try:
            persisted = await steps.persist(order, self._next_number())
        except ActivityError as error:
            self._state.refusal, failure = last_try_of(error), failure_of(error)
            self._unasked = failure is None and _is_ours(self._state.refusal)
            return None, failure
        if persisted.assets:
            self._state.persisted = persisted
        return persisted.reading, None

    async def _confirm(self, plan: Plan, task_id: str) -> StatusReading | None:
        """What the vendor says to one more read is its word, about end and cost; None when it cannot be asked."""
        order, reading = orders.read(self._state, plan, task_id), None
        with suppress(ActivityError):
            reading = self._heard(await steps.confirm(order, self._next_number()))
        if reading is not None:
            self._end_if_failed(plan, reading)
        return reading

    async def _settle(self, end: _End) -> GenerationResult:
        """Resolve the hold, record the end, and close the workflow the way the generation ended."""
        end = self._as_canceled(end)
        if end.error is not None:
            end.error = without_quotes(end.error, self._request)
        state = self._state
        state.error = end.error
        self._show("settling")
        if not state.generation_id:
            raise closed_with(end.error or ErrorInfo.of("internal_error"))
        order = orders.settle(state, self._request, end.status, end.resolution)
        try:
            result = state.result = await self._as_known(state.plan, lambda: steps.settle(order, state.plan))
        except FailureError as error:
            if state.plan is not None:
                raise
            raise closed_with(end.error or failure_of(error) or ErrorInfo.of("internal_error")) from None  # no such row
        self._file("done", {SearchAttribute.ERROR_CODE: result.error.code} if result.error else {})
        if result.status == "completed":
            return result
        if result.status == "canceled":
            raise CancelledError("The generation was canceled.")
        raise closed_with(result.error or ErrorInfo.of("internal_error"), result)

    async def _as_known(self, plan: Plan | None, step: Callable[[], Awaitable[T]]) -> T:
        """A step on the ledger. A database that failed over, and lost what it is about, is told of that again first;
        with a pause, when it has been told before."""
        for times in itertools.count():
            try:
                return await step()
            except FailureError as error:
                if plan is None or not is_lost(error):
                    raise
            if times:
                await workflow.sleep(options.lost_again_s(plan, times), summary="the database lacks what it was told")
            await self._restore(plan)
        raise AssertionError

    async def _restore(self, plan: Plan) -> None:
        await steps.restore(orders.restore(self._state, self._request, plan))

    def _as_canceled(self, end: _End) -> _End:
        """A cancellation that came while the vendor rendered ends as canceled, with the cost as it is."""
        state = self._state
        waiting = state.phase == "generating" and state.woken_at is None
        rendering = state.canceled if waiting else state.canceled_while_rendering
        if not rendering or (end.error and end.error.code == "submission_outcome_unknown"):
            return end
        error = ErrorInfo.of("canceled", what_canceling_did(state.plan, kept=state.persisted is not None))
        return _End("canceled", end.resolution, error)

    def _end_if_canceled(self) -> None:
        if self._state.canceled:
            raise _End("canceled", "release", ErrorInfo.of("canceled"))

    # -- Racing and waiting --------------------------------------------------------------------------------------------

    async def _until_canceled(self, step: Awaitable[T], or_else: ErrorInfo | None = None) -> T:
        """Await a step that costs nothing to abandon: a cancellation ends the generation at once. `or_else` is what it
        fails with when its time is over and none of its tries said why."""
        task = asyncio.ensure_future(step)
        await workflow.wait_condition(lambda: task.done() or self._state.canceled)
        if not task.done():
            task.cancel()
            with suppress(FailureError, asyncio.CancelledError):
                await task
            raise _End("canceled", "release", ErrorInfo.of("canceled"))
        try:
            return await task
        except FailureError as error:
            failure = failure_of(error) or last_try_of(error) or or_else
            raise _End("failed", "release", failure or ErrorInfo.of("ledger_unavailable")) from None

    async def _raced(self, handle: workflow.ActivityHandle[T]) -> T | None:
        """Await a poll raced with callbacks; None when one came or the poll's time is over."""
        raced = await steps.race(handle, self._wakes)
        if raced.failure is not None:
            raise _End("failed", "suspend", raced.failure)
        if raced.timed_out:
            self._state.refusal = raced.last_try
        self._unasked = raced.answer is None and _is_ours(raced.last_try)
        return raced.answer

    def _next_number(self) -> int:
        """The number of a look, a read or a persist, for its activity id."""
        self._steps += 1
        return self._steps

    # -- What an operator sees -----------------------------------------------------------------------------------------

    def _enter(self, phase: Phase) -> None:
        """Begin an ordinary phase: the search attribute is only touched when another phase stands in it."""
        if self._filed is None:
            self._show(phase)
        else:
            self._file(phase)

    def _file(self, phase: Phase, attributes: Mapping[str, str] | None = None) -> None:
        """Begin a phase that people filter for."""
        self._filed = phase
        self._show(phase, {SearchAttribute.PHASE: phase, **(attributes or {})})

    def _show(self, phase: Phase, attributes: Mapping[str, str] | None = None) -> None:
        if phase != self._state.phase:
            self._state.phase, self._state.since = phase, workflow.now()
        show(details_of(self._state), attributes)

    def _was_started_by_our_client(self) -> bool:
        """Ours sets the search attributes at the start; a plain one does not."""
        return has_attribute(SearchAttribute.TENANT)

    def _attributes_of_request(self) -> Mapping[str, str]:
        day = workflow.info().start_time.strftime("%Y-%m-%d")
        return {SearchAttribute.TENANT: self._request.tenant, SearchAttribute.DAY: day}


def _attributes_of_plan(plan: Plan) -> Mapping[str, str]:
    return {SearchAttribute.ROUTE: plan.route, SearchAttribute.VENDOR: plan.vendor}


def _is_ours(last_try: ErrorInfo | None) -> bool:
    """Whether a step that brought no word of the vendor's failed to ask it: nobody took the step or it was called back,
    we were too fast, or the ledger, which gives each read its turn, was away."""
    return last_try is None or last_try.code in {"vendor_throttled", "ledger_unavailable"}


def _seconds_since(moment: datetime) -> float:
    return (workflow.now() - moment).total_seconds()
