"""An intent is committed once for each POST, and its outcome is decided once, whoever comes late."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from onetake.core.contracts import ErrorInfo, ReserveInput, SettleInput, Submission
from onetake.core.errors import Failed
from onetake.core.ports import Account, Begun, Bracket, Undisturbed
from onetake.ledger import Database, PostgresGenerations, PostgresLedger, PostgresSubmissions

Accept = Callable[..., Awaitable[str]]
Begin = Callable[..., Awaitable[Begun]]
Hold = Callable[[], Awaitable[str]]
Bracketed = Callable[[str], Awaitable[None]]

ACCOUNT = Account(Decimal("880.25"), Decimal(120))
DOUBT = ErrorInfo(code="submission_outcome_unknown", message="m", hint="h")


@pytest.fixture
async def held(ledger: PostgresLedger, accept: Accept, order: Callable[..., ReserveInput]) -> str:
    """A generation with its hold."""
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    return generation_id


@pytest.fixture
def hold(ledger: PostgresLedger, accept: Accept, order: Callable[..., ReserveInput]) -> Hold:
    """Make another generation with its hold."""

    async def hold() -> str:
        generation_id = await accept()
        await ledger.reserve(order(generation_id))
        return generation_id

    return hold


@pytest.fixture
def bracketed(submissions: PostgresSubmissions) -> Bracketed:
    """Begin a submission with our account as it was read just before."""

    async def bracketed(generation_id: str) -> None:
        at = await submissions.idle_at("apixo")
        assert at is not None
        await submissions.begin(
            generation_id,
            1,
            vendor="apixo",
            token_sha256=bytes(32),
            request_sha256=bytes(32),
            seed=7,
            bracket=Bracket(ACCOUNT, at),
        )

    return bracketed


async def end(ledger: PostgresLedger, generation_id: str) -> None:
    settlement = {
        "generation_id": generation_id,
        "attempt": 1,
        "tenant": "acme",
        "status": "canceled",
        "resolution": "suspend",
    }
    await ledger.settle(SettleInput.model_validate(settlement))


async def test_only_one_of_many_callers_may_send(begin: Begin, held: str) -> None:
    begun = await asyncio.gather(*(begin(held) for _ in range(16)))
    assert sorted(one.fresh for one in begun) == [False] * 15 + [True]
    assert {one.submission.state for one in begun} == {"sending"}


async def test_a_definite_not_sent_allows_one_more_post_with_a_new_token(
    begin: Begin, submissions: PostgresSubmissions, database: Database, held: str
) -> None:
    assert (await begin(held)).fresh
    await submissions.record(
        held, 1, state="not_sent", error=ErrorInfo(code="vendor_unreachable", message="m", hint="h")
    )
    begun = await asyncio.gather(*(begin(held) for _ in range(8)))
    assert sum(one.fresh for one in begun) == 1
    row = await database.answer(
        "select s.posts, (select count(*) from onetake.callback_token) t from onetake.submission s"
    )
    assert (row["posts"], row["t"]) == (2, 2)
    assert (await submissions.read(held, 1)) == begun[0].submission


@pytest.mark.parametrize("state", ["sending", "accepted", "rejected", "ambiguous"])
async def test_after_anything_else_nobody_sends_again(
    begin: Begin, submissions: PostgresSubmissions, held: str, state: Any
) -> None:
    await begin(held)
    await submissions.record(held, 1, state=state, vendor_task_id="task-1" if state == "accepted" else None)
    again = await begin(held)
    assert (again.fresh, again.submission.state) == (False, state)


async def test_without_a_hold_nothing_can_be_begun(begin: Begin, accept: Accept) -> None:
    with pytest.raises(Failed, match="submission_generation_id_attempt_fkey"):
        await begin(await accept())


async def test_an_ended_generation_sends_nothing(
    begin: Begin, ledger: PostgresLedger, submissions: PostgresSubmissions, held: str
) -> None:
    await end(ledger, held)
    begun = await begin(held)
    assert (begun.fresh, begun.submission.state) == (False, "not_sent")
    assert await submissions.read(held, 1) == Submission(state="not_sent")


async def test_an_acceptance_gives_the_generation_its_task_and_phase(
    begin: Begin, submissions: PostgresSubmissions, generations: PostgresGenerations, held: str
) -> None:
    await begin(held)
    assert (await _state(generations, held)) == ("submitting", None)
    stored = await submissions.record(held, 1, state="accepted", vendor_task_id="task-1", reported_micros=5)
    assert (stored.state, stored.vendor_task_id, stored.reported_micros) == ("accepted", "task-1", 5)
    assert (await _state(generations, held)) == ("generating", "task-1")


async def test_an_unknown_outcome_shows_as_resolving_and_may_still_become_known(
    begin: Begin, submissions: PostgresSubmissions, generations: PostgresGenerations, held: str
) -> None:
    await begin(held)
    await submissions.record(held, 1, state="ambiguous")
    assert (await _state(generations, held)) == ("resolving", None)
    assert (await submissions.record(held, 1, state="not_sent")).state == "ambiguous"
    assert (await submissions.record(held, 1, state="accepted", vendor_task_id="task-1")).state == "accepted"
    assert (await _state(generations, held)) == ("generating", "task-1")


async def test_an_acceptance_is_final(begin: Begin, submissions: PostgresSubmissions, held: str) -> None:
    await begin(held)
    await submissions.record(held, 1, state="accepted", vendor_task_id="task-1")
    for state in ("ambiguous", "rejected", "not_sent", "sending"):
        assert (await submissions.record(held, 1, state=state)).state == "accepted"
    late = await submissions.record(held, 1, state="accepted", vendor_task_id="task-2")
    assert late.vendor_task_id == "task-1"


async def test_the_first_of_two_outcomes_wins_a_race(begin: Begin, submissions: PostgresSubmissions, held: str) -> None:
    await begin(held)
    stored = await asyncio.gather(
        submissions.record(held, 1, state="rejected"),
        submissions.record(held, 1, state="accepted", vendor_task_id="task-1"),
        submissions.record(held, 1, state="not_sent"),
    )
    assert len({one.state for one in stored}) == 1


async def test_a_late_acceptance_is_kept_and_does_not_reopen_the_generation(
    begin: Begin, ledger: PostgresLedger, submissions: PostgresSubmissions, generations: PostgresGenerations, held: str
) -> None:
    await begin(held)
    await end(ledger, held)
    assert (await submissions.record(held, 1, state="accepted", vendor_task_id="task-1")).state == "accepted"
    assert (await _state(generations, held)) == ("done", "task-1")


async def test_one_task_id_belongs_to_one_submission(
    begin: Begin,
    ledger: PostgresLedger,
    submissions: PostgresSubmissions,
    accept: Accept,
    order: Callable[..., ReserveInput],
    held: str,
) -> None:
    second = await accept()
    await ledger.reserve(order(second))
    for generation_id in (held, second):
        await begin(generation_id)
    await submissions.record(held, 1, state="accepted", vendor_task_id="task-1")
    with pytest.raises(Failed) as failed:
        await submissions.record(second, 1, state="accepted", vendor_task_id="task-1")
    assert failed.value.code == "vendor_protocol_error"
    stored = await submissions.read(second, 1)
    assert stored is not None
    assert stored.state == "sending"


async def test_no_statement_can_undo_an_acceptance(
    begin: Begin, submissions: PostgresSubmissions, database: Database, held: str
) -> None:
    await begin(held)
    await submissions.record(held, 1, state="accepted", vendor_task_id="task-1")
    with pytest.raises(Failed, match="OT001"):
        await database.row("update onetake.submission set state = 'not_sent'")


async def test_a_late_acceptance_stands_while_it_is_being_resolved(
    begin: Begin, submissions: PostgresSubmissions, held: str
) -> None:
    """Every write of a resolution that comes after a zombie's changes nothing."""
    await begin(held)
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    await submissions.record(held, 1, state="accepted", vendor_task_id="task-1")
    await submissions.note(held, 1, DOUBT)
    for state in ("ambiguous", "rejected"):
        assert await submissions.record(held, 1, state=state, error=DOUBT) == Submission(
            state="accepted", vendor_task_id="task-1"
        )


