"""After the end: one correction, only of what was paid; and only a row that never started expires."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from onetake.core.contracts import Asset, CorrectInput, ErrorInfo, GenerationRequest, ReserveInput, SettleInput
from onetake.core.errors import Failed, Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.ports import Begun
from onetake.ledger import Database, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.database import connect_once
from onetake.ledger.invariants import violations
from onetake.ledger.recoveries import Recoveries
from tests.ledger.databases import WAITERS

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
Begin = Callable[..., Awaitable[Begun]]
Ended = Callable[..., Awaitable[str]]

USD = 1_000_000
CLIP = Asset(
    key="acme/0.mp4",
    sha256="0" * 64,
    size_bytes=1,
    content_type="video/mp4",
    duration_s=5,
    width=1280,
    height=720,
    fps=30,
    codec="h264",
    has_audio=False,
)


@pytest.fixture
def recoveries(database: Database) -> Recoveries:
    return Recoveries(database)


@pytest.fixture
def ended(
    ledger: PostgresLedger, submissions: PostgresSubmissions, accept: Accept, order: Order, begin: Begin
) -> Ended:
    """Make a generation whose submission was accepted and that has failed, with this resolution of its hold."""

    async def ended(resolution: str, code: str | None = None, *, status: str = "failed") -> str:
        generation_id = await accept()
        await ledger.reserve(order(generation_id))
        await begin(generation_id)
        await submissions.record(generation_id, 1, state="accepted", vendor_task_id=f"task of {generation_id}")
        settlement = {
            "generation_id": generation_id,
            "attempt": 1,
            "tenant": "acme",
            "status": status,
            "vendor_task_id": "task",
            "error": ErrorInfo.of(code) if code else None,
        }
        await ledger.settle(SettleInput.model_validate(settlement | {"resolution": resolution}))
        return generation_id

    return ended


@pytest.mark.parametrize(("code", "is_kept"), [("asset_unverified", True), ("asset_unavailable", False), (None, False)])
async def test_a_clip_that_is_kept_unread_is_said_to_be(
    recoveries: Recoveries, ended: Ended, code: str | None, *, is_kept: bool
) -> None:
    case = await recoveries.case(await ended("post", code))
    assert case.is_kept is is_kept


@pytest.mark.parametrize(("resolution", "is_kept"), [("post", True), ("suspend", False)])
async def test_the_paid_clip_of_a_canceled_generation_is_looked_for_in_the_bucket(
    recoveries: Recoveries, ended: Ended, resolution: str, *, is_kept: bool
) -> None:
    """Its error names the cancellation, and not what came of the clip."""
    case = await recoveries.case(await ended(resolution, "canceled", status="canceled"))
    assert case.is_kept is is_kept


def correction(generation_id: str, actual_micros: int = USD) -> CorrectInput:
    return CorrectInput(
        generation_id=generation_id,
        attempt=1,
        vendor_task_id="task",
        resolution="post",
        actual_micros=actual_micros,
        assets=(CLIP,),
        who="a test",
        why="it came late",
    )


async def test_a_late_clip_is_taken_and_paid_for_once(recoveries: Recoveries, ended: Ended, database: Database) -> None:
    generation_id = await ended("suspend")
    first = await recoveries.correct(correction(generation_id))
    assert (first.status, first.cost.settled_micros, first.cost.suspense_micros) == ("completed", USD, 0)
    assert await recoveries.correct(correction(generation_id, actual_micros=1)) == first
    assert await violations(database) == []


async def test_a_clip_whose_hold_was_released_is_nobodys_to_take(recoveries: Recoveries, ended: Ended) -> None:
    with pytest.raises(Refused) as refused:
        await recoveries.correct(correction(await ended("release")))
    assert refused.value.code == "nothing_to_replay"


async def test_a_clip_whose_amount_somebody_released_is_taken_and_charged_after_all(
    recoveries: Recoveries, ended: Ended, ledger: PostgresLedger, database: Database
) -> None:
    """No operator's click loses a render that was paid for."""
    generation_id = await ended("suspend")
    await ledger.resolve_suspense(generation_id, 1, to="released", who="a person", why="a mistake")
    record = await recoveries.correct(correction(generation_id))
    assert (record.status, record.cost.settled_micros, record.cost.suspense_micros) == ("completed", USD, 0)
    kinds = [entry.kind for entry in await ledger.entries(generation_id)]
    assert kinds == ["hold", "suspense", "suspense_resolved", "correction"]
    assert await violations(database) == []


async def test_the_table_itself_keeps_one_correction_as_it_was_written(
    recoveries: Recoveries, ended: Ended, database: Database
) -> None:
    generation_id = await ended("suspend")
    await recoveries.correct(correction(generation_id))
    for statement in (
        "insert into onetake.correction select * from onetake.correction",
        "update onetake.correction set why = 'another'",
        "delete from onetake.correction",
    ):
        with pytest.raises(Failed, match=r"SQLSTATE (OT001|23505)"):
            await database.row(statement)


async def test_only_a_row_that_never_started_expires(
    recoveries: Recoveries, generations: PostgresGenerations, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    never, holding = await accept(), await accept()
    await ledger.reserve(order(holding))
    request = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox", tenant="acme")
    workflow_id = workflow_id_of("acme", new_generation_id())
    running = (await generations.accept(request, workflow_id=workflow_id, run_id="run")).generation_id
    assert [await recoveries.expire(each) for each in (never, holding, running, never)] == [True, False, False, False]
    for generation_id, status in ((never, "failed"), (holding, "in_progress"), (running, "in_progress")):
        record = await generations.get(generation_id, "acme")
        assert record is not None
        assert record.status == status


async def test_a_row_does_not_expire_under_a_reservation(
    recoveries: Recoveries, database: Database, database_url: str, accept: Accept
) -> None:
    generation_id, reserving = await accept(), await connect_once(database_url)
    async with reserving.transaction():
        await reserving.fetch(
            "select onetake.reserve($1, 1, 'acme', null, null, 'r', 'apixo', 1, 'u', 'v')", generation_id
        )
        expiring = asyncio.create_task(recoveries.expire(generation_id))
        while not await reserving.fetchval(WAITERS):
            assert not expiring.done()
            await asyncio.sleep(0.02)
    await reserving.close()
    assert not await expiring
    assert await violations(database) == []


async def test_a_late_word_about_an_earlier_post_opens_no_way_for_a_third(
    submissions: PostgresSubmissions, ledger: PostgresLedger, accept: Accept, order: Order, begin: Begin
) -> None:
    """An attempt that was only stopped says that its own POST sent nothing, while the next one's is under way."""
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    first = await begin(generation_id)
    await submissions.record(generation_id, 1, state="not_sent", post=first.post)
    second = await begin(generation_id)
    assert (first.post, second.fresh, second.post) == (1, True, 2)
    for state in ("not_sent", "rejected"):
        assert (await submissions.record(generation_id, 1, state=state, post=first.post)).state == "sending"
    assert not (await begin(generation_id)).fresh
    known = await submissions.record(generation_id, 1, state="accepted", vendor_task_id="task", post=second.post)
    assert (known.state, known.vendor_task_id) == ("accepted", "task")


async def test_a_row_of_another_version_does_not_hide_the_rest(
    recoveries: Recoveries, accept: Accept, database: Database
) -> None:
    newer, other = await accept(), await accept()
    await database.row(
        """update onetake.generation set request = request || '{"unheard_of": 1}' where id = $1""", newer
    )
    rows = [row async for page in recoveries.open_rows(0) for row in page]
    assert {row.id: row.request is None for row in rows} == {newer: True, other: False}
