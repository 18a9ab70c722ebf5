"""Looks again for the job of a generation that has ended: an unknown submission, a late clip, a late refund.

It never submits. What it finds is written once, as the generation's correction; its history stays as it was.
"""

from collections.abc import Mapping
from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        CorrectInput,
        ErrorInfo,
        Persisted,
        PersistInput,
        Plan,
        ReadInput,
        Recovered,
        RecoveryCase,
        RecoveryRequest,
        ResolveInput,
        StatusReading,
        WakeSignal,
    )
    from onetake.core.names import RECOVERY_WORKFLOW, WAKE_SIGNAL, Phase, SearchAttribute
    from workflows import options, steps
    from workflows.details import recovery_details_of
    from workflows.outcomes import charge_of, cost_of_failure, failure_of, last_try_of, reserved_or_billed
    from workflows.state import RecoveryState, show


class _Nothing(Exception):
    """The recovery ends without a change, and says why."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.code)
        self.error = error


@workflow.defn(name=RECOVERY_WORKFLOW)
class Recovery:
    """Recovers one generation. The argument is a `RecoveryRequest`, the result a `Recovered`: nothing found is an
    answer, not a failure."""

    _request: RecoveryRequest

    def __init__(self) -> None:
        self._state = RecoveryState()
        self._wakes = steps.Wakes()
        self._looks = 0

    @workflow.run
    async def run(self, request: RecoveryRequest) -> Recovered:
        """Find, wait, store, correct."""
        self._request = request
        try:
            recovered = await self._recover()
        except _Nothing as nothing:
            recovered = Recovered(changed=False, error=nothing.error)
        self._state.recovered = recovered
        self._file("done", {SearchAttribute.ERROR_CODE: recovered.error.code} if recovered.error else {})
        return recovered

    @workflow.signal(name=WAKE_SIGNAL)
    def wake(self, signal: WakeSignal) -> None:
        """A callback came: look at once. What it claims is not looked at here."""
        del signal
        self._wakes.hear()

    async def _recover(self) -> Recovered:
        case = await self._examine()
        if case.plan is None or case.refusal is not None:
            raise _Nothing(case.refusal or ErrorInfo.of("nothing_to_replay"))
        plan = self._state.plan = case.plan
        who = {SearchAttribute.TENANT: case.tenant}
        who |= {SearchAttribute.VENDOR: plan.vendor, SearchAttribute.ROUTE: plan.route}
        if case.vendor_task_id is None:
            self._file("resolving", who)
        self._state.task_id = task_id = case.vendor_task_id or await self._find(case, case.plan)
        self._file("generating", who)
        try:
            reading, persisted = await self._verdict(case, case.plan, task_id)
        except _Nothing as nothing:
            if nothing.error.code != "vendor_protocol_error":
                raise
            before, task_id = task_id, await self._reconsider(case, case.plan, task_id)
            if task_id == before:
                raise
            self._state.task_id = task_id
            reading, persisted = await self._verdict(case, case.plan, task_id)
        self._enter("settling")
        return await self._correct(case, task_id, reading, persisted)

    async def _verdict(self, case: RecoveryCase, plan: Plan, task_id: str) -> tuple[StatusReading, Persisted | None]:
        """The vendor's last word, and the clip if there is one. A failure that follows a success is asked for again."""
        if case.is_kept:
            self._enter("persisting")
            if (kept := await self._persist(case, plan, task_id)) is not None:
                return kept.reading, kept
        for _ in range(options.MOST_VERDICTS):
            reading = await self._read(case, plan, task_id)
            if reading.state != "succeeded":
                return reading, None
            self._enter("persisting")
            if (persisted := await self._persist(case, plan, task_id)) is not None:
                word = persisted.reading
                return (reading if word.reported_micros is None else word), persisted
        raise _Nothing(ErrorInfo.of("vendor_protocol_error"))

    async def _reconsider(self, case: RecoveryCase, plan: Plan, task_id: str) -> str:
        """The job that our own token named, where that is another."""
        order = ResolveInput(
            generation_id=case.generation_id, attempt=case.attempt, plan=plan, last_look=True, doubted=True
        )
        submission = None
        with suppress(ActivityError):
            submission = await steps.resolve(order, self._next_number(), options.look_s(plan))
        return (submission.vendor_task_id if submission else None) or task_id

    async def _examine(self) -> RecoveryCase:
        try:
            return await steps.examine(self._request)
        except ActivityError as error:
            reason = failure_of(error) or ErrorInfo.of("ledger_unavailable")
        raise _Nothing(reason)

    async def _find(self, case: RecoveryCase, plan: Plan) -> str:
        """The vendor's id of a submission whose outcome is not known, by what the vendor offers, at growing gaps."""
        order = ResolveInput(
            generation_id=case.generation_id, attempt=case.attempt, plan=plan, epoch=case.epoch, behind=True
        )
        gap_s = options.FIRST_GAP_S * plan.time_scale
        while (left_s := self._left_s(plan)) > 1:
            self._wakes.note()
            submission = None
            with suppress(ActivityError):  # the look's time is over
                submission = await steps.resolve(order, self._next_number(), min(options.look_s(plan), left_s))
            if submission is not None and submission.state == "accepted" and submission.vendor_task_id:
                return submission.vendor_task_id
            if submission is not None and submission.state in {"rejected", "not_sent"}:
                raise _Nothing(submission.error or ErrorInfo.of("nothing_to_replay", "The vendor never took it."))
            await self._wakes.sleep(min(gap_s, left_s), "until the next look; a callback comes first")
            gap_s = min(gap_s * 2, options.LONGEST_GAP_S * plan.time_scale)
        raise _Nothing(ErrorInfo.of("submission_outcome_unknown"))

    async def _read(self, case: RecoveryCase, plan: Plan, task_id: str) -> StatusReading:
        """The vendor's word about the job. A lost one, and a failed one that may be refunded, is asked for again."""
        order = ReadInput(
            generation_id=case.generation_id,
            attempt=case.attempt,
            plan=plan,
            vendor_task_id=task_id,
            elapsed_s=plan.deadline_s,
            behind=True,
        )
        if self._request.goal == "persist":
            return await self._read_once(order)
        last, gap_s = None, options.FIRST_GAP_S * plan.time_scale
        while (left_s := self._left_s(plan)) > 1:
            self._wakes.note()
            reading = await self._read_until_woken(order, left_s)
            if reading is None:
                continue
            refundable = reading.state == "failed" and cost_of_failure(plan, reading) == "suspend"
            if not refundable and reading.state != "missing":
                return reading
            last = reading
            await self._wakes.sleep(min(gap_s, left_s), "until the next look; a callback comes first")
            gap_s = min(gap_s * 2, options.LONGEST_GAP_S * plan.time_scale)
        if last is not None and last.refunded is False:
            return last  # charged, and no refund came
        codes = {"missing": "vendor_task_lost", "failed": "vendor_failed"}
        raise _Nothing(ErrorInfo.of(codes[last.state] if last else "vendor_timeout"))

    async def _read_once(self, order: ReadInput) -> StatusReading:
        reading = None
        with suppress(ActivityError):
            reading = await steps.read(order, self._next_number(), options.one_read_s(order.plan))
        if reading is None:
            raise _Nothing(ErrorInfo.of("vendor_unavailable"))
        if reading.state != "succeeded":
            raise _Nothing(ErrorInfo.of("nothing_to_replay", f"The vendor says {reading.vendor_state!r} of its job."))
        return reading

    async def _read_until_woken(self, order: ReadInput, left_s: float) -> StatusReading | None:
        """One poll raced with callbacks; None when one came or the time is over."""
        raced = await steps.race(steps.poll(order, self._next_number(), left_s), self._wakes)
        if raced.failure is not None:
            raise _Nothing(raced.failure)
        return raced.answer

    def _next_number(self) -> int:
        """The number of a look, a read or a persist, for its activity id."""
        self._looks += 1
        return self._looks

    async def _persist(self, case: RecoveryCase, plan: Plan, task_id: str) -> Persisted | None:
        """The clip, stored; None when the vendor says by now that the job has failed."""
        order = PersistInput(
            generation_id=case.generation_id,
            attempt=case.attempt,
            tenant=case.tenant,
            plan=plan,
            vendor_task_id=task_id,
        )
        try:
            return await steps.persist(order, self._next_number())
        except ActivityError as error:
            reason = failure_of(error) or last_try_of(error) or ErrorInfo.of("storage_unavailable")
        if reason.code == "vendor_failed":
            return None
        raise _Nothing(reason)

    async def _correct(
        self, case: RecoveryCase, task_id: str, reading: StatusReading, persisted: Persisted | None
    ) -> Recovered:
        plan = self._state.plan
        assert plan is not None
        billed = reserved_or_billed(plan, case.reported_micros)
        assets = persisted.assets if persisted else ()
        measured = () if case.hold == "posted" else assets  # what is posted stays as it is
        charge = charge_of(plan, billed if reading.reported_micros is None else reading.reported_micros, measured)
        released = persisted is None and cost_of_failure(plan, reading) == "release"
        order = CorrectInput(
            generation_id=case.generation_id,
            attempt=case.attempt,
            vendor_task_id=task_id,
            resolution="release" if released else "post",
            actual_micros=None if released else charge.micros,
            basis=charge.basis,
            assets=assets,
            warnings=(*(persisted.warnings if persisted else ()), *charge.notices),
            who=self._request.who,
            why=self._request.why,
        )
        try:
            return await steps.correct(order)
        except ActivityError as error:
            reason = failure_of(error) or ErrorInfo.of("ledger_unavailable")
        raise _Nothing(reason)

    def _left_s(self, plan: Plan) -> float:
        passed_s = (workflow.now() - workflow.info().start_time).total_seconds()
        return options.late_window_s(plan) - passed_s

    def _enter(self, phase: Phase, attributes: Mapping[str, str] | None = None) -> None:
        self._state.phase = phase
        show(recovery_details_of(self._request, self._state, workflow.now()), attributes)

    def _file(self, phase: Phase, attributes: Mapping[str, str]) -> None:
        """Begin a phase that people filter for."""
        self._enter(phase, {SearchAttribute.PHASE: phase, **attributes})
