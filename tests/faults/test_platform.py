"""The ground under a generation: workers killed and cut off, an engine restarted, runs reset, stuck or terminated.

The scenes run side by side, each on a task queue of its own; each test waits for its own.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from onetake.cli import main
from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationRecord, GenerationRequest, GenerationResult
from onetake.core.errors import TryLater
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import GENERATION_WORKFLOW, WAKE_SIGNAL, SearchAttribute
from onetake.dev.devstack import Part, SilentProgress
from onetake.dev.devstack.binaries import TEMPORAL, ProgramFinder
from onetake.dev.devstack.ports import free_port
from onetake.dev.devstack.temporal_server import health_url, server_command
from onetake.ledger import migrate
from onetake.operations.reconciler import Reconciler
from tests.faults.engine import reset_to_before
from tests.faults.table import shows
from tests.system.harness import LIMIT_S, PATIENT_S, ROUTE, TIME_SCALE, Stack, ended, in_phase, money, unique
from tests.system.relay import relaying

SCALE = "0.02"  # an unknown outcome is given up after 36 s: many times what the callback of a job needs here
LONG_S = 300.0  # for twenty generations on two busy cores
MANY = 16
FEW = 6
KILLS = 4
KILL_EVERY_S = 2.0


@dataclass(frozen=True)
class Play:
    """A generation that has ended."""

    prompt: str
    result: GenerationResult
    stack: Stack


Plays = Mapping[str, asyncio.Task[Sequence[Play]]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plays(stack: Stack, onetake: Onetake) -> AsyncGenerator[Plays]:
    scenes = {
        "all workers": with_all_workers_killed(stack),
        "random workers": with_random_workers_killed(stack),
        "own engine": on_an_engine_of_its_own(stack),
        "cut": with_a_worker_cut_off(stack),
        "reset": with_the_run_reset(stack, onetake),
        "stuck": with_the_workflow_stuck(stack),
        "stopped": with_the_worker_stopped(stack),
    }
    tasks = {name: asyncio.create_task(scene) for name, scene in scenes.items()}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


async def started_many(onetake: Onetake, text: str, count: int, longest_s: float) -> Mapping[str, str]:
    """Generations in all their phases, by prompt."""
    prompts = [unique(f"{text} [[sim:delay={0.2 + longest_s * each / count:.2f}]]") for each in range(count)]
    runs = await asyncio.gather(*(started(onetake, prompt) for prompt in prompts))
    return {prompt: run.id for prompt, run in zip(prompts, runs, strict=True)}


async def started(onetake: Onetake, prompt: str) -> Started:
    """As a service starts one: what is refused for the moment is asked for again, with the same key."""
    key = uuid4().hex
    async with asyncio.timeout(LONG_S):
        while True:
            with suppress(TryLater):
                return await onetake.start(
                    route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S, idempotency_key=key
                )
            await asyncio.sleep(0.5)


async def all_ended(stack: Stack, onetake: Onetake, runs: Mapping[str, str]) -> Sequence[Play]:
    results = await asyncio.gather(*(ended(onetake, one, limit_s=LONG_S) for one in runs.values()))
    return [Play(prompt, result, stack) for prompt, result in zip(runs, results, strict=True)]


@asynccontextmanager
async def two_workers(stack: Stack, queue: str) -> AsyncGenerator[tuple[str, str]]:
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE=SCALE) as one,
        stack.worker(queue, ONETAKE_TIME_SCALE=SCALE) as other,
    ):
        yield one, other


# -- Killed workers ----------------------------------------------------------------------------------------------------


async def with_all_workers_killed(stack: Stack) -> Sequence[Play]:
    queue = "all-workers"
    async with stack.client(task_queue=queue, time_scale=SCALE) as onetake, two_workers(stack, queue) as workers:
        runs = await started_many(onetake, "all workers are killed", MANY, longest_s=4)
        await until_some(onetake, runs, "persisting", "settling", "done")
        for name in workers:
            stack.kill(name)
        await asyncio.gather(*map(stack.restart, workers))
        return await all_ended(stack, onetake, runs)


async def until_some(onetake: Onetake, runs: Mapping[str, str], *phases: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            records = await asyncio.gather(*map(onetake.get, runs.values()))
            if sum(record.phase in phases for record in records) >= 3:
                return
            await asyncio.sleep(0.05)


async def test_all_workers_killed_at_once_lose_and_repeat_nothing(stack: Stack, plays: Plays) -> None:
    for play in await plays["all workers"]:
        if play.result.status == "completed":
            await shows("F105", stack, play.result, play.prompt, end="completed")
        else:  # killed between the intent and the first byte: nobody can know
            await shows("F105", stack, play.result, play.prompt, end="unknown")


async def with_random_workers_killed(stack: Stack) -> Sequence[Play]:
    queue, dice = "random-workers", random.Random(106)
    async with stack.client(task_queue=queue, time_scale=SCALE) as onetake, two_workers(stack, queue) as workers:
        runs = await started_many(onetake, "a worker is killed", FEW, longest_s=KILLS * KILL_EVERY_S)
        for _ in range(KILLS):
            await asyncio.sleep(KILL_EVERY_S)
            await stack.restart(dice.choice(workers))
        return await all_ended(stack, onetake, runs)


async def test_a_worker_killed_every_two_seconds_loses_and_repeats_nothing(stack: Stack, plays: Plays) -> None:
    for play in await plays["random workers"]:
        if play.result.status == "completed":
            await shows("F106", stack, play.result, play.prompt, end="completed")
        else:
            await shows("F106", stack, play.result, play.prompt, end="unknown")


# -- The engine --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def engine_of_its_own(stack: Stack) -> AsyncGenerator[tuple[Stack, str]]:
    """A Temporal server on a file, and a database that only its workers know; everything else is the session's."""
    devstack = stack.running.devstack
    ports = {name: free_port(set()) for name in ("temporal", "temporal_ui", "temporal_http", "codec")}
    with ProgramFinder(os.environ, SilentProgress()) as finder:
        program = finder.find(TEMPORAL)
    command = server_command(program, ports, devstack.home / "engine.db", SearchAttribute.ALL, {})
    bare = ("env", "-u", "TEMPORAL_ADDRESS", "-u", "TEMPORAL_NAMESPACE")
    part = Part(name="engine", argv=(*bare, *command.argv), health=health_url(ports), limit_s=LIMIT_S)
    database_url = f"{stack.environment['ONETAKE_DATABASE_URL']}_engine"
    own = {"TEMPORAL_ADDRESS": f"127.0.0.1:{ports['temporal']}", "TEMPORAL_NAMESPACE": "default"}
    own |= {"ONETAKE_DATABASE_URL": database_url}
    await asyncio.gather(asyncio.to_thread(devstack.start_part, part), migrate.upgrade(database_url))
    try:
        yield replace(stack, environment=stack.environment | own), part.name
    finally:
        await asyncio.to_thread(devstack.kill_part, part.name)


