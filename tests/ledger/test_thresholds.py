"""The crossing of a threshold is recorded once a window, by the transaction that crosses it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.errors import Failed, NoMoney, Refused
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger.invariants import violations

Accept = Callable[..., Awaitable[str]]
AcceptMany = Callable[[int], Awaitable[list[str]]]
Order = Callable[..., ReserveInput]


def end(generation_id: str, actual_micros: int | None) -> SettleInput:
    status, resolution = ("completed", "post") if actual_micros is not None else ("failed", "release")
    given: dict[str, object] = {"generation_id": generation_id, "attempt": 1, "tenant": "acme"}
    given |= {"status": status, "resolution": resolution, "actual_micros": actual_micros}
    return SettleInput.model_validate(given)


async def recorded(database: Database) -> list[tuple[int, int, int]]:
    """Percent, use and limit of each record, in the order in which they were made."""
    rows = await database.rows("select * from onetake.budget_threshold order by reached_at, percent")
    return [(row["percent"], row["used_micros"], row["limit_micros"]) for row in rows]


async def test_each_threshold_is_recorded_when_it_is_crossed_and_only_then(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000)
    for amount in (499, 1, 299, 1, 199):
        await ledger.reserve(order(await accept(), amount))
    assert await recorded(database) == [(50, 500, 1000), (80, 800, 1000)]
    await ledger.reserve(order(await accept(), 1))
    assert await recorded(database) == [(50, 500, 1000), (80, 800, 1000), (100, 1000, 1000)]


async def test_one_hold_may_cross_several(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "total", 1000, thresholds=(99, 7, 50, 7))
    await ledger.reserve(order(await accept(), 700))
    assert await recorded(database) == [(7, 700, 1000), (50, 700, 1000)]


async def test_use_that_falls_and_rises_again_is_recorded_once_and_stays_marked(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000)
    for _ in range(2):
        generation_id = await accept()
        await ledger.reserve(order(generation_id, 900))
        await ledger.settle(end(generation_id, None))
    assert await recorded(database) == [(50, 900, 1000), (80, 900, 1000)]
    (row,) = await budgets.show_budgets()
    assert (row.held_micros, row.reached_percent, row.thresholds) == (0, 80, (50, 80, 100))


async def test_what_a_vendor_charged_above_the_hold_crosses_too(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000)
    generation_id = await accept()
    await ledger.reserve(order(generation_id, 100))
    await ledger.settle(end(generation_id, 1200))
    assert await recorded(database) == [(50, 1200, 1000), (80, 1200, 1000), (100, 1200, 1000)]


async def test_a_refused_reservation_records_nothing(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    """Also when it was refused by a window after it had moved another one."""
    await budgets.set_budget("user", "acme/ann", "day", 1000)
    await budgets.set_budget("tenant", "acme", "day", 899)
    with pytest.raises(NoMoney):
        await ledger.reserve(order(await accept(), 900))
    assert await recorded(database) == []


async def test_a_changed_limit_and_changed_thresholds_count_at_once(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000, thresholds=())
    await ledger.reserve(order(await accept(), 600))
    assert await recorded(database) == []
    await budgets.set_budget("tenant", "acme", "day", 1000, thresholds=(60, 90))
    assert await recorded(database) == [(60, 600, 1000)]
    await budgets.set_budget("tenant", "acme", "day", 2000, thresholds=(60, 90))
    await ledger.reserve(order(await accept(), 700))
    assert await recorded(database) == [(60, 600, 1000)], "once a window"
    await budgets.set_budget("tenant", "acme", "day", 1300, thresholds=(60, 90))
    assert await recorded(database) == [(60, 600, 1000), (90, 1300, 1300)]


async def test_a_budget_that_is_counted_late_records_what_it_finds(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await ledger.reserve(order(await accept(), 850))
    await budgets.set_budget("tenant", "acme", "day", 1000)
    assert await recorded(database) == [(50, 850, 1000), (80, 850, 1000)]


async def test_a_removed_budget_records_nothing_until_it_is_set_again(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000)
    generation_id = await accept()
    await ledger.reserve(order(generation_id, 400))
    await budgets.remove_budget("tenant", "acme", "day")
    await ledger.settle(end(generation_id, 600))
    assert await recorded(database) == []
    await budgets.set_budget("tenant", "acme", "day", 1000)
    assert await recorded(database) == [(50, 600, 1000)]


async def test_a_window_that_nobody_used_reaches_nothing(database: Database, budgets: Budgets) -> None:
    for limit in (0, 1000, 0):
        await budgets.set_budget("tenant", "acme", "day", limit)
        (row,) = await budgets.show_budgets()
        assert row.reached_percent == 0
    assert await recorded(database) == []


async def test_crossings_are_taken_once(ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order) -> None:
    await budgets.set_budget("tenant", "acme", "total", 1000)
    await budgets.set_budget("user", "acme/ann", "day", 1000)
    await ledger.reserve(order(await accept(), 850))
    taken = await asyncio.gather(*(budgets.take_crossings(1) for _ in range(8)))
    assert sorted((each.scope, each.percent, each.used_micros) for page in taken for each in page) == [
        ("tenant", 50, 850),
        ("tenant", 80, 850),
        ("user", 50, 850),
        ("user", 80, 850),
    ]
    assert {each.scope: each.starts_at is None for page in taken for each in page} == {"tenant": True, "user": False}
    assert await budgets.take_crossings(9) == []


@pytest.mark.parametrize(
    "change",
    [
        "delete from onetake.budget_threshold",
        "update onetake.budget_threshold set used_micros = used_micros + 1",
        "update onetake.budget_threshold set logged_at = null",
    ],
)
async def test_records_are_kept_as_they_were_written(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order, change: str
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000)
    await ledger.reserve(order(await accept(), 500))
    await budgets.take_crossings(9)
    with pytest.raises(Failed, match="OT001"):
        await database.rows(change)


@pytest.mark.parametrize("thresholds", [(0,), (101,), (50, -1)])
async def test_thresholds_are_percentages(database: Database, budgets: Budgets, thresholds: tuple[int, ...]) -> None:
    with pytest.raises(Refused, match="from 1 to 100"):
        await budgets.set_budget("tenant", "acme", "day", 1000, thresholds=thresholds)
    assert await database.rows("select from onetake.budget") == []


@pytest.fixture
async def wide(database_url: str) -> AsyncIterator[Database]:
    """16 connections."""
    opened = await Database.connect(database_url, pool_size=16)
    yield opened
    await opened.close()


thresholds = st.lists(st.integers(1, 100), max_size=5, unique=True)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amounts=st.lists(st.integers(1, 30), min_size=8, max_size=30),
    released=st.sets(st.integers(0, 29)),
    chosen=st.lists(thresholds, min_size=1, max_size=3),
)
async def test_concurrent_calls_record_each_crossing_once(
    wide: Database,
    accept_many: AcceptMany,
    order: Order,
    amounts: list[int],
    released: set[int],
    chosen: list[list[int]],
) -> None:
    """Every crossing of the thresholds that were last set is there, and a record says a use that reached it."""
    budgets, ledgers = Budgets(wide), [PostgresLedger(wide) for _ in range(4)]
    ids = await accept_many(len(amounts))
    user, key = ids[0], f"acme/{ids[0]}"  # each example has its own budget
    await budgets.set_budget("user", key, "total", 200, thresholds=chosen[0])

    async def one(number: int) -> None:
        ledger = ledgers[number % len(ledgers)]
        with suppress(NoMoney):
            await ledger.reserve(order(ids[number], amounts[number], user=user))
            if number in released:
                await ledger.settle(end(ids[number], None))

    async def change() -> None:
        for each in chosen:
            await budgets.set_budget("user", key, "total", 200, thresholds=each)

    await asyncio.gather(change(), *map(one, range(len(amounts))))
    journal = await wide.rows(
        "select available_micros[1] as left from onetake.event where generation_id = any ($1)", ids
    )
    most = max((200 - row["left"] for row in journal), default=0)
    rows = await wide.rows(
        """select r.percent, r.used_micros, w.held_micros + w.spent_micros as used from onetake.budget b
        join onetake.budget_window w on b.id = w.budget_id
        left join onetake.budget_threshold r on w.id = r.window_id where b.scope_key = $1""",
        key,
    )
    used = rows[0]["used"]
    rows = [row for row in rows if row["percent"] is not None]
    kept = {row["percent"]: row["used_micros"] for row in rows}
    assert len(kept) == len(rows)
    assert all(use * 100 >= 200 * percent for percent, use in kept.items())
    sure = [each for each in chosen[-1] if all(each in others for others in chosen)]
    assert {each for each in sure if most * 100 >= 200 * each} <= set(kept)
    assert {each for each in chosen[-1] if used * 100 >= 200 * each} <= set(kept)
    assert set(kept) <= {each for others in chosen for each in others}
    assert await violations(wide) == []
