"""An intent is committed once for each POST, and its outcome is decided once, whoever comes late."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from onetake.contracts import ErrorInfo, ReserveInput, SettleInput
from onetake.errors import Failed
from onetake.ledger import Database, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ports import Begun

Accept = Callable[..., Awaitable[str]]
Begin = Callable[..., Awaitable[Begun]]


@pytest.fixture
async def held(ledger: PostgresLedger, accept: Accept, order: Callable[..., ReserveInput]) -> str:
    """A generation with its hold."""
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    return generation_id


async def end(ledger: PostgresLedger, generation_id: str) -> None:
    settlement = {"generation_id": generation_id, "attempt": 1, "status": "canceled", "resolution": "suspend"}
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
    assert await submissions.read(held, 1) is None


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


async def test_an_outcome_needs_a_beginning(submissions: PostgresSubmissions, held: str) -> None:
    assert await submissions.read(held, 1) is None
    with pytest.raises(Failed):
        await submissions.record(held, 1, state="rejected")


async def _state(generations: PostgresGenerations, generation_id: str) -> tuple[str, str | None]:
    record = await generations.get(generation_id)
    assert record is not None
    return record.phase, record.vendor_task_id