# -- What can tell how a lost submission ended -------------------------------------------------------------------------


async def test_what_was_sent_is_kept_with_its_seed_and_its_time(
    begin: Begin, submissions: PostgresSubmissions, held: str
) -> None:
    assert await submissions.sent(held, 1) is None
    await begin(held)
    sent = await submissions.sent(held, 1)
    assert sent is not None
    assert (sent.request.prompt, sent.seed, sent.equal_is_sending) == ("a fox", 7, False)
    assert abs((datetime.now(UTC) - sent.at).total_seconds()) < 60


async def test_an_equal_one_that_is_sending_is_seen_until_it_has_its_answer(
    begin: Begin, submissions: PostgresSubmissions, hold: Hold, held: str
) -> None:
    equal = await hold()
    await begin(held)
    await submissions.record(held, 1, state="ambiguous")
    await begin(equal)
    assert await equal_of(submissions, held)
    await submissions.record(equal, 1, state="ambiguous")
    assert not await equal_of(submissions, held)


async def equal_of(submissions: PostgresSubmissions, generation_id: str) -> bool:
    sent = await submissions.sent(generation_id, 1)
    assert sent is not None
    return sent.equal_is_sending


async def test_ids_of_other_submissions_are_left_out(
    begin: Begin, submissions: PostgresSubmissions, hold: Hold, held: str
) -> None:
    other = await hold()
    for generation_id in (held, other):
        await begin(generation_id)
    await submissions.record(other, 1, state="accepted", vendor_task_id="theirs")
    assert await submissions.unowned(held, 1, ("b", "theirs", "a")) == ("b", "a")
    await submissions.record(held, 1, state="accepted", vendor_task_id="a")
    assert await submissions.unowned(held, 1, ("b", "theirs", "a")) == ("b", "a")
    assert await submissions.unowned(held, 1, ()) == ()


