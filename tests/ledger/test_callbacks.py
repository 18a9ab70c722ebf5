"""A callback is stored under its token and believed in nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.ports import Begun
from onetake.ledger import Callbacks, Database, PostgresLedger, PostgresSubmissions, Wake
from onetake.ledger.callbacks import MAX_BODIES_PER_TOKEN

TOKEN = "t" * 22
LONG_S = 3600.0  # between two signals: no test lasts so long


@pytest.fixture
async def sent(
    ledger: PostgresLedger,
    accept: Callable[..., Awaitable[str]],
    order: Callable[..., ReserveInput],
    begin: Callable[..., Awaitable[Begun]],
) -> str:
    """A generation whose submission was begun with TOKEN."""
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await begin(generation_id, token=TOKEN)
    return generation_id


async def take(
    callbacks: Callbacks, token: str = TOKEN, *, vendor: str = "apixo", task: str | None = "task-1", body: str = "{}"
) -> Wake | None:
    return await callbacks.take(
        vendor,
        token,
        claimed_task_id=task,
        claimed_state="success",
        body_sha256=sha256(body.encode()).digest(),
        size_bytes=len(body),
    )


async def taken(callbacks: Callbacks, **given: str) -> Wake:
    wake = await take(callbacks, **given)
    assert wake is not None
    return wake


async def settle(ledger: PostgresLedger, generation_id: str, resolution: str) -> None:
    settlement = {
        "generation_id": generation_id,
        "attempt": 1,
        "tenant": "acme",
        "status": "failed",
        "resolution": resolution,
    }
    await ledger.settle(SettleInput.model_validate(settlement))


async def unsignalled(callbacks: Callbacks) -> list[str | None]:
    """The claims of what is due."""
    return [wake.claimed_task_id for wake in await callbacks.unsignalled(older_than_s=-1, limit=10)]


async def test_a_token_leads_to_its_generation(callbacks: Callbacks, sent: str) -> None:
    wake = await taken(callbacks)
    assert (wake.generation_id, wake.attempt, wake.tenant, wake.workflow_id) == (sent, 1, "acme", f"gen/acme/{sent}")
    assert (wake.ended, wake.suspended, wake.is_due) == (False, False, True)


@pytest.mark.parametrize(("resolution", "suspended"), [("suspend", True), ("post", False)])
async def test_a_token_outlives_the_generation_and_is_due_while_its_hold_is_in_suspense(
    callbacks: Callbacks, ledger: PostgresLedger, sent: str, resolution: str, suspended: bool
) -> None:
    await settle(ledger, sent, resolution)
    wake = await taken(callbacks)
    assert (wake.ended, wake.suspended, wake.is_due) == (True, suspended, suspended)
    assert len(await unsignalled(callbacks)) == suspended


@pytest.mark.parametrize(("token", "vendor"), [("x" * 22, "apixo"), (TOKEN, "gmi"), ("\udce9", "apixo"), ("", "apixo")])
@pytest.mark.usefixtures("sent")
async def test_a_token_never_given_to_this_vendor_stores_nothing(
    callbacks: Callbacks, database: Database, token: str, vendor: str
) -> None:
    assert await take(callbacks, token, vendor=vendor) is None
    assert await database.rows("select from onetake.callback_inbox") == []


@pytest.mark.usefixtures("sent")
async def test_equal_bodies_are_counted_in_one_row(callbacks: Callbacks, database: Database) -> None:
    for _ in range(20):
        await take(callbacks)
    (row,) = await database.rows("select seen, last_seen_at > received_at as later from onetake.callback_inbox")
    assert (row["seen"], row["later"]) == (20, True)


@pytest.mark.usefixtures("sent")
async def test_what_comes_at_the_same_time_is_counted_and_answered_each(
    callbacks: Callbacks, database: Database
) -> None:
    given = [(TOKEN, "a"), (TOKEN, "b"), ("x" * 22, "a"), (TOKEN, "a")] * 100
    wakes = await asyncio.gather(*(take(callbacks, token, task=body, body=body) for token, body in given))
    assert [wake and wake.claimed_task_id for wake in wakes] == ["a", "b", None, "a"] * 100
    rows = await database.rows("select claimed_task_id, seen from onetake.callback_inbox order by claimed_task_id")
    assert [tuple(row.values()) for row in rows] == [("a", 200), ("b", 100)]


@pytest.mark.usefixtures("sent")
async def test_a_flood_of_different_bodies_is_capped_counted_and_never_lost(
    callbacks: Callbacks, database: Database
) -> None:
    most = MAX_BODIES_PER_TOKEN
    for number in range(most - 5):
        await taken(callbacks, body=str(number))
    flood = [taken(callbacks, body=str(number), task=str(number)) for number in range(most - 5, most + 45)]
    last = (await asyncio.gather(*flood))[-1]
    await taken(callbacks, body="0")
    rows = await database.rows("select seen, claimed_task_id from onetake.callback_inbox order by seen desc")
    assert (len(rows), [row["seen"] for row in rows[:3]]) == (most + 1, [45, 2, 1])
    assert rows[0]["claimed_task_id"] is None
    await callbacks.woken(last)
    await taken(callbacks, body="one more")
    assert len(await unsignalled(callbacks)) == 1


async def test_claims_are_kept_in_order_without_what_is_no_id(
    callbacks: Callbacks, submissions: PostgresSubmissions, sent: str
) -> None:
    claims = ["task-2", "task-1", "task-2", "x" * 257, "a\nb", "a\x00b", "", None]
    for number, claim in enumerate(claims):
        await take(callbacks, task=claim, body=str(number))
    assert await submissions.claims(sent, 1) == ("task-2", "task-1")
    assert await submissions.claims(sent, 2) == ()


@pytest.mark.usefixtures("sent")
async def test_what_came_after_a_signal_began_is_still_due(callbacks: Callbacks) -> None:
    wake = await taken(callbacks)
    assert await unsignalled(callbacks) == ["task-1"]
    await taken(callbacks, task="task-2", body="later")
    await callbacks.woken(wake)
    assert await unsignalled(callbacks) == ["task-2"]
    await callbacks.woken(await taken(callbacks, task="task-2", body="later"))
    assert await unsignalled(callbacks) == []
    again = await taken(callbacks)
    assert await unsignalled(callbacks) == ["task-1"]
    await callbacks.woken(again)
    assert await unsignalled(callbacks) == []


async def test_a_signal_to_a_run_that_was_ending_leads_to_its_recovery_once(
    callbacks: Callbacks, ledger: PostgresLedger, sent: str
) -> None:
    early = await taken(callbacks)
    await callbacks.woken(early)
    late = await taken(callbacks, task="task-2", body="late")
    await settle(ledger, sent, "suspend")
    await callbacks.woken(late)
    (due,) = await callbacks.unsignalled(older_than_s=-1, limit=10)
    assert (due.claimed_task_id, due.suspended) == ("task-2", True)
    await callbacks.woken(due)
    assert await unsignalled(callbacks) == []
    await taken(callbacks)
    assert await unsignalled(callbacks) == ["task-1"]


async def test_what_the_run_heard_in_good_time_leads_to_its_recovery_too(
    callbacks: Callbacks, ledger: PostgresLedger, sent: str
) -> None:
    await callbacks.woken(await taken(callbacks))
    await settle(ledger, sent, "suspend")
    (due,) = await callbacks.unsignalled(older_than_s=-1, limit=10)
    await callbacks.woken(due)
    assert await unsignalled(callbacks) == []


async def test_nothing_is_due_of_what_ended_otherwise(
    callbacks: Callbacks, ledger: PostgresLedger, database: Database, sent: str
) -> None:
    heard = await taken(callbacks)
    await settle(ledger, sent, "post")
    assert await unsignalled(callbacks) == []
    rows = await database.rows("select from onetake.callback_inbox where signalled_at is null")
    assert rows == []
    await callbacks.woken(replace(heard, heard_at=heard.heard_at + timedelta(days=1)))


@pytest.mark.usefixtures("sent")
async def test_no_raw_token_is_stored(database: Database) -> None:
    (row,) = await database.rows("select token_sha256 from onetake.callback_token")
    assert row["token_sha256"] == sha256(TOKEN.encode()).digest()


async def test_of_several_gateways_one_has_the_turn_and_the_next_comes_an_interval_later(
    database: Database, sent: str
) -> None:
    """The limit is the deployment's: two gateways are two clients of one database."""
    assert sent
    callbacks, other = (Callbacks(database, wake_every_s=LONG_S) for _ in range(2))
    first, second = await taken(callbacks, body="1"), await taken(other, body="2")
    assert (first.has_turn, second.has_turn) == (True, False)
    assert 0 < (await other.turn_s(second) or 0) <= LONG_S
    await callbacks.woken(first)
    assert 0 < (await other.turn_s(second) or 0) <= LONG_S  # the second was not heard by then
    await database.row("update onetake.callback_token set wake_after = now()")
    assert await other.turn_s(second) == 0
    assert (await callbacks.turn_s(second) or 0) > 0
    await other.woken(second)
    assert await callbacks.turn_s(second) is None


async def test_of_callbacks_that_come_together_one_has_the_turn(database: Database, sent: str) -> None:
    assert sent
    callbacks = Callbacks(database, wake_every_s=LONG_S)
    wakes = await asyncio.gather(*(taken(callbacks, body=str(number)) for number in range(20)))
    assert [wake.has_turn for wake in wakes].count(True) == 1


async def test_whoever_is_to_wake_nobody_takes_no_turn(
    callbacks: Callbacks, database: Database, ledger: PostgresLedger, sent: str
) -> None:
    await settle(ledger, sent, "post")
    assert not (await taken(callbacks)).has_turn
    row = await database.answer("select wake_after from onetake.callback_token")
    assert row["wake_after"] is None
