"""After the end: what recovery finds is taken once, and what nobody serves is closed by the reconciler."""

import asyncio

from onetake.client import Onetake, request_of
from onetake.core.contracts import GenerationRecord
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.ledger.generations import PostgresGenerations
from onetake.operations.reconciler import Reconciler
from tests.faults.table import shows
from tests.system.harness import ROUTE, Stack, ended, in_phase, money, unique

LIMIT_S = 90.0


async def corrected(onetake: Onetake, generation_id: str) -> GenerationRecord:
    """Wait for the correction that recovery writes."""
    async with asyncio.timeout(LIMIT_S):
        while (record := await onetake.get(generation_id)).correction is None:
            await asyncio.sleep(0.2)
    return record


async def kinds(stack: Stack, generation_id: str) -> list[str]:
    async with stack.database() as database:
        rows = await database.rows("select kind from onetake.event where generation_id = $1 order by id", generation_id)
    return [str(row["kind"]) for row in rows]


async def test_a_terminated_run_is_settled_and_its_clip_still_found(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("terminated [[sim:delay=3]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    await stack.terminate(started.workflow_id)
    record = await corrected(onetake, started.id)
    assert (record.status, record.error, money(record)) == ("completed", None, (200_000, 200_000, 0))
    assert record.correction is not None
    assert record.correction.who in {"reconciler", "gateway"}  # a callback may come between the end and the pass
    assert record.correction.from_status == "failed"
    assert record.correction.from_code == "terminated_by_operator"
    assert len(record.assets) == 1
    await shows("F114", stack, record, prompt, end="submitted")
    assert await stack.ledger_violations() == []


async def test_a_run_terminated_before_it_sent_anything_costs_nothing(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("terminated early [[sim:throttle=1000]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    async with asyncio.timeout(LIMIT_S):
        while not await stack.submits_of(prompt):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    await stack.terminate(started.workflow_id)
    result = await settled(onetake, started.id)
    await shows("F114", stack, result, prompt, end="never submitted")
    assert money(result) == (200_000, 0, 0)


async def test_a_row_that_never_started_is_started_for_its_key_and_expired_without_one(
    stack: Stack, onetake: Onetake
) -> None:
    keyed, loose = await row_alone(stack, onetake, key=unique("key").replace(" ", "")), await row_alone(stack, onetake)
    result = await ended(onetake, keyed)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))
    expired = await settled(onetake, loose)
    assert (expired.status, expired.error and expired.error.code) == ("failed", "never_started")
    assert (money(expired), await kinds(stack, loose)) == ((0, 0, 0), [])


async def test_a_second_pass_over_the_ledger_changes_nothing(stack: Stack) -> None:
    engine = await stack.temporal()
    async with stack.database() as database:
        reconciler = Reconciler(engine, database, time_scale=stack.settings().time_scale)
        await reconciler.run_once()
        second = await reconciler.run_once()
    assert [finding for finding in second.findings if finding.action != "none"] == []


async def row_alone(stack: Stack, onetake: Onetake, key: str | None = None) -> str:
    """What a client leaves that is killed between the row and the workflow."""
    request = request_of({"route": ROUTE, "prompt": unique("cut off"), "duration_s": 2, "idempotency_key": key})
    generation_id = new_generation_id()
    async with stack.database() as database:
        row = await PostgresGenerations(database).accept_once(
            request, workflow_id=workflow_id_of("default", generation_id), plan=onetake.plan(request)
        )
        await database.row(
            "update onetake.generation set created_at = created_at - interval '1 hour' where id = $1", row.id
        )
    return row.id


async def settled(onetake: Onetake, generation_id: str) -> GenerationRecord:
    """Wait for an end that no run of its own brings."""
    async with asyncio.timeout(LIMIT_S):
        while (record := await onetake.get(generation_id)).phase != "done":
            await asyncio.sleep(0.2)
    return record