async def test_a_bracket_stands_while_nothing_else_can_have_moved_the_balance(
    submissions: PostgresSubmissions, bracketed: Bracketed, held: str
) -> None:
    await bracketed(held)
    assert await submissions.undisturbed(held, 1) is None, "its own POST is still under way"
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    assert await submissions.undisturbed(held, 1) == Undisturbed(ACCOUNT, post_is_over=True)


async def test_a_submission_whose_sender_was_lost_may_still_be_sent(
    submissions: PostgresSubmissions, bracketed: Bracketed, held: str
) -> None:
    """Its worker may only be stopped: another attempt found the row and wrote no error."""
    await bracketed(held)
    await submissions.record(held, 1, state="ambiguous")
    await submissions.note(held, 1, DOUBT)
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    assert await submissions.undisturbed(held, 1) == Undisturbed(ACCOUNT, post_is_over=False)


@pytest.mark.parametrize("ends", ["ambiguous", "rejected", "not_sent", "accepted"])
async def test_another_submission_that_is_begun_meanwhile_breaks_the_bracket(
    begin: Begin, submissions: PostgresSubmissions, bracketed: Bracketed, hold: Hold, held: str, ends: Any
) -> None:
    other = await hold()
    await bracketed(held)
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    await begin(other)
    assert await submissions.undisturbed(held, 1) is None
    await submissions.record(other, 1, state=ends, vendor_task_id="task-1" if ends == "accepted" else None)
    assert await submissions.undisturbed(held, 1) is None


@pytest.mark.parametrize(
    ("code", "idle"),
    [("vendor_rejected", True), ("vendor_account_empty", True), ("content_rejected", False), ("vendor_failed", False)],
)
async def test_a_refusal_whose_charge_is_given_back_may_still_move_the_balance(
    begin: Begin, submissions: PostgresSubmissions, held: str, code: str, idle: bool
) -> None:
    """The refund could hide what a lost submission was charged."""
    await begin(held)
    await submissions.record(held, 1, state="rejected", error=ErrorInfo.of(code))
    assert (await submissions.idle_at("apixo") is not None) == idle


@pytest.mark.parametrize(
    ("state", "status", "idle"),
    [
        ("sending", None, False),
        ("ambiguous", None, False),
        ("accepted", None, False),
        ("accepted", "completed", True),
        ("accepted", "failed", False),
        ("accepted", "canceled", False),
        ("rejected", None, True),
        ("not_sent", None, True),
    ],
)
async def test_only_what_is_over_for_good_leaves_the_balance_alone(
    begin: Begin,
    submissions: PostgresSubmissions,
    ledger: PostgresLedger,
    held: str,
    state: Any,
    status: Any,
    idle: bool,
) -> None:
    """A job that failed or was given up may still be refunded, and hide the charge of another."""
    assert await submissions.idle_at("apixo") is not None
    await begin(held)
    await submissions.record(held, 1, state=state, vendor_task_id="task-1" if state == "accepted" else None)
    if status:
        end = {"generation_id": held, "attempt": 1, "tenant": "acme", "status": status, "vendor_task_id": "task-1"}
        resolution = "post" if status == "completed" else "release"
        await ledger.settle(SettleInput.model_validate({**end, "resolution": resolution}))
    assert (await submissions.idle_at("apixo") is not None) is idle
    assert await submissions.idle_at("gmi") is not None


async def test_what_was_sent_more_than_a_day_ago_moves_nothing_any_more(
    begin: Begin, submissions: PostgresSubmissions, database: Database, held: str
) -> None:
    await begin(held)
    await database.row("update onetake.submission set sent_at = sent_at - interval '25 hours'")
    assert await submissions.idle_at("apixo") is not None


async def test_a_new_post_has_a_new_bracket_or_none(
    begin: Begin, submissions: PostgresSubmissions, bracketed: Bracketed, held: str
) -> None:
    await bracketed(held)
    await submissions.record(held, 1, state="not_sent")
    await begin(held)
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    assert await submissions.undisturbed(held, 1) is None


async def test_a_bracket_says_nothing_after_the_end(
    submissions: PostgresSubmissions, ledger: PostgresLedger, bracketed: Bracketed, held: str
) -> None:
    await bracketed(held)
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    await end(ledger, held)
    assert await submissions.undisturbed(held, 1) is None


async def test_a_note_is_what_is_told_of_an_unknown_outcome(
    begin: Begin, submissions: PostgresSubmissions, held: str
) -> None:
    await begin(held)
    await submissions.record(held, 1, state="ambiguous", error=DOUBT)
    noted = DOUBT.model_copy(update={"message": "more"})
    await submissions.note(held, 1, noted)
    assert await submissions.read(held, 1) == Submission(state="ambiguous", error=noted)


async def test_an_outcome_needs_a_beginning(submissions: PostgresSubmissions, held: str) -> None:
    assert await submissions.read(held, 1) == Submission(state="not_sent")
    with pytest.raises(Failed):
        await submissions.record(held, 1, state="rejected")


async def _state(generations: PostgresGenerations, generation_id: str) -> tuple[str, str | None]:
    record = await generations.get(generation_id)
    assert record is not None
    return record.phase, record.vendor_task_id
