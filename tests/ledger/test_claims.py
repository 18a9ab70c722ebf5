"""Which job is ours: the id that a POST was answered with is held against what tokens named, and against its age."""

from collections.abc import Awaitable, Callable

import pytest

from onetake.core.contracts import ErrorInfo, ReserveInput
from onetake.core.errors import Failed
from onetake.core.ports import Begun
from onetake.ledger import Callbacks, Database, PostgresLedger, PostgresSubmissions

Accept = Callable[..., Awaitable[str]]
Begin = Callable[..., Awaitable[Begun]]
Sent = Callable[[str], Awaitable[str]]
Named = Callable[[str, str], Awaitable[None]]


@pytest.fixture
def sent(ledger: PostgresLedger, accept: Accept, order: Callable[..., ReserveInput], begin: Begin) -> Sent:
    """Make a generation whose submission was sent with this token."""

    async def sent(token: str) -> str:
        generation_id = await accept()
        await ledger.reserve(order(generation_id))
        await begin(generation_id, token=token)
        return generation_id

    return sent


@pytest.fixture
def named(callbacks: Callbacks) -> Named:
    """A callback with this token that names this job."""

    async def named(token: str, task_id: str) -> None:
        body = (task_id * 32).encode()[:32]
        wake = await callbacks.take(
            "apixo", token, claimed_task_id=task_id, claimed_state="success", body_sha256=body, size_bytes=9
        )
        assert wake is not None

    return named


async def taken(submissions: PostgresSubmissions, generation_id: str, task_id: str) -> str:
    """How an acceptance with this id is recorded: the state, or the error."""
    try:
        return (await submissions.record(generation_id, 1, state="accepted", vendor_task_id=task_id)).state
    except Failed as failed:
        return failed.code


async def ends(submissions: PostgresSubmissions, generation_id: str, least_age_s: float | None = None) -> bool:
    return await submissions.note_end(generation_id, 1, failed=False, shows_charge=False, least_age_s=least_age_s)


async def test_an_id_that_contradicts_what_our_own_token_named_is_not_accepted(
    submissions: PostgresSubmissions, sent: Sent, named: Named
) -> None:
    ours = await sent("ours")
    await named("ours", "job-ours")
    assert await taken(submissions, ours, "job-theirs") == "vendor_protocol_error"
    stored = await submissions.read(ours, 1)
    assert stored is not None
    assert (stored.state, stored.vendor_task_id) == ("sending", None)
    await submissions.record(ours, 1, state="ambiguous", error=ErrorInfo.of("vendor_protocol_error"))
    assert await taken(submissions, ours, "job-ours") == "accepted"


async def test_an_id_that_only_another_token_named_is_not_accepted(
    submissions: PostgresSubmissions, sent: Sent, named: Named
) -> None:
    ours, theirs = await sent("ours"), await sent("theirs")
    await named("theirs", "job-theirs")
    assert await taken(submissions, ours, "job-theirs") == "vendor_protocol_error"
    assert await taken(submissions, theirs, "job-theirs") == "accepted"


async def test_an_id_that_nobody_or_our_own_token_named_is_accepted(
    submissions: PostgresSubmissions, sent: Sent, named: Named
) -> None:
    quiet, ours = await sent("quiet"), await sent("ours")
    await named("ours", "job-odd")
    await named("ours", "job-ours")
    assert await taken(submissions, ours, "job-ours") == "accepted"
    assert await taken(submissions, quiet, "job-quiet") == "accepted"


async def test_an_accepted_submission_is_given_the_job_that_its_token_named(
    database: Database, submissions: PostgresSubmissions, sent: Sent
) -> None:
    ours, theirs = await sent("ours"), await sent("theirs")
    await taken(submissions, ours, "job-theirs")
    assert await submissions.reassign(ours, 1, wrong="job-theirs", right="job-ours") == "job-ours"
    assert await submissions.reassign(ours, 1, wrong="job-theirs", right="job-x") == "job-ours", "it was right already"
    row = await database.row("select vendor_task_id from onetake.generation where id = $1", ours)
    assert row is not None
    assert row["vendor_task_id"] == "job-ours"
    assert await taken(submissions, theirs, "job-theirs") == "accepted", "it is free again"
    assert await submissions.reassign(theirs, 1, wrong="job-theirs", right="job-ours") == "job-theirs", "it is taken"


async def test_the_end_of_a_job_that_only_another_token_named_is_not_ours(
    database: Database, submissions: PostgresSubmissions, sent: Sent, named: Named
) -> None:
    """The other order's callback came after its id was taken for ours."""
    ours, _ = await sent("ours"), await sent("theirs")
    await taken(submissions, ours, "job-theirs")
    assert await ends(submissions, ours)
    await named("theirs", "job-theirs")
    await database.row("delete from onetake.job_end")
    assert not await ends(submissions, ours)
    assert await database.rows("select from onetake.job_end") == []


@pytest.mark.parametrize("token", ["ours", "settled"])
async def test_whoever_knows_a_token_cannot_take_the_end_of_a_job_away(
    submissions: PostgresSubmissions, sent: Sent, named: Named, token: str
) -> None:
    """It is said that ours is another job, or that our job is of an order that knows its own."""
    ours, settled = await sent("ours"), await sent("settled")
    assert await taken(submissions, ours, "job-ours") == "accepted"
    assert await taken(submissions, settled, "job-settled") == "accepted"
    await named(token, "job-forged" if token == "ours" else "job-ours")
    assert await ends(submissions, ours)


async def test_the_end_of_a_job_that_was_made_before_our_post_is_not_ours(
    submissions: PostgresSubmissions, sent: Sent
) -> None:
    ours = await sent("ours")
    await taken(submissions, ours, "job-1")
    assert not await ends(submissions, ours, least_age_s=40.0)
    for age_s in (None, -100.0, 0.0):
        assert await ends(submissions, ours, least_age_s=age_s)
    assert not await ends(submissions, ours, least_age_s=1e12)


async def test_of_a_submission_that_was_sent_twice_the_job_may_be_as_old_as_its_hold(
    database: Database, submissions: PostgresSubmissions, sent: Sent, begin: Begin
) -> None:
    ours = await sent("ours")
    await database.row("update onetake.hold set created_at = created_at - interval '2 minutes'")
    await submissions.record(ours, 1, state="not_sent", post=1)
    await begin(ours, token="again")
    await taken(submissions, ours, "job-1")
    assert await ends(submissions, ours, least_age_s=60.0)
    assert not await ends(submissions, ours, least_age_s=180.0)
