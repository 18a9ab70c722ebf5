"""Phase three: the intent, then exactly one POST. What is not known afterwards is `activities.resolve`'s.

What the POST taught is worth money. While the ledger is away it is the answer of the activity, for the workflow to have
it recorded, however long that takes.
"""

import asyncio
import hashlib
import secrets
from contextlib import suppress

from temporalio import activity

from activities.cadence import ReadTimes
from activities.heartbeat import Memory, elapsed_s, heartbeats, to_the_end
from activities.reserve import LATEST_S, waited
from onetake.core import names
from onetake.core.contracts import (
    ErrorInfo,
    Plan,
    RecordInput,
    RestoreInput,
    Submission,
    SubmitInput,
    SubmitTries,
)
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.names import TURNED_AWAY, SubmissionState
from onetake.core.ports import (
    Begun,
    Bracket,
    Rates,
    Restorations,
    Submissions,
    SubmitOrder,
    SubmitOutcome,
    VendorClient,
)

TOKEN_BYTES = 16
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 60.0
RECORD_LIMIT_S = 20.0  # with the POST's own time well below that of the activity
RECORD_RETRY_S = 0.5
DEFINITE = frozenset({"accepted", "rejected", "ambiguous"})  # nothing is left to be tried
BRACKET_LIMIT_S = 5.0  # what proof of the balance may cost a submission


class Submit:
    """Submits to one vendor. Bytes leave only in the call that committed a fresh intent row."""

    def __init__(
        self,
        vendor: str,
        client: VendorClient,
        submissions: Submissions,
        restorations: Restorations,
        rates: Rates,
        callback_base: str | None,
        times: ReadTimes,
    ) -> None:
        self._vendor = vendor
        self._rates = rates
        self._client = client
        self._submissions = submissions
        self._restorations = restorations
        self._callback_base = callback_base
        self._times = times

    async def submit(self, order: SubmitInput) -> Submission:
        """Submit once. An attempt that finds the row `sending` answers `ambiguous` and sends nothing.

        A vendor that takes nothing now is answered `not_sent` with the reason; when the order is patient it raises
        TryLater, within the plan's limits. Cancellation waits for the POST's end.
        """
        async with heartbeats() as memory:
            return await to_the_end(self._submit(order, memory))

    async def _submit(self, order: SubmitInput, memory: Memory) -> Submission:
        unsure = _is_unsure(order, memory)
        try:
            submission = await self._sent(order, memory)
        except TryLater as error:
            if _tries(memory).learned is None:
                _remember(order, memory)
            if order.patient or error.code not in TURNED_AWAY:
                raise
            return Submission(state="not_sent", error=ErrorInfo.from_error(error), unsure=unsure)
        if submission.state != "accepted" or submission.unrecorded:
            return submission
        return submission.model_copy(update={"first_read_s": await self._times.first_s(order.plan)})

    async def _sent(self, order: SubmitInput, memory: Memory) -> Submission:
        tries = _tries(memory)
        if tries.learned:  # by an attempt that could not store it
            stored = await self._record(order, tries.learned)
            if stored.state != "not_sent":
                return stored
            memory.keep(SubmitTries(told=tries.told))
        if (wait_s := await self._turn_s(order)) > 0:
            raise _throttled(order, wait_s, "(others are first)")
        token, seed = secrets.token_urlsafe(TOKEN_BYTES), self._client.chosen_seed(order.plan, order.request)
        callback_url = self._callback_url(token)
        post = SubmitOrder(order.plan, order.request, callback_url, seed)
        bracket = await self._bracket(order.plan)
        sha256 = hashlib.sha256(token.encode()).digest() if callback_url else None
        begun = await self._begin(order, memory, sha256, post, bracket)
        if begun.canceled:
            return Submission(state="not_sent", error=ErrorInfo.of("canceled"))
        if not begun.fresh:
            return await self._found(order, begun.submission)
        outcome = await self._client.submit(post)
        # Should this process die now, the engine keeps it for the next attempt.
        learned = _submission_of(outcome).model_copy(update={"post": begun.post})
        _remember(order, memory, learned)
        stored = await self._record(order, learned)
        if outcome.outcome == "throttled":
            _remember(order, memory)
            raise _throttled(order, await self._refused(order, outcome), f"({outcome.note})" if outcome.note else "")
        if outcome.outcome == "not_sent":
            _remember(order, memory)
            raise _unreachable(order, outcome, begun.post)
        return stored

    async def _turn_s(self, order: SubmitInput) -> float:
        return await self._rates.submit_turn_s(
            self._vendor, order.generation_id, returning=order.patient, gap_s=order.plan.cadence.interval_s
        )

    async def _refused(self, order: SubmitInput, outcome: SubmitOutcome) -> float:
        return await self._rates.submission_refused(
            self._vendor, order.generation_id, outcome.retry_after_s, gap_s=order.plan.cadence.interval_s
        )

    async def _begin(
        self,
        order: SubmitInput,
        memory: Memory,
        token_sha256: bytes | None,
        post: SubmitOrder,
        bracket: Bracket | None,
    ) -> Begun:
        """Commit the intent. A database that failed over and lost the hold is given it again first."""

        async def begin() -> Begun:
            return await self._submissions.begin(
                order.generation_id,
                order.attempt,
                vendor=self._vendor,
                token_sha256=token_sha256,
                request_sha256=self._client.request_sha256(post),
                seed=post.seed,
                bracket=bracket,
                epoch=order.epoch,
                may_be_sent=_is_unsure(order, memory),
            )

        try:
            return await begin()
        except Failed as failure:
            if failure.code != "records_lost":
                raise
        await self._restorations.restore(_known(order, "not_sent"))
        return await begin()

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
        """Store what was learned. While the ledger is away a definite outcome is answered as `unrecorded`."""
        failure = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECORD_LIMIT_S):
                while True:
                    try:
                        return await recorded(self._submissions, order.generation_id, order.attempt, submission)
                    except OnetakeError as error:
                        failure = error.detail
                        if error.code == "records_lost" and await self._restored(order, submission):
                            return submission
                    await asyncio.sleep(RECORD_RETRY_S)
        if submission.state not in DEFINITE:
            raise TryLater("ledger_unavailable", failure)
        return submission.model_copy(update={"unrecorded": True})

    async def _restored(self, order: SubmitInput, submission: Submission) -> bool:
        """Write again what the record needs, and whether there is nothing to record: a POST that was turned away leaves
        no row where a failover took its intent."""
        turned_away = submission.state == "not_sent"
        with suppress(OnetakeError):  # then it is tried again with the record
            await self._restorations.restore(_known(order, "not_sent" if turned_away else "ambiguous"))
            return turned_away
        return False

    def _callback_url(self, token: str) -> str | None:
        return f"{self._callback_base}/callbacks/{self._vendor}/{token}" if self._callback_base else None


