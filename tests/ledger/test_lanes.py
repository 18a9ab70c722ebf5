"""A lock that is held for long holds up only those that need it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from onetake.core.contracts import GenerationResult, Reserved, ReserveInput, SettleInput
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger import database as module
from onetake.ledger.database import Locked, connect_once
from onetake.ledger.invariants import violations
from onetake.ledger.lanes import MOST_WAITING, Lanes

Order = Callable[..., ReserveInput]
Held = Callable[[str], Awaitable[list[str]]]

USD = 1_000_000
EACH = 24
QUICK_S = 2.0
WINDOW_OF_A = """
select from onetake.budget_window w join onetake.budget b on b.id = w.budget_id where b.scope_key = 'a' for update of w
"""


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a lock that is held finds that out soon; who waits for his turn behind others of his own does not
    take them for one."""
    monkeypatch.setattr(module, "QUICK_LOCK_S", QUICK_S)
    monkeypatch.setattr(module, "SLOW_LOCK_S", QUICK_S)


@pytest.fixture
async def database(limits: None, database_url: str) -> AsyncIterator[Database]:
    assert limits is None
    opened = await Database.connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def accepted(database: Database) -> Callable[[str], Awaitable[list[str]]]:
    """Accept some generations of a tenant."""

    async def accepted(tenant: str) -> list[str]:
        rows = await database.rows(
            """insert into onetake.generation (id, tenant, workflow_id, request_sha256, request, route, vendor)
            select 'gen_' || u, $1, 'gen/' || u, sha256(''), '{}', 'r', 'apixo'
            from (select gen_random_uuid() as u from generate_series(1, $2)) u returning id""",
            tenant,
            EACH,
        )
        return [row["id"] for row in rows]

    return accepted


@pytest.fixture(autouse=True)
async def _budgeted(budgets: Budgets) -> None:
    """Both tenants have a budget, and share none."""
    for tenant in ("a", "b"):
        await budgets.set_budget("tenant", tenant, "day", 1000 * USD)


@asynccontextmanager
async def locked(database_url: str, sql: str, *arguments: object) -> AsyncGenerator[None]:
    """A transaction of somebody else that has locked these rows, until the block is left."""
    session = await connect_once(database_url, limit_s=120)
    try:
        async with session.transaction():
            assert await session.fetch(sql, *arguments)
            yield
    finally:
        await session.close()


def end(tenant: str, generation_id: str) -> SettleInput:
    return SettleInput(
        generation_id=generation_id, attempt=1, tenant=tenant, status="completed", resolution="post", actual_micros=1
    )


async def insisting(call: Callable[[], Awaitable[Reserved | GenerationResult]]) -> int:
    """Repeat as Temporal does; how often the answer was that a lock was not to be had."""
    times = 0
    while True:
        try:
            await call()
        except Locked:
            times += 1
            await asyncio.sleep(0.2)
        else:
            return times


async def test_a_locked_window_holds_up_its_own_tenant_alone(
    database: Database, database_url: str, ledger: PostgresLedger, accepted: Held, order: Order
) -> None:
    old = {tenant: await accepted(tenant) for tenant in ("a", "b")}
    new = {tenant: await accepted(tenant) for tenant in ("a", "b")}
    for tenant, ids in old.items():
        await asyncio.gather(*(ledger.reserve(order(each, tenant=tenant)) for each in ids))

    def calls(tenant: str) -> list[asyncio.Task[int]]:
        wanted = [lambda each=each: ledger.reserve(order(each, tenant=tenant)) for each in new[tenant]]
        ends = [lambda each=each: ledger.settle(end(tenant, each)) for each in old[tenant]]
        return [asyncio.create_task(insisting(call)) for pair in zip(wanted, ends, strict=True) for call in pair]

    async with locked(database_url, WINDOW_OF_A):
        stuck = calls("a")
        assert set(await asyncio.gather(*calls("b"))) == {0}, "nobody of b heard of the lock"
        assert not any(call.done() for call in stuck)
        again = [asyncio.create_task(insisting(lambda e=each: ledger.settle(end("b", e)))) for each in old["b"]]
        assert set(await asyncio.gather(*again)) == {0}
    await asyncio.gather(*stuck)
    rows = await database.rows("select generation_id, kind from onetake.event where kind in ('hold', 'post')")
    assert len(rows) == len({tuple(row.values()) for row in rows}) == 6 * EACH
    assert await violations(database) == []


