"""A callback is stored under its token and believed in nothing."""

from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest

from onetake.contracts import ReserveInput, SettleInput
from onetake.ledger import Callbacks, Database, PostgresLedger, PostgresSubmissions, TokenTarget
from onetake.ledger.callbacks import MAX_BODIES_PER_TOKEN
from onetake.ports import Begun

TOKEN = "t" * 22


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
) -> TokenTarget | None:
    return await callbacks.take(
        vendor,
        token,
        claimed_task_id=task,
        claimed_state="success",
        body_sha256=sha256(body.encode()).digest(),
        size_bytes=len(body),
    )


async def test_a_token_leads_to_its_generation(callbacks: Callbacks, sent: str) -> None:
    target = await take(callbacks)
    assert target is not None
    assert (target.generation_id, target.attempt, target.ended) == (sent, 1, False)
    assert target.workflow_id == f"gen/acme/{sent}"


async def test_a_token_outlives_the_generation(callbacks: Callbacks, ledger: PostgresLedger, sent: str) -> None:
    settlement = {"generation_id": sent, "attempt": 1, "status": "canceled", "resolution": "suspend"}
    await ledger.settle(SettleInput.model_validate(settlement))
    target = await take(callbacks)
    assert target is not None
    assert target.ended


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
async def test_a_flood_of_different_bodies_is_capped_and_still_answered(
    callbacks: Callbacks, database: Database
) -> None:
    answers = [await take(callbacks, body=str(number)) for number in range(MAX_BODIES_PER_TOKEN + 5)]
    assert None not in answers
    assert len(await database.rows("select from onetake.callback_inbox")) == MAX_BODIES_PER_TOKEN
    assert await take(callbacks, body="0") is not None
    row = await database.answer("select max(seen) as seen from onetake.callback_inbox")
    assert row["seen"] == 2


async def test_claims_are_kept_in_order_without_what_is_no_id(
    callbacks: Callbacks, submissions: PostgresSubmissions, sent: str
) -> None:
    claims = ["task-2", "task-1", "task-2", "x" * 257, "a\nb", "a\x00b", "", None]
    for number, claim in enumerate(claims):
        await take(callbacks, task=claim, body=str(number))
    assert await submissions.claims(sent, 1) == ("task-2", "task-1")
    assert await submissions.claims(sent, 2) == ()


@pytest.mark.usefixtures("sent")
async def test_what_was_signalled_is_noted(callbacks: Callbacks, database: Database) -> None:
    target = await take(callbacks)
    assert target is not None
    await callbacks.signalled(target.token_sha256)
    await take(callbacks, body="later")
    rows = await database.rows("select signalled_at is not null as done from onetake.callback_inbox order by id")
    assert [row["done"] for row in rows] == [True, False]


@pytest.mark.usefixtures("sent")
async def test_no_raw_token_is_stored(database: Database) -> None:
    (row,) = await database.rows("select token_sha256 from onetake.callback_token")
    assert row["token_sha256"] == sha256(TOKEN.encode()).digest()