async def on_an_engine_of_its_own(stack: Stack) -> Sequence[Play]:
    """First the reconcilers, where no schedule runs any but the test's own; then the engine's death."""
    async with AsyncExitStack() as cleanup:
        own, server = await cleanup.enter_async_context(engine_of_its_own(stack))
        await cleanup.enter_async_context(own.worker("onetake", ONETAKE_CALLBACK_BASE_URL=""))
        onetake = await cleanup.enter_async_context(own.client())
        late = await with_many_reconcilers(own, onetake)
        return [late, *await with_the_engine_killed(own, server, onetake)]


async def run_in(
    own: Stack, text: str, *, deadline_s: int = PATIENT_S
) -> tuple[str, WorkflowHandle[Any, GenerationResult]]:
    """Start a generation in this engine; its prompt and its run."""
    prompt = unique(text)
    run = await (await own.temporal()).start_workflow(
        GENERATION_WORKFLOW,
        GenerationRequest(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=deadline_s),
        id=workflow_id_of("default", new_generation_id()),
        task_queue="onetake",
        result_type=GenerationResult,
    )
    return prompt, run


async def with_many_reconcilers(own: Stack, onetake: Onetake) -> Play:
    """One is killed in the middle of its pass; four others pass at once, again and again. The job ends once they have
    begun."""
    prompt, run = await run_in(own, "late [[sim:held]]", deadline_s=3)
    with pytest.raises(WorkflowFailureError):
        await run.result()
    await reconciler_killed_once_it_acted(own)
    engine, (record,) = await own.temporal(), await onetake.list()
    async with own.database() as database, asyncio.timeout(LONG_S):
        reconcilers = [Reconciler(engine, database, time_scale=TIME_SCALE) for _ in range(4)]
        while record.correction is None:
            await asyncio.gather(*map(passed, reconcilers))
            await own.release(prompt)
            await asyncio.sleep(0.2)
            record = await onetake.get(record.id)
    return Play(prompt, record, own)


