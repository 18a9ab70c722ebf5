"""The public client against a running stack."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey

from onetake.client import BlockingOnetake, Onetake
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Failed, Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import PHASES
from onetake.engine.starting import start_run
from onetake.ledger import PostgresGenerations
from tests.system.harness import LIMIT_S, ROUTE, Stack, in_phase, unique

TASK_DONE = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
STARTED_WITH = ("OnetakeTenant", "OnetakeVendor", "OnetakeRoute")
SIX_LINES = """
from onetake.client import BlockingOnetake

with BlockingOnetake.connect() as onetake:
    generation = onetake.start(route="apixo/wan-2.6/text-to-video", prompt="a harbour", duration_s=2, resolution="720p")
    print(onetake.result(generation.id).assets[0].url)
"""


def test_six_lines_from_a_service_give_a_link(stack: Stack, tmp_path: Path) -> None:
    words = [sys.executable, "-c", SIX_LINES]
    done = subprocess.run(
        words, env=stack.environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.stdout.startswith("http://"), done.stderr


def test_the_blocking_client_does_what_the_other_does(stack: Stack, tmp_path: Path) -> None:
    with BlockingOnetake.connect(stack.settings()) as onetake:
        request = GenerationRequest(route=ROUTE, prompt=unique("blocking"), duration_s=2, tenant="blocking")
        assert onetake.plan(request).price.amount_micros == 200_000
        started = onetake.start(request)
        seen = list(onetake.watch(started.id, timeout_s=LIMIT_S))
        assert seen[-1].status == "completed"
        assert [seen[-1].id] == [record.id for record in onetake.list(tenant="blocking")]
        assert onetake.get(started.id).assets == onetake.cancel(started.id).assets or seen[-1].assets
        assert onetake.download(started.id, tmp_path) == tmp_path / f"{started.id}.mp4"
        with pytest.raises(Refused):
            onetake.get("gen_none")


async def test_watching_shows_every_change_forward_only(onetake: Onetake) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("watch"), duration_s=2)
    seen = [record async for record in onetake.watch(started.id, timeout_s=LIMIT_S)]
    places = [PHASES.index(record.phase) for record in seen]
    assert places == sorted(places)
    assert (seen[-1].status, sum(record.status == "completed" for record in seen)) == ("completed", 1)
    assert seen[-1].assets[0].url


async def test_the_run_says_what_it_is_without_the_prompt(onetake: Onetake, stack: Stack) -> None:
    prompt = unique("canary of the summary")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, tenant="summaries")
    handle = (await stack.temporal()).get_workflow_handle(started.workflow_id)
    description = await handle.describe()
    summary, details = await description.static_summary(), await description.static_details()
    assert summary == f"{ROUTE} · 2 s · 720p · summaries · $0.20"
    assert details
    assert started.id in details
    found = {name: description.typed_search_attributes[SearchAttributeKey.for_keyword(name)] for name in STARTED_WITH}
    assert found == {"OnetakeTenant": "summaries", "OnetakeVendor": "apixo", "OnetakeRoute": ROUTE}
    assert prompt not in f"{summary}{details}{found}{started}"
    await onetake.result(started.id, timeout_s=LIMIT_S)


async def test_a_terminated_run_ends_the_wait_once_the_reconciler_has_settled_it(
    onetake: Onetake, stack: Stack
) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("[[sim:never]]"), duration_s=2)
    await in_phase(onetake, started.id, "generating")
    waiting = asyncio.create_task(onetake.result(started.id, timeout_s=LIMIT_S))
    await stack.terminate(started.workflow_id)
    result = await waiting
    assert (result.status, result.error and result.error.code) == ("failed", "terminated_by_operator")
    assert result.cost.suspense_micros == 200_000


async def test_a_repeated_start_with_its_key_starts_nothing(onetake: Onetake, stack: Stack) -> None:
    request = GenerationRequest(
        route=ROUTE, prompt=unique("key"), duration_s=2, idempotency_key=unique("k").replace(" ", "")
    )
    first, *others = await asyncio.gather(*(onetake.start(request) for _ in range(5)))
    assert {first.id} == {other.id for other in others}
    assert (await onetake.result(first.id, timeout_s=LIMIT_S)).status == "completed"
    late = await onetake.start(request)
    assert (first.id, True) == (late.id, late.replayed)
    assert len(await stack.jobs_of(request.prompt)) == 1
    run = (await stack.temporal()).get_workflow_handle(first.workflow_id)
    await run.result()  # the row says so a moment before the run has closed
    assert (await run.describe()).status == WorkflowExecutionStatus.COMPLETED


async def test_a_damaged_object_is_never_handed_over(onetake: Onetake, stack: Stack, tmp_path: Path) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("damage"), duration_s=2)
    await onetake.result(started.id, timeout_s=LIMIT_S)
    async with stack.database() as database:
        await database.row("alter table onetake.generation disable trigger end_is_spend")  # nobody may do this
        await database.row(
            "update onetake.generation set assets = jsonb_set(assets, '{0,sha256}', to_jsonb(repeat('0', 64)))"
            " where id = $1",
            started.id,
        )
        await database.row("alter table onetake.generation enable trigger end_is_spend")
    with pytest.raises(Failed) as caught:
        await onetake.download(started.id, tmp_path / "clip.mp4")
    assert caught.value.code == "asset_truncated"
    assert list(tmp_path.iterdir()) == []


async def test_a_clip_takes_the_place_of_a_regular_file_alone(onetake: Onetake, tmp_path: Path) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("target"), duration_s=2)
    await onetake.result(started.id, timeout_s=LIMIT_S)
    kept, pipe = tmp_path / "clip.mp4", tmp_path / "pipe"
    kept.write_text("an older one", encoding="utf-8")
    os.mkfifo(pipe)
    for target, why in ((pipe, "no regular file"), ("-", "name a file"), (tmp_path / "none" / "a.mp4", "no folder")):
        with pytest.raises(Refused, match=why) as caught:
            await onetake.download(started.id, target)
        assert caught.value.code == "usage"
    assert pipe.is_fifo()
    assert {each.name for each in tmp_path.iterdir()} == {"clip.mp4", "pipe"}
    assert (await onetake.download(started.id, kept)).stat().st_size > len("an older one")


async def test_nothing_to_download_is_said_before_the_bucket_is_asked(stack: Stack, tmp_path: Path) -> None:
    async with stack.client(s3_endpoint="127.0.0.1:1") as onetake:
        started = await onetake.start(route=ROUTE, prompt=unique("[[sim:reject=400]]"), duration_s=2)
        await onetake.result(started.id, timeout_s=LIMIT_S)
        with pytest.raises(Refused) as caught:
            await onetake.download(started.id, tmp_path / "clip.mp4")
    assert caught.value.code == "result_not_ready"


async def test_watching_goes_on_over_a_reset(onetake: Onetake, stack: Stack) -> None:
    """A reset ends the run that is watched and begins another one under its id."""
    engine = await stack.temporal()
    with stack.no_clip_stored():
        started = await onetake.start(route=ROUTE, prompt=unique("reset"), duration_s=2)
        await in_phase(onetake, started.id, "generating", "persisting")
        watching = asyncio.create_task(onetake.result(started.id, timeout_s=LIMIT_S))
        first = await engine.get_workflow_handle(started.workflow_id).describe()
        task = [each.event_id for each in (await stack.history(started.workflow_id)) if each.event_type == TASK_DONE]
        execution = WorkflowExecution(workflow_id=started.workflow_id, run_id=first.run_id)
        await engine.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=engine.namespace,
                workflow_execution=execution,
                reason="a test",
                workflow_task_finish_event_id=task[-1],
                request_id=unique("reset").replace(" ", ""),
            )
        )
    assert (await watching).status == "completed"
    assert (await engine.get_workflow_handle(started.workflow_id).describe()).run_id != first.run_id


async def test_watching_a_row_whose_run_starts_later_sees_it_through(onetake: Onetake, stack: Stack) -> None:
    request = GenerationRequest(route=ROUTE, prompt=unique("late start"), duration_s=2)
    plan = await onetake.plan(request)
    async with stack.database() as database:
        workflow_id = workflow_id_of(request.tenant, new_generation_id())
        row = await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=plan)
    watching = asyncio.create_task(onetake.result(row.id, timeout_s=LIMIT_S))
    await asyncio.sleep(2)
    await start_run(await stack.temporal(), workflow_id, request, plan, task_queue=plan.queues.base)
    assert (await watching).status == "completed"
