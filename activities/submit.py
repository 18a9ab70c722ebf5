"""Phase three: the intent, then exactly one POST. What is not known afterwards is `activities.resolve`'s."""

import asyncio
import hashlib
import secrets

from activities.heartbeat import Memory, elapsed_s, heartbeats, to_the_end
from onetake.core.contracts import ErrorInfo, Plan, Submission, SubmitInput
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.ports import Bracket, Submissions, SubmitOrder, SubmitOutcome, VendorClient, Vendors

TOKEN_BYTES = 16
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 60.0
RECORD_ATTEMPTS = 20
RECORD_RETRY_S = 0.5
BRACKET_LIMIT_S = 5.0  # what proof of the balance may cost a submission


class Submit:
    """Submits to one vendor. Bytes leave only in the call that committed a fresh intent row."""

    def __init__(
        self,
        vendor: str,
        client: VendorClient,
        submissions: Submissions,
        vendors: Vendors,
        callback_base: str | None,
    ) -> None:
        self._vendor = vendor
        self._vendors = vendors
        self._client = client
        self._submissions = submissions
        self._callback_base = callback_base

    async def submit(self, order: SubmitInput) -> Submission:
        """Submit once. An attempt that finds the row `sending` answers `ambiguous` and sends nothing.

        `throttled` and `not_sent` raise TryLater, within the plan's limits; cancellation waits for the POST's end.
        """
        async with heartbeats() as memory:
            return await to_the_end(self._submit(order, memory))

    async def _submit(self, order: SubmitInput, memory: Memory) -> Submission:
        if known := memory.recall(Submission):  # learned by an attempt that could not store it
            stored = await self._record(order, known)
            if stored.state != "not_sent":
                return stored
            memory.forget()
        if (quiet_s := await self._vendors.quiet_s(self._vendor)) > 0:
            raise _again(order.plan, SubmitOutcome("throttled", retry_after_s=quiet_s))
        token, seed = secrets.token_urlsafe(TOKEN_BYTES), self._client.chosen_seed(order.plan, order.request)
        post = SubmitOrder(order.plan, order.request, self._callback_url(token), seed)
        bracket = await self._bracket(order.plan)
        begun = await self._submissions.begin(
            order.generation_id,
            order.attempt,
            vendor=self._vendor,
            token_sha256=hashlib.sha256(token.encode()).digest(),
            request_sha256=self._client.request_sha256(post),
            seed=seed,
            bracket=bracket,
        )
        if not begun.fresh:
            return await self._found(order, begun.submission)
        outcome = await self._client.submit(post)
        # Worth money: should the database be away, the engine keeps it for the next attempt.
        learned = _submission_of(outcome).model_copy(update={"post": begun.post})
        memory.keep(learned)
        stored = await self._record(order, learned)
        if outcome.outcome in {"throttled", "not_sent"}:
            memory.forget()
            again = _again(order.plan, outcome, begun.post)
            if outcome.outcome == "throttled" and isinstance(again, TryLater):
                await self._vendors.slow_down(self._vendor, again.after_s or FIRST_RETRY_S)
            raise again
        return stored

    async def _bracket(self, plan: Plan) -> Bracket | None:
        """Our account before the POST, where it can prove something; never a reason to wait longer, or to fail."""
        if not plan.reads_balance:
            return None
        try:
            async with asyncio.timeout(BRACKET_LIMIT_S):
                at = await self._submissions.idle_at(self._vendor)
                return Bracket(await self._client.read_account(), at) if at else None
        except (OnetakeError, TimeoutError):
            return None

    async def _found(self, order: SubmitInput, stored: Submission) -> Submission:
        if stored.state != "sending":
            return stored
        return await self._submissions.record(order.generation_id, order.attempt, state="ambiguous")

    async def _record(self, order: SubmitInput, submission: Submission) -> Submission:
        for left in reversed(range(RECORD_ATTEMPTS)):
            try:
                return await self._submissions.record(
                    order.generation_id,
                    order.attempt,
                    state=submission.state,
                    vendor_task_id=submission.vendor_task_id,
                    error=submission.error,
                    reported_micros=submission.reported_micros,
                    post=submission.post,
                )
            except OnetakeError as error:
                if error.code == "vendor_protocol_error":  # another submission owns the id: ours is in doubt
                    return await self._submissions.record(
                        order.generation_id,
                        order.attempt,
                        state="ambiguous",
                        error=ErrorInfo.from_error(error),
                    )
                if not left:
                    raise TryLater("ledger_unavailable", error.detail) from None
                await asyncio.sleep(RECORD_RETRY_S)
        raise AssertionError("unreachable")

    def _callback_url(self, token: str) -> str | None:
        return f"{self._callback_base}/callbacks/{self._vendor}/{token}" if self._callback_base else None


def _submission_of(outcome: SubmitOutcome) -> Submission:
    match outcome.outcome:
        case "accepted":
            return Submission(
                state="accepted", vendor_task_id=outcome.vendor_task_id, reported_micros=outcome.reported_micros
            )
        case "rejected":
            return Submission(state="rejected", error=outcome.error)
        case "ambiguous":
            # The exception's class or the HTTP status. An error says, too, that this POST is over.
            note = f"({outcome.note})" if outcome.note else ""
            return Submission(state="ambiguous", error=ErrorInfo.of("submission_outcome_unknown", note))
        case "throttled" | "not_sent":
            return Submission(state="not_sent")


def _again(plan: Plan, outcome: SubmitOutcome, post: int = 1) -> TryLater | Failed:
    """When to send the next one: attempts that others' silence turned away do not make the pause longer."""
    throttled = outcome.outcome == "throttled"
    delay_s = outcome.retry_after_s or min(FIRST_RETRY_S * 2 ** min(post - 1, 10), LONGEST_RETRY_S)
    delay_s *= (1.0 if outcome.retry_after_s else plan.time_scale) * (1 + secrets.randbelow(100) / 1000)
    limit_s = plan.throttle_limit_s if throttled else plan.unreachable_limit_s
    code = "vendor_throttled" if throttled else "vendor_unreachable"
    if elapsed_s() + delay_s > limit_s:
        return Failed(code)
    return TryLater(code, f"({outcome.note})" if outcome.note else "", after_s=max(delay_s, 0.05))
