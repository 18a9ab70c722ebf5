"""What callbacks left is forgotten long after the end, and nothing else ever is."""

from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.ports import Begun
from onetake.ledger import Callbacks, Database, PostgresLedger
from onetake.ledger.database import connect_once
from onetake.ledger.invariants import violations
from onetake.ledger.pruning import Pruned, prune

DAYS = 30
KEPT = ("generation", "hold", "submission", "event")


@pytest.fixture
def ended(
    ledger: PostgresLedger,
    callbacks: Callbacks,
    accept: Callable[..., Awaitable[str]],
    order: Callable[..., ReserveInput],
    begin: Callable[..., Awaitable[Begun]],
) -> Callable[..., Awaitable[str]]:
    """Make a generation with one callback, which ends so."""

    async def make(resolution: str | None) -> str:
        generation_id = await accept()
        await ledger.reserve(order(generation_id))
        token = f"{generation_id}-token"
        await begin(generation_id, token=token)
        body = sha256(b"{}").digest()
        wake = await callbacks.take(
            "apixo", token, claimed_task_id="t", claimed_state="success", body_sha256=body, size_bytes=2
        )
        assert wake is not None
        if resolution:
            settlement = {"generation_id": generation_id, "attempt": 1, "tenant": "acme", "status": "failed"}
            await ledger.settle(SettleInput.model_validate(settlement | {"resolution": resolution}))
        return generation_id

    return make


async def age(database: Database, days: int) -> None:
    """As if everything had happened so many days before."""
    past = f"- interval '{days} days'"
    await database.row(f"update onetake.callback_inbox set last_seen_at = last_seen_at {past}")
    await database.row(f"update onetake.callback_token set created_at = created_at {past}")
    await database.row(f"update onetake.generation set ended_at = ended_at {past}")


async def counted(database: Database) -> dict[str, int]:
    tables = (*KEPT, "callback_token", "callback_inbox")
    return {name: (await database.answer(f"select count(*) as n from onetake.{name}"))["n"] for name in tables}


async def test_callbacks_of_old_ends_are_forgotten_and_nothing_else(
    database: Database, ended: Callable[..., Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onetake.ledger.pruning.PAGE", 1)
    for _ in range(3):
        await ended("post")
    before = await counted(database)
    assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=0, callbacks=0)
    await age(database, DAYS + 1)
    assert await prune(database, days=DAYS, dry_run=True) == Pruned(tokens=3, callbacks=3)
    assert await counted(database) == before
    assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=3, callbacks=3)
    assert await counted(database) == before | {"callback_token": 0, "callback_inbox": 0}
    assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=0, callbacks=0)
    assert await violations(database) == []


@pytest.mark.parametrize("resolution", [None, "suspend"], ids=["open", "in suspense"])
async def test_what_may_still_be_needed_is_kept(
    database: Database, ended: Callable[..., Awaitable[str]], resolution: str | None
) -> None:
    await ended(resolution)
    await age(database, 365)
    assert await prune(database, days=DAYS, dry_run=True) == Pruned(tokens=0, callbacks=0)
    assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=0, callbacks=0)
    assert (await counted(database))["callback_inbox"] == 1


async def test_a_token_that_still_hears_of_its_job_is_kept(
    database: Database, ended: Callable[..., Awaitable[str]]
) -> None:
    await ended("post")
    await age(database, DAYS + 1)
    await database.row("update onetake.callback_inbox set last_seen_at = now()")
    assert await prune(database, days=DAYS, dry_run=True) == Pruned(tokens=0, callbacks=0)
    assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=0, callbacks=0)


async def test_a_token_whose_callback_is_being_stored_is_left_to_the_next_time(
    database: Database, database_url: str, ended: Callable[..., Awaitable[str]]
) -> None:
    await ended("post")
    busy = await ended("post")
    await age(database, DAYS + 1)
    gateway = await connect_once(database_url, limit_s=240)
    try:
        async with gateway.transaction():
            await gateway.execute(
                """insert into onetake.callback_inbox (vendor, token_sha256, body_sha256, size_bytes)
                   select 'apixo', token_sha256, sha256('another'), 2 from onetake.callback_token
                   where generation_id = $1""",
                busy,
            )
            assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=1, callbacks=1)
        assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=0, callbacks=0)
    finally:
        await gateway.close()
    await age(database, DAYS + 1)
    assert await prune(database, days=DAYS, dry_run=False) == Pruned(tokens=1, callbacks=2)
