"""A new budget counts what its window already holds and spent, each hold once, whatever runs at that moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.errors import NoMoney, Refused
from onetake.core.names import Period, Scope
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger import budgets as budgets_module
from onetake.ledger.database import connect_once
from onetake.ledger.invariants import violations

Accept = Callable[..., Awaitable[str]]
AcceptMany = Callable[[int], Awaitable[list[str]]]
Begin = Callable[..., Awaitable[object]]
Order = Callable[..., ReserveInput]

USD = 1_000_000
KEYS: dict[Scope, str] = {
    "tenant": "acme",
    "user": "acme/ann",
    "feature": "acme/ads",
    "route": "apixo/wan-2.6/text-to-video",
    "vendor": "apixo",
}


def end(generation_id: str, resolution: str, actual_micros: int | None = None) -> SettleInput:
    status = "completed" if resolution == "post" else "failed"
    given: dict[str, object] = {
        "generation_id": generation_id,
        "attempt": 1,
        "tenant": "acme",
        "actual_micros": actual_micros,
    }
    return SettleInput.model_validate(given | {"status": status, "resolution": resolution})


@pytest.fixture
async def wide(database_url: str) -> AsyncIterator[Database]:
    """32 connections."""
    opened = await Database.connect(database_url, pool_size=32)
    yield opened
    await opened.close()


@pytest.mark.parametrize("scope", KEYS)
async def test_a_new_budget_counts_held_posted_overrun_and_suspended(
    database: Database,
    ledger: PostgresLedger,
    budgets: Budgets,
    accept: Accept,
    begin: Begin,
    order: Order,
    scope: Scope,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets_module, "PAGE", 2)  # more than one page
    held, posted, dear, doubtful, released = [await accept(user="ann", feature="ads") for _ in range(5)]
    stranger = await accept(tenant="other", user="ann", feature="ads", route="gmi/wan-2.6/text-to-video")
    foreign = {"tenant": "other", "route": "gmi/wan-2.6/text-to-video", "vendor": "gmi"}
    await ledger.reserve(order(stranger, **foreign))
    for one in (held, posted, dear, doubtful, released):
        await ledger.reserve(order(one))
    await ledger.settle(end(posted, "post", 400_000))
    await ledger.settle(end(dear, "post", 3 * USD))
    await begin(doubtful)
    await ledger.settle(end(doubtful, "suspend"))
    await ledger.settle(end(released, "release"))

    await budgets.set_budget(scope, KEYS[scope], "day", 5 * USD)
    (row,) = await budgets.show_budgets()
    assert (row.held_micros, row.spent_micros, row.overrun_micros) == (USD, 4_400_000, 400_000)
    assert await violations(database) == []

    await ledger.settle(end(held, "release"))
    await ledger.resolve_suspense(doubtful, 1, to="released", who="ops", why="a test")
    (row,) = await budgets.show_budgets()
    assert (row.held_micros, row.spent_micros, row.overrun_micros) == (0, 3_400_000, 0)
    assert await violations(database) == []


async def test_a_new_budget_counts_only_what_was_reserved_in_its_window(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    old, new = await accept(), await accept()
    await ledger.reserve(order(old))
    await database.rows("update onetake.hold set created_at = date_trunc('day', now(), 'UTC') - interval '1 second'")
    await ledger.reserve(order(new, 2 * USD))
    await budgets.set_budget("tenant", "acme", "day", 9 * USD)
    await budgets.set_budget("tenant", "acme", "total", 9 * USD)
    assert {row.period: row.held_micros for row in await budgets.show_budgets()} == {"day": 2 * USD, "total": 3 * USD}
    linked = await database.rows("select window_ids from onetake.hold where generation_id = $1", new)
    ranked = await database.rows("select id from onetake.budget_window order by lock_rank, id")
    order_of = [row["id"] for row in ranked]
    assert sorted(linked[0]["window_ids"], key=order_of.index) == linked[0]["window_ids"]
    assert await violations(database) == []


async def test_in_another_time_zone_the_window_counts_what_lies_in_it(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 9 * USD)
    for amount, back in ((USD, "0"), (2 * USD, "25 hours")):
        generation_id = await accept()
        await ledger.reserve(order(generation_id, amount))
        moved = "update onetake.hold set created_at = created_at - $2::text::interval where generation_id = $1"
        await database.rows(moved, generation_id, back)
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"):  # 25 hours apart
        await budgets.set_budget("tenant", "acme", "day", 9 * USD, time_zone=zone)
        (row,) = await budgets.show_budgets()
        assert row.time_zone == zone
        assert row.held_micros == (3 * USD if zone == "UTC" else USD)  # UTC's window held both before
        assert await violations(database) == []


async def test_a_count_that_was_cut_off_is_finished_by_a_repeat(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order, database: Database
) -> None:
    await ledger.reserve(order(await accept()))
    await database.row("select onetake.set_budget('tenant', 'acme', 'day', 9000000, 'UTC', '{50}')")  # and then it died
    (row,) = await budgets.show_budgets()
    assert row.held_micros == 0
    await budgets.set_budget("tenant", "acme", "day", 8 * USD)
    (row,) = await budgets.show_budgets()
    assert (row.held_micros, row.limit_micros) == (USD, 8 * USD)
    assert await database.rows("select from onetake.budget_window where not counted") == []


async def test_a_reservation_that_read_no_budget_yet_is_waited_for_and_counted(
    database: Database, database_url: str, budgets: Budgets, accept: Accept, order: Order
) -> None:
    given = order(await accept())
    session = await connect_once(database_url)
    setting: asyncio.Task[None] | None = None
    async with session.transaction():
        arguments = (given.generation_id, 1, "acme", None, None, given.route, given.vendor, USD, "5 s", "v")
        await session.fetch("select * from onetake.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", *arguments)
        setting = asyncio.create_task(budgets.set_budget("tenant", "acme", "day", 9 * USD))
        while not await database.rows("select from onetake.budget"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert not setting.done()
    await setting
    await session.close()
    (row,) = await budgets.show_budgets()
    assert row.held_micros == USD
    assert await violations(database) == []


step = st.tuples(
    st.sampled_from(["reserve", "reserve", "reserve", "settle", "decide", "budget", "remove"]),
    st.integers(0, 11),
    st.sampled_from(["post", "release", "suspend"]),
    st.sampled_from(["tenant", "vendor"]),
    st.sampled_from(["day", "total"]),
    st.sampled_from(["UTC", "Asia/Tokyo"]),
)


@dataclass
class Calls:
    """What one of many callers does, in the words of `step`."""

    database: Database
    ids: list[str]
    order: Order
    begin: Begin
    held: set[int] = field(default_factory=set[int])

    async def all_of(self, steps: list[tuple[Any, ...]]) -> None:
        ledger = PostgresLedger(self.database)
        for name, number, *words in steps:
            with suppress(NoMoney, Refused):
                if name in ("budget", "remove"):
                    await self.budget(name, *words)
                else:
                    await self.money(ledger, name, number, words[0])

    async def money(self, ledger: PostgresLedger, name: str, number: int, resolution: str) -> None:
        if name == "reserve":
            await ledger.reserve(self.order(self.ids[number], number + 1))
            self.held.add(number)
        elif name == "settle":
            if resolution == "suspend" and number in self.held:
                await self.begin(self.ids[number])
            await ledger.settle(end(self.ids[number], resolution, 2 * number if resolution == "post" else None))
        else:
            await ledger.resolve_suspense(self.ids[number], 1, to="posted", who="ops", why="x", actual_micros=number)

    async def budget(self, name: str, _: str, scope: Scope, period: Period, zone: str) -> None:
        if name == "budget":
            await Budgets(self.database).set_budget(scope, KEYS[scope], period, 60, time_zone=zone)
        else:
            await Budgets(self.database).remove_budget(scope, KEYS[scope], period)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(callers=st.lists(st.lists(step, min_size=3, max_size=12), min_size=4, max_size=8))
async def test_budgets_made_among_concurrent_calls_count_each_hold_once(
    wide: Database,
    accept_many: AcceptMany,
    begin: Begin,
    order: Order,
    callers: list[list[tuple[Any, ...]]],
) -> None:
    calls = Calls(wide, await accept_many(12), order, begin)
    await asyncio.gather(*map(calls.all_of, callers))
    budgets = Budgets(wide)
    for scope in ("tenant", "vendor"):  # whatever was made or removed last
        await budgets.set_budget(scope, KEYS[scope], "total", 60)
    assert await violations(wide) == []
    (sums,) = await wide.rows(
        """select coalesce(sum(amount_micros) filter (where state = 'held'), 0) as held,
        coalesce(sum(case state when 'suspended' then amount_micros else actual_micros end), 0) as spent
        from onetake.hold"""
    )
    totals = [row for row in await budgets.show_budgets() if row.period == "total"]
    assert [(row.held_micros, row.spent_micros) for row in totals] == [(sums["held"], sums["spent"])] * 2