async def reconciler_killed_once_it_acted(own: Stack) -> None:
    """A pass that a busy machine keeps from the servers has done nothing, and is made again."""
    async with asyncio.timeout(LONG_S):
        while (await own.in_process(command, "reconcile", crash="reconcile.after_act")).point() is None:
            pass


async def passed(reconciler: Reconciler) -> None:
    with suppress(TryLater):  # a server that is slow on a busy machine: the next pass comes
        await reconciler.run_once()


def command(words: Sequence[str]) -> None:
    """A command line of ours, in a process of its own."""
    sys.argv = ["onetake", *words]
    main()


async def test_reconcilers_at_once_decide_each_suspense_once(plays: Plays) -> None:
    play, *_ = await plays["own engine"]
    await shows("F119", play.stack, play.result, play.prompt)
    assert money(play.result) == (200_000, 200_000, 0)


async def with_the_engine_killed(own: Stack, server: str, onetake: Onetake) -> Sequence[Play]:
    """Whatever the others do at that moment, one of the runs is under way: its job ends afterwards."""
    markers = ("[[sim:asset-slow=300000]]", "[[sim:delay=2]]", "[[sim:held]]")
    runs = [await run_in(own, f"the engine is killed {each}") for each in markers]
    async with asyncio.timeout(LIMIT_S):
        while not are_under_way(records := await onetake.list()) or len(records) <= len(runs):
            await asyncio.sleep(0.05)
    devstack = own.running.devstack
    await asyncio.to_thread(devstack.kill_part, server)
    assert len(await onetake.list()) == len(runs) + 1, "what people read comes from the database"
    await asyncio.to_thread(devstack.restart, server)
    await own.release(runs[-1][0])
    async with asyncio.timeout(LONG_S):
        return [Play(prompt, await run.result(), own) for prompt, run in runs]


def are_under_way(records: Sequence[GenerationRecord]) -> bool:
    """Whether all have jobs, and another one than that of the reconcilers has been rendered."""
    begun = all(record.phase not in {"validating", "reserving", "submitting"} for record in records)
    return begun and sum(record.phase in {"persisting", "settling", "done"} for record in records) > 1


async def test_an_engine_killed_and_started_again_loses_nothing(plays: Plays) -> None:
    _, *played = await plays["own engine"]
    for play in played:
        await shows("F107", play.stack, play.result, play.prompt)
    assert await played[0].stack.ledger_violations() == []


