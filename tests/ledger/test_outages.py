"""When the database is away, slow or dies in the middle, the caller may try again, and nothing counts twice."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from onetake.core.contracts import ReserveInput
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.ledger import Budgets, Database, PostgresGenerations, PostgresLedger
from onetake.ledger.database import Session, connect_once
from onetake.ledger.invariants import violations
from tests.servers import LIMIT_S
from tests.system.relay import Relay, relayed

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]

# Other tests may use the same server.
BLOCKED = "from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.fixture
async def relay(database_url: str) -> AsyncIterator[tuple[Relay, str]]:
    """The relay and the database's address through it."""
    async with relayed(database_url) as made:
        yield made


@pytest.mark.parametrize("batch", [1, 3])
async def test_an_answer_lost_after_the_commit_leaves_one_hold(
    relay: tuple[Relay, str], database: Database, budgets: Budgets, accept: Accept, order: Order, batch: int
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 100_000_000)
    line, url = relay
    through = await Database.connect(url, pool_size=1)
    ledger = PostgresLedger(through)
    ids = [await accept() for _ in range(batch)]
    for _ in range(2):  # prepares the statements, so that the next call is a single round trip
        ready = [order(await accept()) for _ in range(batch)]
        await asyncio.gather(*map(ledger.reserve, ready))

    line.losing = True
    lost = await asyncio.gather(*(ledger.reserve(order(one)) for one in ids), return_exceptions=True)
    assert [type(one) for one in lost] == [TryLater] * batch
    assert len(await _holds(database, ids)) == batch, "the server had committed"

    line.losing = False
    again = await asyncio.gather(*(ledger.reserve(order(one)) for one in ids))
    assert {one.budgets for one in again} == {1}
    assert len(await _holds(database, ids)) == batch
    assert await violations(database) == []
    await through.close()


async def test_a_session_killed_before_the_commit_leaves_nothing_and_the_retry_one_hold(
    database: Database, database_url: str, budgets: Budgets, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 100_000_000)
    await ledger.reserve(order(await accept()))
    generation_id, blocker = await accept(), await connect_once(database_url)
    async with blocker.transaction():
        await blocker.execute("select from onetake.budget_window for update")
        reserving = asyncio.create_task(ledger.reserve(order(generation_id)))
        await _until_blocked(blocker)
        await blocker.execute(f"select pg_terminate_backend(pid) {BLOCKED}")
        with pytest.raises(TryLater):
            await reserving
    await blocker.close()
    assert await _holds(database, [generation_id]) == []
    await ledger.reserve(order(generation_id))
    assert len(await _holds(database, [generation_id])) == 1
    assert await violations(database) == []


async def test_the_pool_recovers_by_itself(database: Database, database_url: str) -> None:
    await asyncio.gather(*(database.health() for _ in range(4)))
    killer = await connect_once(database_url)
    await killer.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    await killer.close()
    async with asyncio.timeout(LIMIT_S):
        while not await _healthy(database):
            await asyncio.sleep(0.05)


async def test_a_read_only_database_is_for_later(
    database_url: str, database: Database, accept: Accept, order: Order
) -> None:
    generation_id = await accept()
    await database.row(f"alter database {database_url.rsplit('/', 1)[1]} set default_transaction_read_only = on")
    frozen = await Database.connect(database_url)
    with pytest.raises(TryLater, match="read-only") as later:
        await PostgresLedger(frozen).reserve(order(generation_id))
    assert later.value.code == "ledger_unavailable"
    assert await PostgresGenerations(frozen).get(generation_id) is not None
    await frozen.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("127.0.0.1", "s3cret.invalid"), "ledger_unavailable"),
        (("onetake:", "onetake:s3cret"), "ledger_unavailable"),
        (("onetake:", "s3cret:"), "ledger_unavailable"),
        (("/test_", "/s3cret_"), "ledger_unavailable"),
        (("postgresql://", "mysql://s3cret"), "settings_invalid"),
        (("postgresql://", "postgresql://s3cret@h:99999999/"), "settings_invalid"),
    ],
)
async def test_an_address_that_does_not_work_is_told_without_its_secrets(
    database_url: str, change: tuple[str, str], code: str
) -> None:
    with pytest.raises(OnetakeError) as failed:
        await Database.connect(database_url.replace(*change))
    assert failed.value.code == code
    assert "s3cret" not in "".join(traceback.format_exception(failed.value))


async def test_a_broken_rule_is_told_without_the_row(generations: PostgresGenerations, accept: Accept) -> None:
    generation_id = await accept(prompt="a canary prompt")
    with pytest.raises(Failed) as failed:
        await generations.enter(generation_id, "done")
    assert (failed.value.code, "generation_check" in str(failed.value)) == ("internal_error", True)
    assert "canary" not in "".join(traceback.format_exception(failed.value))


async def _holds(database: Database, ids: list[str]) -> list[str]:
    rows = await database.rows("select generation_id from onetake.hold where generation_id = any ($1)", ids)
    return [row["generation_id"] for row in rows]


async def _until_blocked(session: Session) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await session.fetchval(f"select count(*) {BLOCKED}"):
            await asyncio.sleep(0.01)


async def _healthy(database: Database) -> bool:
    try:
        await database.health()
    except TryLater:
        return False
    return True
