"""The line of those who wait for a vendor that has no room: what it has room for, and whose turn it is."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from onetake.core.contracts import ErrorInfo, ReserveInput, SettleInput
from onetake.core.errors import TryLater
from onetake.ledger import Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.rates import PostgresRates
from onetake.ledger.vendors import PostgresVendors
from tests.ledger.clocks import pass_by, standing_still
from tests.ledger.databases import Accept, Order

GAP_S = 5.0


@dataclass
class Vendor:
    """A vendor that takes so many jobs at once, and what came of our calls there."""

    database: Database
    ledger: PostgresLedger
    submissions: PostgresSubmissions
    accept: Accept
    order: Order
    takes: int = 1000
    running: list[str] = field(default_factory=list[str])
    refused: int = 0
    names: Iterator[int] = field(default_factory=count)

    @property
    def vendors(self) -> PostgresVendors:
        return PostgresVendors(self.database)

    @property
    def rates(self) -> PostgresRates:
        return PostgresRates(self.database)

    async def arrive(self, tenant: str = "acme") -> ReserveInput:
        return self.order(await self.accept(tenant=tenant), tenant=tenant, gap_s=GAP_S)

    async def admitted(self, order: ReserveInput) -> bool:
        """Whether it may take its hold now; if so it does."""
        try:
            await self.vendors.admit(order)
        except TryLater:
            return False
        await self.ledger.reserve(order)
        return True

    async def submit(self, order: ReserveInput) -> bool:
        """One POST, when it is its turn; whether the vendor took it."""
        generation_id = order.generation_id
        if await self.rates.submit_turn_s("apixo", generation_id, returning=True, gap_s=GAP_S) > 0:
            return False
        begun = await self.submissions.begin(
            generation_id, 1, vendor="apixo", token_sha256=None, request_sha256=bytes(32), seed=None
        )
        if len(self.running) < self.takes:
            task_id = f"task-{next(self.names)}"
            await self.submissions.record(generation_id, 1, state="accepted", vendor_task_id=task_id)
            self.running.append(generation_id)
            return True
        await self.submissions.record(generation_id, 1, state="not_sent", post=begun.post)
        self.refused += 1
        await self.rates.submission_refused("apixo", generation_id, None, gap_s=GAP_S)
        return False

    async def end(self, generation_id: str) -> None:
        """Our own read finds the end of its job."""
        self.running.remove(generation_id)
        await self.submissions.note_end(generation_id, 1, failed=False, shows_charge=False)

    async def later(self, seconds: float) -> None:
        await pass_by(self.database, seconds)

    async def room(self) -> int | None:
        row = await self.database.row("select jobs from onetake.vendor_room")
        return row["jobs"] if row else None


Full = Callable[..., Awaitable[Vendor]]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Whose turn it is depends on times: only `later` lets time pass."""
    async with standing_still(database_url) as database:
        yield database


@pytest.fixture
def vendor(
    database: Database, ledger: PostgresLedger, submissions: PostgresSubmissions, accept: Accept, order: Order
) -> Vendor:
    return Vendor(database, ledger, submissions, accept, order)


@pytest.fixture
def full(vendor: Vendor) -> Full:
    """Learn that a vendor takes so many: as many jobs run there, and for six seconds no other was taken."""

    async def full(takes: int, *, tenant: str = "acme") -> Vendor:
        vendor.takes = takes
        for _ in range(takes):
            order = await vendor.arrive(tenant)
            assert await vendor.admitted(order)
            assert await vendor.submit(order)
        last = await vendor.arrive(tenant)
        assert await vendor.admitted(last)
        for _ in range(2):
            await vendor.later(6)
            assert not await vendor.submit(last)
        assert await vendor.room() == takes
        return vendor

    return full


async def test_a_vendor_without_a_429_has_room_for_all_and_nobody_is_put_into_a_line(vendor: Vendor) -> None:
    for _ in range(5):
        assert await vendor.admitted(await vendor.arrive())
    assert (await vendor.database.answer("select count(*) as n from onetake.vendor_line"))["n"] == 0


async def test_a_vendor_that_is_only_called_too_fast_is_not_taken_to_be_full(vendor: Vendor) -> None:
    first, second, third = [await vendor.arrive() for _ in range(3)]
    for order in (first, second, third):
        assert await vendor.admitted(order)
    assert await vendor.submit(first)
    vendor.takes = 1
    assert not await vendor.submit(second)
    vendor.takes = 1000
    await vendor.later(6)
    assert await vendor.submit(second)
    vendor.takes = 2
    await vendor.later(6)
    assert not await vendor.submit(third)
    assert await vendor.room() is None


async def test_whoever_comes_to_a_full_vendor_holds_nothing_and_is_told_its_place(full: Full) -> None:
    vendor = await full(2)
    waiting = [await vendor.arrive() for _ in range(30)]
    told: list[TryLater] = []
    for order in waiting:
        with pytest.raises(TryLater) as later:
            await vendor.vendors.admit(order)
        told.append(later.value)
    assert [f"place {place}," in each.detail for place, each in enumerate(told, start=1)] == [True] * 30
    waits_s = [each.after_s or 0 for each in told]
    assert max(waits_s[:2]) <= GAP_S * 1.1
    assert waits_s[-1] > 5 * GAP_S
    rows = await vendor.database.rows("select generation_id from onetake.hold")
    assert {row["generation_id"] for row in rows}.isdisjoint(order.generation_id for order in waiting)


