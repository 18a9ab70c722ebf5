"""Every rule of the query over the ledger bites: one that is right, and then one thing written into it by hand."""

from collections.abc import Awaitable, Callable

import pytest

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.ledger import Budgets, Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.database import Session, connect_once
from onetake.ledger.invariants import violations

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
USD = 1_000_000

# What is written by hand, and the number of the invariant that must notice.
DOCTORED = {
    "update onetake.event set available_micros = '{-1}' where kind = 'hold'": "I1",
    "update onetake.budget_window set spent_micros = spent_micros + 1": "I1",
    "delete from onetake.event where kind = 'post'": "I2",
    "update onetake.event set amount_micros = 1 where kind = 'hold'": "I2",
    "update onetake.hold set actual_micros = 1": "I3",
    "update onetake.submission set sent_at = sent_at - interval '1 hour'": "I5",
    "update onetake.hold set state = 'held', actual_micros = null, resolved_at = null": "I7",
    "insert into onetake.correction (generation_id, who, why, from_status, to_status)"
    " select id, 'x', 'x', 'failed', 'canceled' from onetake.generation": "I10",
    """update onetake.generation set plan = '{"price": {"amount_micros": 7}}'""": "I28",
    """update onetake.generation set plan = '{"reported_cost_most": "0.9"}'""": "I29",
    "update onetake.submission set state = 'ambiguous', vendor_task_id = null;"
    " update onetake.hold set state = 'released', actual_micros = null": "F035",
    "delete from onetake.hold": "I30",
    "delete from onetake.generation": "I30",
    "update onetake.spend set posted_micros = posted_micros + 1": "I2",
    "update onetake.spend set generations = 2 where status_class = 'completed'": "I2",
    "update onetake.spend set local_day = local_day + 1": "I2",
    "delete from onetake.spend where status_class = 'open'": "I2",
}


@pytest.fixture
async def forger(database_url: str) -> Session:
    """A session for which no trigger fires."""
    session = await connect_once(database_url)
    await session.execute("set session_replication_role = replica")
    return session


@pytest.mark.parametrize("statement", DOCTORED)
async def test_a_book_doctored_by_hand_is_noticed(  # noqa: PLR0917 - fixtures
    database: Database,
    budgets: Budgets,
    ledger: PostgresLedger,
    submissions: PostgresSubmissions,
    accept: Accept,
    order: Order,
    begin: Callable[..., Awaitable[object]],
    forger: Session,
    statement: str,
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 5 * USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await begin(generation_id)
    await submissions.record(generation_id, 1, state="accepted", vendor_task_id="task_1")
    await ledger.settle(
        SettleInput(generation_id=generation_id, attempt=1, tenant="acme", status="completed", resolution="post")
    )
    assert await violations(database) == []
    await forger.execute(statement)
    await forger.close()
    assert DOCTORED[statement] in {line.partition(" ")[0] for line in await violations(database)}