class Record:
    """Stores what a submission's activity learned while the ledger was away. Repeatable: the first outcome stands."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions

    @activity.defn(name=names.RECORD)
    async def record(self, order: RecordInput) -> Submission:
        """What is stored now. Raises TryLater while the ledger is away; it is never given up."""
        try:
            return await recorded(self._submissions, order.generation_id, order.attempt, order.submission)
        except Failed as failure:
            if failure.code == "records_lost":  # the run has what is to be written first
                raise
            raise TryLater("ledger_unavailable", failure.detail) from None


async def recorded(submissions: Submissions, generation_id: str, attempt: int, learned: Submission) -> Submission:
    """Store an outcome; what is stored now. A vendor's id that another submission owns puts ours in doubt."""
    try:
        return await submissions.record(
            generation_id,
            attempt,
            state=learned.state,
            vendor_task_id=learned.vendor_task_id,
            error=learned.error,
            reported_micros=learned.reported_micros,
            post=learned.post,
            about=learned.about,
        )
    except OnetakeError as error:
        if error.code != "vendor_protocol_error":
            raise
        return await submissions.record(generation_id, attempt, state="ambiguous", error=ErrorInfo.from_error(error))


def _tries(memory: Memory) -> SubmitTries:
    return memory.recall(SubmitTries) or SubmitTries()


def _is_unsure(order: SubmitInput, memory: Memory) -> bool:
    """Whether a try before this one may have sent it without telling."""
    return order.may_be_sent or _tries(memory).told < activity.info().attempt - 1


def _remember(order: SubmitInput, memory: Memory, learned: Submission | None = None) -> None:
    """Leave to the next try that this one has told how it ended, and what is not stored of that."""
    told = 0 if _is_unsure(order, memory) else activity.info().attempt
    memory.keep(SubmitTries(told=told, learned=learned))


def _known(order: SubmitInput, submission: SubmissionState) -> RestoreInput:
    return RestoreInput(
        generation_id=order.generation_id,
        attempt=order.attempt,
        workflow_id=order.workflow_id,
        plan=order.plan,
        request=order.request,
        epoch=order.epoch,
        submission=submission,
    )


def _submission_of(outcome: SubmitOutcome) -> Submission:
    match outcome.outcome:
        case "accepted":
            return Submission(
                state="accepted", vendor_task_id=outcome.vendor_task_id, reported_micros=outcome.reported_micros
            )
        case "rejected":
            return Submission(state="rejected", error=outcome.error, about=outcome.about)
        case "ambiguous":
            # The exception's class or the HTTP status. An error says, too, that this POST is over.
            note = f"({outcome.note})" if outcome.note else ""
            return Submission(state="ambiguous", error=ErrorInfo.of("submission_outcome_unknown", note))
        case "throttled" | "not_sent":
            return Submission(state="not_sent")


def _throttled(order: SubmitInput, wait_s: float, note: str) -> TryLater | Failed:
    """When to ask again for a turn. The time is over at the generation's own deadline, and not before."""
    age_s = order.age_s + elapsed_s()
    left_s = order.plan.deadline_s - age_s
    if left_s <= LATEST_S:
        return Failed("vendor_throttled", waited(age_s))
    return TryLater("vendor_throttled", note, after_s=max(min(wait_s, left_s), LATEST_S))


def _unreachable(order: SubmitInput, outcome: SubmitOutcome, post: int) -> TryLater | Failed:
    """When to send the next one to a vendor that was not reached."""
    delay_s = min(FIRST_RETRY_S * 2 ** min(post - 1, 10), LONGEST_RETRY_S)
    delay_s *= order.plan.time_scale * (1 + secrets.randbelow(100) / 1000)
    if order.waited_s + elapsed_s() + delay_s > order.plan.unreachable_limit_s:
        return Failed("vendor_unreachable")
    return TryLater("vendor_unreachable", f"({outcome.note})" if outcome.note else "", after_s=max(delay_s, LATEST_S))