async def test_a_locked_window_fails_its_reservations_and_settlements_for_later(
    database: Database,
    database_url: str,
    ledger: PostgresLedger,
    accepted: Held,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held, waiting = (await accepted("a"))[:2]
    await ledger.reserve(order(held, tenant="a"))
    for name in ("QUICK_LOCK_S", "SLOW_LOCK_S"):
        monkeypatch.setattr(module, name, 0.1)
    impatient = await Database.connect(database_url)
    hurried = PostgresLedger(impatient)
    async with locked(database_url, WINDOW_OF_A):
        failed = await asyncio.gather(
            hurried.reserve(order(waiting, tenant="a")), hurried.settle(end("a", held)), return_exceptions=True
        )
    await impatient.close()
    assert [(type(each), getattr(each, "code", "")) for each in failed] == [(Locked, "ledger_unavailable")] * 2
    await ledger.reserve(order(waiting, tenant="a"))
    assert (await ledger.settle(end("a", held))).cost.settled_micros == 1
    assert await violations(database) == []


async def test_a_locked_generation_holds_up_no_other_in_its_batch(
    database: Database, database_url: str, ledger: PostgresLedger, accepted: Held, order: Order
) -> None:
    of_a, of_b = await accepted("a"), await accepted("b")
    async with locked(database_url, "select from onetake.generation where id = $1 for update", of_a[0]):
        stuck = asyncio.create_task(insisting(lambda: ledger.reserve(order(of_a[0], tenant="a"))))
        others = [("a", each) for each in of_a[1:]] + [("b", each) for each in of_b]
        calls = [insisting(lambda t=tenant, e=each: ledger.reserve(order(e, tenant=t))) for tenant, each in others]
        await asyncio.gather(*calls)
        assert not stuck.done()
    await stuck
    assert await violations(database) == []


async def test_a_batch_that_skips_what_is_locked_says_so_and_holds_the_rest(
    database: Database, database_url: str, ledger: PostgresLedger, accepted: Held, order: Order
) -> None:
    """In the order given; also what was held before, what is unknown and what does not fit."""
    await ledger.reserve(order((await accepted("a"))[0], tenant="a"))  # opens the window
    of_a, of_b = await accepted("a"), await accepted("b")
    await ledger.reserve(order(of_b[0], tenant="b"))
    ids = [of_a[0], of_b[0], of_b[1], "gen_unknown", of_b[2], of_b[3], of_b[1]]
    tenants = ["a", "b", "b", "b", "b", "b", "b"]
    amounts = [USD, USD, USD, USD, 5000 * USD, USD, USD]
    session = await connect_once(database_url)
    async with locked(database_url, WINDOW_OF_A), session.transaction():
        await session.fetch("select from onetake.generation where id = $1 for update", of_b[3])
        rows = await database.quickly(
            """select outcome, refusal ->> 'scope_key' as by from onetake.reserve_many($1, array_fill(1, '{7}'), $2,
            array_fill(null::text, '{7}'), array_fill(null::text, '{7}'), array_fill('r'::text, '{7}'),
            array_fill('apixo'::text, '{7}'), $3, array_fill('s'::text, '{7}'), array_fill('v'::text, '{7}'), true)""",
            ids,
            tenants,
            amounts,
        )
    await session.close()
    outcomes = ["locked", "held", "held", "unknown", "refused", "locked", "held"]
    assert [row["outcome"] for row in rows] == outcomes
    assert [row["by"] for row in rows] == [None, None, None, None, "b", None, None]
    assert await violations(database) == []


async def test_while_one_call_finds_out_the_others_wait_and_when_it_gets_through_they_go_on() -> None:
    lanes, got_through, sent = Lanes(width=1), asyncio.Event(), list[str]()

    async def quick() -> str:
        sent.append("quick")
        if not got_through.is_set():
            raise Locked
        return "quick"

    async def slow() -> str:
        sent.append("slow")
        await got_through.wait()
        return "slow"

    async def other() -> str:
        return "other"

    calls = [asyncio.create_task(lanes.run("a", quick, slow)) for _ in range(5)]
    assert await lanes.run("b", other, other) == "other"
    while "slow" not in sent:
        await asyncio.sleep(0)
    assert sent == ["quick", "slow"], "the others did not ask for the lock"
    assert lanes.is_stuck("a")
    got_through.set()
    assert await asyncio.gather(*calls) == ["slow", *["quick"] * 4]
    assert not lanes.is_stuck("a")


async def test_only_so_many_wait_and_the_rest_are_told_to_come_later() -> None:
    lanes, got_through = Lanes(width=1), asyncio.Event()

    async def quick() -> None:
        if not got_through.is_set():
            raise Locked

    async def slow() -> None:
        await got_through.wait()

    calls = [asyncio.create_task(lanes.run("a", quick, slow)) for _ in range(MOST_WAITING + 11)]
    while sum(call.done() for call in calls) < 10:
        await asyncio.sleep(0)
    got_through.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in ends].count(Locked) == 10