async def test_no_more_holds_are_taken_than_the_vendor_has_room_for(full: Full) -> None:
    vendor = await full(4)
    waiting = [await vendor.arrive() for _ in range(10)]
    assert [await vendor.admitted(order) for order in waiting] == [False] * 10
    for ended in list(vendor.running)[:3]:
        await vendor.end(ended)
    # One slot is for the one that was turned away with its hold.
    assert [await vendor.admitted(order) for order in waiting] == [True] * 2 + [False] * 8


async def test_holds_are_sent_in_their_order(full: Full) -> None:
    vendor = await full(2)
    turned_away = await vendor.database.answer("select generation_id from onetake.submission where state = 'not_sent'")
    await vendor.end(vendor.running[0])
    late = await vendor.arrive()
    await vendor.ledger.reserve(late)
    assert await vendor.rates.submit_turn_s("apixo", late.generation_id, returning=True, gap_s=GAP_S) > 0
    assert await vendor.rates.submit_turn_s("apixo", turned_away["generation_id"], returning=True, gap_s=GAP_S) == 0


async def test_tenants_take_turns_whoever_came_first(full: Full) -> None:
    vendor = await full(4, tenant="many")
    waiting = [await vendor.arrive("many") for _ in range(20)] + [await vendor.arrive("few") for _ in range(6)]
    order_of: list[str] = []
    while any(order.tenant == "few" for order in waiting):
        if vendor.running:
            await vendor.end(vendor.running[0])
        for order in list(waiting):
            await vendor.admitted(order)
        rows = await vendor.database.rows(
            """select h.generation_id from onetake.hold h left join onetake.submission s using (generation_id, attempt)
            where s.state is null or s.state = 'not_sent' order by h.created_at"""
        )
        held = {row["generation_id"] for row in rows}
        for order in [each for each in waiting if each.generation_id in held]:
            waiting.remove(order)
            order_of.append(order.tenant)
            vendor.takes = 1000
            assert await vendor.submit(order)
        await vendor.later(1)
    share = Counter(order_of)
    assert share["few"] == 6
    assert share["many"] <= share["few"] + 2


async def test_a_place_that_nobody_asks_for_any_more_keeps_nobody_waiting(full: Full) -> None:
    vendor = await full(2)
    gone, waiting = await vendor.arrive(), await vendor.arrive()
    for order in (gone, waiting):
        assert not await vendor.admitted(order)
    for ended in list(vendor.running):
        await vendor.end(ended)
    await vendor.database.row(
        "update onetake.vendor_line set asks_at = asks_at - interval '1 hour' where generation_id = $1",
        gone.generation_id,
    )
    assert await vendor.admitted(waiting)
    assert not await vendor.admitted(gone)


@pytest.mark.parametrize("granted", [False, True])
async def test_a_place_whose_generation_has_ended_keeps_nobody_waiting(full: Full, *, granted: bool) -> None:
    """It was refused by a budget or canceled: with its slot, or while it waited and was not due to ask again."""
    vendor = await full(2)
    rows = await vendor.database.rows("select generation_id from onetake.submission where state = 'not_sent'")
    await vendor.end(vendor.running[0])
    assert await vendor.submit(vendor.order(rows[0]["generation_id"]))
    ended, waiting = await vendor.arrive(), await vendor.arrive()
    if not granted:
        assert not await vendor.admitted(ended)
    await vendor.end(vendor.running[0])
    if granted:
        await vendor.vendors.admit(ended)
    assert not await vendor.admitted(waiting)
    end: dict[str, object] = {"generation_id": ended.generation_id, "attempt": 1, "tenant": "acme", "status": "failed"}
    end |= {"resolution": "none", "error": ErrorInfo.of("budget_exceeded")}
    await vendor.ledger.settle(SettleInput.model_validate(end))
    assert await vendor.admitted(waiting)
    row = await vendor.database.answer("select grants from onetake.vendor_room")
    assert row["grants"] == 1, "a slot that was not used says nothing of the vendor"


async def test_room_that_grew_is_found_step_by_step_and_a_try_that_fails_is_not_repeated_soon(full: Full) -> None:
    vendor = await full(2)
    vendor.takes = 30
    waiting = [await vendor.arrive() for _ in range(40)]
    rows = await vendor.database.rows("select generation_id from onetake.submission where state = 'not_sent'")
    waiting.insert(0, vendor.order(rows[0]["generation_id"]))
    for _ in range(200):
        for order in list(waiting)[:8]:
            if await vendor.admitted(order) and await vendor.submit(order):
                waiting.remove(order)
        await vendor.later(10)
    assert len(vendor.running) == 30
    assert await vendor.room() in {30, 31}
    assert vendor.refused < 10


async def test_a_vendor_that_nobody_waits_for_and_that_refused_nothing_for_an_hour_has_room_for_all_again(
    full: Full,
) -> None:
    vendor = await full(2)
    for ended in list(vendor.running):
        await vendor.end(ended)
    await vendor.later(3601)
    assert await vendor.admitted(await vendor.arrive())
    assert await vendor.room() is None