async def with_a_worker_cut_off(stack: Stack) -> Sequence[Play]:
    queue = "cut-off"
    prompt = unique("cut off from the engine [[sim:submit-hang=6]][[sim:delay=1]][[sim:no-callback]]")
    async with (
        relaying(stack.environment["TEMPORAL_ADDRESS"]) as (line, address),
        stack.client(task_queue=queue) as onetake,
        stack.worker(queue, TEMPORAL_ADDRESS=address) as zombie,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        async with asyncio.timeout(LIMIT_S):
            while not await stack.submits_of(prompt):
                await asyncio.sleep(0.05)
        line.cut()
        async with stack.worker(queue):
            result = await ended(onetake, started.id, limit_s=LONG_S)
            line.mend()
            await asyncio.sleep(2)  # whatever the zombie still has to say, it says now
            assert stack.child(zombie).ended() is None
        return [Play(prompt, result, stack)]


async def test_a_worker_cut_off_from_the_engine_submits_nothing_twice(stack: Stack, plays: Plays) -> None:
    (play,) = await plays["cut"]
    await shows("F108", stack, play.result, play.prompt)
    assert len(await stack.submits_of(play.prompt)) == 1


# -- Operators ---------------------------------------------------------------------------------------------------------


async def with_the_run_reset(stack: Stack, onetake: Onetake) -> Sequence[Play]:
    prompt = unique("reset [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
    await in_phase(onetake, started.id, "generating")
    await reset_to_before(stack, started.workflow_id, "submit-1")
    await stack.release(prompt)
    return [Play(prompt, await ended(onetake, started.id), stack)]


async def test_a_run_that_is_reset_to_before_its_submission_submits_nothing_again(stack: Stack, plays: Plays) -> None:
    (play,) = await plays["reset"]
    await shows("F115", stack, play.result, play.prompt)
    assert len(await stack.submits_of(play.prompt)) == 1


@workflow.defn(name=GENERATION_WORKFLOW, sandboxed=False)
class Broken:
    """A deployment with a bug: every workflow task of it fails."""

    @workflow.run
    async def run(self, _request: Any) -> None:
        raise RuntimeError("a bug")

    @workflow.signal(name=WAKE_SIGNAL)
    def wake(self, _signal: Any) -> None:
        raise RuntimeError("a bug")


async def with_the_workflow_stuck(stack: Stack) -> Sequence[Play]:
    queue = "stuck"
    prompt = unique("stuck [[sim:held]]")
    async with stack.client(task_queue=queue) as onetake:
        async with stack.worker(queue):
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
            await in_phase(onetake, started.id, "generating")
        engine = await stack.temporal()
        async with Worker(engine, task_queue=queue, workflows=[Broken]):
            await stack.release(prompt)  # its callback is what the bug meets
            await until_flagged(stack, started.id)
            stuck = await onetake.get(started.id)
        await shows("F116", stack, stuck, prompt, end="stuck")
        async with stack.worker(queue):
            return [Play(prompt, await ended(onetake, started.id, limit_s=LONG_S), stack)]


async def until_flagged(stack: Stack, generation_id: str) -> None:
    engine = await stack.temporal()
    async with stack.database() as database, asyncio.timeout(LONG_S):
        reconciler = Reconciler(engine, database, time_scale=0.01)  # it only looks: three seconds are stuck
        while True:
            with suppress(TryLater):  # a server that is slow on a busy machine is asked again
                if any(each.generation_id == generation_id for each in await reconciler.stuck()):
                    return
            await asyncio.sleep(0.5)


async def test_a_workflow_task_that_fails_for_ever_is_flagged_and_goes_on_once_mended(
    stack: Stack, plays: Plays
) -> None:
    (play,) = await plays["stuck"]
    await shows("F116", stack, play.result, play.prompt, end="mended")


async def with_the_worker_stopped(stack: Stack) -> Sequence[Play]:
    queue = "stopped"
    prompt = unique("stopped [[sim:asset-slow=20000]]")  # minutes: the second worker may take its time
    async with stack.client(task_queue=queue) as onetake, stack.worker(queue) as first:
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=5, deadline_s=PATIENT_S)
        async with asyncio.timeout(LONG_S):
            while not any(job["asset_requests"] for job in await stack.jobs_of(prompt)):
                await asyncio.sleep(0.05)
        async with stack.worker(queue):
            stack.kill(first, signal.SIGTERM)
            await stack.died(first)
            await stack.release(prompt)
            return [Play(prompt, await ended(onetake, started.id, limit_s=LONG_S), stack)]


async def test_a_worker_told_to_stop_during_a_download_hands_it_over(stack: Stack, plays: Plays) -> None:
    (play,) = await plays["stopped"]
    await shows("F117", stack, play.result, play.prompt)
    (asset,) = play.result.assets
    objects = await stack.objects_under(f"default/{play.result.id}/")
    assert sorted(objects) == [asset.key, f"default/{play.result.id}/1/manifest.json"]
    assert (await stack.job(play.result.vendor_task_id))["asset_requests"] >= 2
