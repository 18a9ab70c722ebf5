"""What became of a submission whose outcome is not known: our own row, callbacks, the vendor's list, our balance there.

Nothing is sent again from here, and nothing is decided on a guess. What is absent from a list proves nothing; a balance
proves something only while nobody but one submission can have moved it. An id is never learned from a balance.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import structlog
from temporalio import activity

from activities.heartbeat import Memory, elapsed_s, remaining_s
from onetake.core.contracts import ErrorInfo, Message, Plan, ResolveInput, Submission
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.money import MICROS_PER_USD
from onetake.core.ports import Account, Evidence, Rates, Submissions, SubmitOrder, VendorClient

SPARE_S = 1.0
CHARGED = "The balance fell by exactly this price, so the vendor probably took the job."

_log: Any = structlog.get_logger(__name__)
_KNOWN = {"accepted", "rejected", "not_sent"}


class Seen(Message):
    """What a look saw, and since when every look has seen the same: seconds after the first attempt was scheduled."""

    what: str
    since_s: float


class _NotYet(TryLater):
    """Others are first at the vendor, which was not asked."""

    def __init__(self, after_s: float) -> None:
        super().__init__("vendor_throttled", "(others are first)", after_s=after_s)


class Resolve:
    """Finds out about one vendor's submissions. Repeatable; every change of state is compare-and-set."""

    def __init__(
        self, vendor: str, client: VendorClient, submissions: Submissions, evidence: Evidence, rates: Rates
    ) -> None:
        self._vendor = vendor
        self._client = client
        self._submissions = submissions
        self._evidence = evidence
        self._rates = rates

    async def resolve(self, order: ResolveInput) -> Submission:
        """Look once. Raises TryLater until something is known; with `last_look` it answers with what is stored."""
        stored = await self._submissions.read(order.generation_id, order.attempt, epoch=order.epoch)
        if order.doubted and stored.state == "accepted" and stored.vendor_task_id:
            return await self._reconsidered(order, stored, stored.vendor_task_id)
        if stored.state in _KNOWN:
            return stored
        try:
            found = await self._look(order, stored)
        except TryLater as error:
            if order.last_look:
                return stored
            raise await self._again(order.plan, error) from None
        if found is not None or order.last_look:
            return found or stored
        raise await self._again(order.plan, TryLater("not_ready"))

    async def _look(self, order: ResolveInput, stored: Submission) -> Submission | None:
        if found := await self._by_callback(order):
            return found
        if order.plan.lists_jobs:
            return await self._by_list(order)
        return await self._by_account(order, stored) if order.plan.reads_balance else None

    async def _by_callback(self, order: ResolveInput) -> Submission | None:
        """What callbacks with our tokens have named is read with our own key, unless it is another submission's."""
        claims = await self._submissions.claims(order.generation_id, order.attempt)
        if not claims:
            return None
        async with aclosing(self._known(order, claims)) as known:
            async for task_id in known:
                if accepted := await self._accepted(order, task_id):
                    return accepted
        return None

    async def _known(self, order: ResolveInput, claims: Sequence[str]) -> AsyncGenerator[str]:
        """The claims that the vendor knows and no other submission has. One that cannot be read hides none after it:
        its error is raised at the end. Each look begins with another, for there may be a turn for one read only."""
        unowned = await self._evidence.unowned(order.generation_id, order.attempt, claims)
        first = (activity.info().attempt - 1) % max(len(unowned), 1)
        unread: TryLater | None = None
        for task_id in (*unowned[first:], *unowned[:first]):
            try:
                await self._admit(order)
                status = await self._client.read_status(order.plan, task_id)
            except TryLater as error:
                unread = error
                if error.code == "vendor_throttled":  # it asks for silence, or others are first
                    break
                continue
            if status.reading.state != "missing":
                yield task_id
        if unread is not None:
            raise unread

    async def _reconsidered(self, order: ResolveInput, stored: Submission, task_id: str) -> Submission:
        """An accepted job is given up for another when only that one was named with our own token, the vendor knows it,
        and nobody else has it: the id that the POST was answered with was another order's."""
        claims = await self._submissions.claims(order.generation_id, order.attempt)
        if task_id in claims:
            return stored
        async with aclosing(self._known(order, claims)) as known:
            async for other in known:
                _log.error("vendor_named_another_job", vendor=self._vendor, generation_id=order.generation_id)
                kept = await self._submissions.reassign(order.generation_id, order.attempt, wrong=task_id, right=other)
                return stored.model_copy(update={"vendor_task_id": kept})
        return stored

    async def _by_list(self, order: ResolveInput) -> Submission | None:
        """Exactly one listed job of this very body that is nobody else's, seen twice: the first look may be early."""
        started, memory = time.monotonic(), Memory()
        sent = await self._evidence.sent(order.generation_id, order.attempt)
        if sent is None or sent.equal_is_sending:
            return None
        await self._admit(order)
        listed = await self._client.find_jobs(SubmitOrder(order.plan, sent.request, None, sent.seed), sent.at)
        found = await self._evidence.unowned(order.generation_id, order.attempt, listed)
        if len(found) == 1 and _seen_before(order.plan, memory, found[0], started):
            return await self._accepted(order, found[0])
        if len(found) != 1:
            memory.forget()
        return None

    async def _by_account(self, order: ResolveInput, stored: Submission) -> Submission | None:
        """A balance that stood still twice, long after the POST was over, is a job that was never created."""
        started, memory = time.monotonic(), Memory()
        if await self._evidence.undisturbed(order.generation_id, order.attempt) is None:
            return None
        await self._admit(order)
        now = await self._client.read_account()
        before = await self._evidence.undisturbed(order.generation_id, order.attempt)  # nothing came between
        if before is None or now != before.account:
            memory.forget()
            if before is not None and _cost_micros(order.plan, before.account, now) == order.plan.price.amount_micros:
                await self._note_charge(order, stored)
            return None
        if not before.post_is_over or elapsed_s() < order.plan.absence_window_s:
            return None
        if not _seen_before(order.plan, memory, "unmoved", started):
            return None
        error = ErrorInfo.of("vendor_took_nothing")
        return await self._submissions.record(order.generation_id, order.attempt, state="rejected", error=error)

    async def _note_charge(self, order: ResolveInput, stored: Submission) -> None:
        if stored.error is not None and CHARGED not in stored.error.message:
            message = f"{stored.error.message} {CHARGED}"
            noted = stored.error.model_copy(update={"message": message})
            await self._evidence.note(order.generation_id, order.attempt, noted)

    async def _accepted(self, order: ResolveInput, task_id: str) -> Submission | None:
        """What is stored now; None when another submission was given the id meanwhile."""
        try:
            stored = await self._submissions.record(
                order.generation_id, order.attempt, state="accepted", vendor_task_id=task_id
            )
        except Failed as error:
            if error.code == "vendor_protocol_error":
                return None
            raise
        return stored

    async def _admit(self, order: ResolveInput) -> None:
        returning = activity.info().attempt > 1
        if (wait_s := await self._rates.read_turn_s(self._vendor, returning=returning, behind=order.behind)) > 0:
            raise _NotYet(wait_s)

    async def _again(self, plan: Plan, error: TryLater) -> OnetakeError:
        """The same error with the pause before the next look, which is kept inside the activity's time."""
        asks = plan.lists_jobs or plan.reads_balance
        pause_s = max(error.after_s or 0.0, plan.cadence.max_interval_s if asks else plan.cadence.interval_s)
        if error.code == "vendor_throttled" and not isinstance(error, _NotYet):
            pause_s = max(pause_s, await self._rates.read_refused(self._vendor, error.after_s))
        return TryLater(error.code, error.detail, after_s=min(pause_s, max(remaining_s() - SPARE_S, 0.1)))


def _seen_before(plan: Plan, memory: Memory, what: str, started: float) -> bool:
    """Whether looks have seen the same for long enough; otherwise this one is remembered, from its end on."""
    seen = memory.recall(Seen)
    if seen is None or seen.what != what:
        seen = Seen(what=what, since_s=elapsed_s() + time.monotonic() - started)
    memory.keep(seen)
    return elapsed_s() - seen.since_s >= plan.absence_window_s


def _cost_micros(plan: Plan, before: Account, now: Account) -> Decimal | None:
    """What the vendor has charged in between, exactly; None when no rate is known."""
    rate = plan.price.usd_per_credit
    return None if rate is None else (now.charged - before.charged) * rate * MICROS_PER_USD
