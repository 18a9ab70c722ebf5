"""After the end: what recovery finds is taken once, and what nobody serves is closed by the reconciler."""

import asyncio

from onetake.client import Onetake, request_of
from onetake.core.contracts import GenerationRecord
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.ledger.generations import PostgresGenerations
from onetake.operations.reconciler import Reconciler
from tests.faults.table import shows
from tests.system.harness import ROUTE, Stack, ended, event_names, in_phase, money, unique

LIMIT_S = 300.0


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
    prompt = unique("terminated [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    await stack.terminate(started.workflow_id)
    await stack.make_old(started.id)
    await stack.release(prompt)
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
    prompt, queue = unique("terminated early"), "nobody-submits"
    async with (
        stack.worker(queue, roles=("orchestrate",)),
        stack.client(task_queue=queue) as early,
    ):
        started = await early.start(route=ROUTE, prompt=prompt, duration_s=2)
        await in_phase(early, started.id, "submitting")
        await stack.terminate(started.workflow_id)
    await stack.make_old(started.id)
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


async def test_a_second_pass_over_the_ledger_changes_nothing(stack: Stack, onetake: Onetake) -> None:
    """What it finds of other tests' generations may have grown old in between."""
    ours = {await row_alone(stack, onetake, key=unique("key").replace(" ", "")), await row_alone(stack, onetake)}
    async with stack.database() as database:
        reconciler = Reconciler(await stack.temporal(), database, time_scale=stack.settings().time_scale)
        await reconciler.run_once()  # or the stack's own was quicker
        second = await reconciler.run_once()
    assert [each for each in second.findings if each.generation_id in ours and each.action != "none"] == []


async def row_alone(stack: Stack, onetake: Onetake, key: str | None = None) -> str:
    """What a client leaves that is killed between the row and the workflow."""
    request = request_of({"route": ROUTE, "prompt": unique("cut off"), "duration_s": 2, "idempotency_key": key})
    generation_id = new_generation_id()
    async with stack.database() as database:
        row = await PostgresGenerations(database).accept_once(
            request, workflow_id=workflow_id_of("default", generation_id), plan=await onetake.plan(request)
        )
    await stack.make_old(row.id)
    return row.id


async def settled(onetake: Onetake, generation_id: str) -> GenerationRecord:
    """Wait for an end that no run of its own brings."""
    async with asyncio.timeout(LIMIT_S):
        while (record := await onetake.get(generation_id)).phase != "done":
            await asyncio.sleep(0.2)
    return record


async def test_a_cancellation_that_was_noted_and_never_asked_for_reaches_the_run(
    stack: Stack, onetake: Onetake
) -> None:
    """The client died between its note and its request; the job is rendered, and nobody else would tell the run."""
    prompt = unique("noted [[sim:no-callback]][[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    async with stack.database() as database:
        await PostgresGenerations(database).mark_cancel_requested(started.id)
        await stack.make_old(started.id)
        reconciler = Reconciler(await stack.temporal(), database, time_scale=stack.settings().time_scale)
        await reconciler.run_once()  # or the stack's own was quicker
        second = await reconciler.run_once()
    assert started.id not in {each.generation_id for each in second.findings}
    await stack.release(prompt)
    record = await onetake.result(started.id, timeout_s=LIMIT_S)
    assert (record.status, len(record.assets)) == ("canceled", 1)
    names = event_names(await stack.history(started.workflow_id))
    assert names.count("WORKFLOW_EXECUTION_CANCEL_REQUESTED") == 1
