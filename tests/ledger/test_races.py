"""Many connections at once: budgets stay exact, and every key counts once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.errors import NoMoney
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger.database import connect_once
from onetake.ledger.invariants import violations
from tests.ledger.databases import WAITERS

AcceptMany = Callable[[int], Awaitable[list[str]]]
Order = Callable[..., ReserveInput]

USD = 1_000_000


@pytest.fixture
async def wide(database_url: str) -> AsyncIterator[Database]:
    """64 connections."""
    opened = await Database.connect(database_url, pool_size=64)
    yield opened
    await opened.close()


@pytest.mark.parametrize(("ledgers", "callers"), [(64, 1), (8, 8)], ids=["one by one", "combined"])
async def test_room_for_237_of_1000_admits_exactly_237(
    wide: Database, budgets: Budgets, accept_many: AcceptMany, order: Order, ledgers: int, callers: int
) -> None:
    await budgets.set_budget("tenant", "acme", "month", 237 * USD + USD // 2)
    for user in range(5):
        await budgets.set_budget("user", f"acme/u{user}", "day", 1000 * USD)
    waiting = list(enumerate(await accept_many(1000)))
    admitted: list[str] = []

    async def caller(ledger: PostgresLedger) -> None:
        while waiting:
            number, generation_id = waiting.pop()
            try:
                await ledger.reserve(order(generation_id, user=f"u{number % 5}"))
            except NoMoney:
                continue
            admitted.append(generation_id)

    processes = [PostgresLedger(wide) for _ in range(ledgers)]
    await asyncio.gather(*(caller(ledger) for ledger in processes for _ in range(callers)))

    held = await wide.rows("select generation_id from onetake.hold")
    assert (len(admitted), {row["generation_id"] for row in held}) == (237, set(admitted))
    shown = await budgets.show_budgets()
    assert sum(row.held_micros for row in shown if row.scope == "user") == 237 * USD
    assert sum(row.held_micros for row in shown if row.scope == "tenant") == 237 * USD
    assert await violations(wide) == []


async def test_32_repeats_of_one_key_make_one_hold(
    wide: Database, budgets: Budgets, accept_many: AcceptMany, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 100 * USD)
    (generation_id,) = await accept_many(1)
    alone = [PostgresLedger(wide).reserve(order(generation_id)) for _ in range(16)]
    combined = PostgresLedger(wide)
    answers = await asyncio.gather(*alone, *(combined.reserve(order(generation_id)) for _ in range(16)))
    assert {(answer.amount_micros, answer.budgets) for answer in answers} == {(USD, 1)}
    assert (await budgets.show_budgets())[0].held_micros == USD


async def test_16_settlements_at_once_make_one_post(
    wide: Database, budgets: Budgets, accept_many: AcceptMany, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 100 * USD)
    (generation_id,) = await accept_many(1)
    ledger = PostgresLedger(wide)
    await ledger.reserve(order(generation_id))
    settlements = [
        SettleInput(
            generation_id=generation_id,
            attempt=1,
            tenant="acme",
            status="completed",
            resolution="post",
            actual_micros=actual,
        )
        for actual in range(1, 17)
    ]
    results = await asyncio.gather(*map(ledger.settle, settlements))
    assert len({result.model_dump_json() for result in results}) == 1
    assert (await budgets.show_budgets())[0].spent_micros == results[0].cost.settled_micros
    assert await violations(wide) == []


async def test_a_reservation_and_an_end_at_once_leave_no_open_hold(
    wide: Database, accept_many: AcceptMany, order: Order
) -> None:
    for generation_id in await accept_many(20):
        ended = SettleInput(generation_id=generation_id, attempt=1, tenant="acme", status="canceled", resolution="none")
        await asyncio.gather(
            PostgresLedger(wide).reserve(order(generation_id)),
            PostgresLedger(wide).settle(ended),
            return_exceptions=True,
        )
    assert await violations(wide) == []


@pytest.mark.parametrize("copies", [1, 2], ids=["alone", "combined"])
async def test_a_reservation_waits_for_an_end_under_way(
    wide: Database, database_url: str, ledger: PostgresLedger, accept_many: AcceptMany, order: Order, copies: int
) -> None:
    (generation_id,) = await accept_many(1)
    ending = await connect_once(database_url)
    async with ending.transaction():
        await ending.fetch(
            "select onetake.settle($1, 1, 'canceled', 'none', null, 'estimate', null, '[]', '[]', null)", generation_id
        )
        reserving = [asyncio.create_task(ledger.reserve(order(generation_id))) for _ in range(copies)]
        while not await ending.fetchval(WAITERS):
            assert not any(task.done() for task in reserving)
            await asyncio.sleep(0.02)
    await ending.close()
    answers = await asyncio.gather(*reserving, return_exceptions=True)
    assert [getattr(answer, "code", answer) for answer in answers] == ["canceled"] * copies
    assert await violations(wide) == []


async def test_first_uses_of_new_windows_do_not_wait_for_each_other_in_a_circle(
    wide: Database, budgets: Budgets, accept_many: AcceptMany, order: Order
) -> None:
    for user in range(8):
        await budgets.set_budget("user", f"acme/u{user}", "day", 100 * USD)
    await budgets.set_budget("tenant", "acme", "day", 1000 * USD)
    await budgets.set_budget("vendor", "apixo", "month", 1000 * USD)
    ids = await accept_many(96)
    ledgers = [PostgresLedger(wide) for _ in range(12)]
    reserved = await asyncio.gather(
        *(ledgers[n % 12].reserve(order(one, user=f"u{n % 8}")) for n, one in enumerate(ids)),
        *(budgets.set_budget("tenant", "acme", "day", 1000 * USD + n) for n in range(8)),
    )
    assert {one.budgets for one in reserved if one is not None} == {3}
    assert await violations(wide) == []
