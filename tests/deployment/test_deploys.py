"""A hundred generations in flight while builds come and go: a good one, a bad one, and back.

The builds are copies of `workflows/` with a change, and their workers are processes of their own that import them. The
commands are those of an operator's pipeline: the gate by the build's own code, then `onetake deploy current`.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.engine.versioning import BUILD_VARIABLE, NAME_VARIABLE
from onetake.operations.deploys import Deploys
from tests.faults.table import shows
from tests.replay.builds import COMMENT, GUARDED, UNGUARDED, build, environment, importing
from tests.system.forked import command
from tests.system.harness import ROUTE, Stack, ended, event_names, unique

IN_FLIGHT: Final = 100
SAMPLE: Final = 25
SEVERAL: Final = 3
SOME: Final = 10  # are stored on the good build, and the others wait
FIRST: Final = "gptimage2/wan-2.6/text-to-video"
LIMIT_S: Final = 1800.0  # a busy machine takes long; it takes a minute
DEPLOYMENT: Final = "tests/deploys"
QUEUE: Final = "deploys"
BUILDS: Final = {"v1": (), "v2": (GUARDED,), "v3": (GUARDED, UNGUARDED, COMMENT)}


@dataclass(frozen=True)
class Fleet:
    """The builds on one queue of the stack."""

    stack: Stack
    folder: Path
    environ: dict[str, str] = field(repr=False)

    @classmethod
    def of(cls, stack: Stack, folder: Path) -> "Fleet":
        own = {"ONETAKE_TASK_QUEUE": QUEUE, "ONETAKE_RECONCILE_EVERY_S": "0", NAME_VARIABLE: DEPLOYMENT}
        for name, changes in BUILDS.items():
            (folder / name).mkdir()
            build(folder / name, *changes)
        return cls(stack, folder, own)

    def _environment(self, name: str) -> dict[str, str]:
        code = importing(self.folder / name) | {BUILD_VARIABLE: name}
        return environment(os.environ, self.stack.environment, self.environ, code)

    @asynccontextmanager
    async def workers(self, name: str) -> AsyncGenerator[None]:
        """A worker process of a build with the role `orchestrate`."""
        with (self.folder / f"{name}.log").open("w") as log:
            words = ("-m", "onetake.cli", "worker", "--role", "orchestrate")
            process = await asyncio.create_subprocess_exec(
                sys.executable, *words, env=self._environment(name), cwd=self.folder / name, stdout=log, stderr=log
            )
        try:
            yield
            assert process.returncode is None, self._log_of(name)[-2000:]
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def all_started(self) -> None:
        """Wait until the workers of all builds serve."""
        while not all("worker_started" in self._log_of(name) for name in BUILDS):
            await asyncio.sleep(0.2)

    def _log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def failed_by(self, name: str) -> set[str]:
        """The ids of the runs of which a build has failed a workflow task because it does not replay."""
        lines = [line for line in self._log_of(name).splitlines() if "Failing workflow task" in line]
        return {
            run for each in lines if "Nondeterminism" in each for run in re.findall(r"'run_id': '([0-9a-f-]+)'", each)
        }

    async def gate(self, name: str) -> tuple[int, dict[str, Any]]:
        """Hold a build against the open runs, by its own code: the exit code and the document."""
        words = ("-m", "onetake.cli", "replay", "--open-runs", "--sample", str(SAMPLE), "--json")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            env=self._environment(name),
            cwd=self.folder / name,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, json.loads(said)

    async def deploy(self, *words: str) -> int | None:
        """`onetake deploy WORDS...` in a process; its exit code."""
        return (await self.stack.in_process(command, "deploy", *words, **self.environ)).ended()

    async def force(self, name: str) -> None:
        """Make a build current that the gate has refused."""
        deploys = Deploys(await self.stack.temporal(), QUEUE, DEPLOYMENT)
        await deploys.make_current(name, limit_s=LIMIT_S)

    async def open_runs(self, number: int) -> int:
        """How many runs the server's list shows as open, once it shows so many: it lags behind the runs."""
        engine = await self.stack.temporal()
        query = f"ExecutionStatus = 'Running' AND TaskQueue = '{QUEUE}' AND WorkflowType = 'Generation'"
        with suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S / 6):
                while (await engine.count_workflows(query)).count != number:
                    await asyncio.sleep(0.2)
        return (await engine.count_workflows(query)).count


@dataclass(frozen=True)
class Story:
    """What was seen on the way, and how all ended."""

    stack: Stack
    gates: dict[str, tuple[int, dict[str, Any]]]
    codes: dict[str, int | None]
    open_at: dict[str, int]
    prompts: list[str]
    results: list[GenerationResult]
    histories: list[list[str]]
    failed: int  # the number of a run of which the bad build has failed a workflow task


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def story(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Story]:
    fleet = Fleet.of(stack, tmp_path_factory.mktemp("builds"))
    async with AsyncExitStack() as running, stack.client(task_queue=QUEUE) as onetake:
        await running.enter_async_context(stack.worker(QUEUE, roles=("vendors",)))
        for name in BUILDS:
            await running.enter_async_context(fleet.workers(name))
        async with asyncio.timeout(LIMIT_S):
            await fleet.all_started()
            played = await _played(fleet, onetake, running)
        yield played


async def _played(fleet: Fleet, onetake: Onetake, running: AsyncExitStack) -> Story:
    """All are rendered, and wait in flight for somebody who serves the media queue of their vendor."""
    prompts, codes = [unique("in flight") for _ in range(IN_FLIGHT)], dict[str, int | None]()
    gates, open_at = dict[str, tuple[int, dict[str, Any]]](), dict[str, int]()
    codes["v9"] = await fleet.deploy("current", "v9", "--timeout", "0")
    codes["v1"] = await fleet.deploy("current", "v1", "--timeout", "900")
    assert codes["v1"] == 0
    routes = [FIRST] * SOME + [ROUTE] * (IN_FLIGHT - SOME)
    orders = zip(routes, prompts, strict=True)
    started = await asyncio.gather(
        *(onetake.start(route=route, prompt=each, duration_s=2, deadline_s=7200) for route, each in orders)
    )
    await _all_submitted(fleet.stack, prompts)

    open_at["v2"] = await fleet.open_runs(IN_FLIGHT)
    gates["v2"] = await fleet.gate("v2")
    codes["v2"] = await fleet.deploy("current", "v2")
    await running.enter_async_context(fleet.stack.worker(QUEUE, roles=("media",), ONETAKE_APIXO_API_KEY=""))
    first = [await ended(onetake, each.id, limit_s=LIMIT_S) for each in started[:SOME]]

    gates["v3"] = await fleet.gate("v3")
    await fleet.force("v3")
    await running.enter_async_context(fleet.stack.worker(QUEUE, roles=("media",)))
    failed = await _fails(fleet, "v3", [each.workflow_id for each in started[SOME:]])
    open_at["v3"] = await fleet.open_runs(IN_FLIGHT - SOME)

    codes["back"] = await fleet.deploy("current", "v2")
    results = first + [await ended(onetake, each.id, limit_s=LIMIT_S) for each in started[SOME:]]
    codes["drain"] = await fleet.deploy("drain", "v3", "--timeout", "900")
    histories = [event_names(await fleet.stack.closed_history(each.workflow_id)) for each in started]
    return Story(fleet.stack, gates, codes, open_at, prompts, results, histories, SOME + failed)


async def _all_submitted(stack: Stack, prompts: Sequence[str]) -> None:
    while True:
        if len(await _jobs(stack, prompts)) == len(prompts):
            return
        await asyncio.sleep(0.5)


async def _jobs(stack: Stack, prompts: Sequence[str]) -> list[dict[str, Any]]:
    wanted = {sha256(each.encode()).hexdigest() for each in prompts}
    return [job for job in (await stack.simulator_journal())["jobs"] if job["prompt_sha256"] in wanted]


async def _fails(fleet: Fleet, name: str, workflow_ids: Sequence[str]) -> int:
    """Wait until a build has failed a workflow task of several of these runs; returns the number of one.

    Its own log says it: the history does not when the first try of the task ran out of time on a busy machine."""
    engine = await fleet.stack.temporal()
    runs = [(await engine.get_workflow_handle(each).describe()).run_id for each in workflow_ids]
    while len(failed := [number for number, each in enumerate(runs) if each in fleet.failed_by(name)]) < SEVERAL:
        await asyncio.sleep(0.5)
    return failed[0]


async def test_a_good_build_passes_the_gate_and_takes_over_all_that_is_in_flight(story: Story) -> None:
    code, document = story.gates["v2"]
    assert (code, document["replays"]) == (0, True)
    assert document["open_runs"] == {"found": IN_FLIGHT, "replayed": SAMPLE, "sample": SAMPLE}
    assert story.open_at["v2"] == IN_FLIGHT
    assert (story.codes["v1"], story.codes["v2"]) == (0, 0)
    assert all("MARKER_RECORDED" in each for each in story.histories)
    assert all(each.count("TIMER_STARTED") >= 1 for each in story.histories), "all took the new path of v2"
    assert not any("WORKFLOW_TASK_FAILED" in each for each in story.histories[:SOME])
    await shows("F110", story.stack, story.results[0], story.prompts[0])


async def test_a_bad_build_is_stopped_by_the_gate_and_past_it_only_fails_workflow_tasks(story: Story) -> None:
    code, document = story.gates["v3"]
    assert code == 1
    assert len(document["differ"]) == document["open_runs"]["replayed"] == SAMPLE
    assert all("Nondeterminism" in each["difference"] and each["event"] for each in document["differ"])
    assert story.codes["v9"] == 9, "a build that nobody runs becomes current for nobody"
    assert story.open_at["v3"] == IN_FLIGHT - SOME, "no run ends by it"
    assert not any("WORKFLOW_EXECUTION_FAILED" in each for each in story.histories)
    await shows("F111", story.stack, story.results[story.failed], story.prompts[story.failed], end="forced")


async def test_after_going_back_each_ends_once_and_is_paid_once(story: Story) -> None:
    assert (story.codes["back"], story.codes["drain"]) == (0, 0)
    assert [each.status for each in story.results] == ["completed"] * IN_FLIGHT
    assert [each.count("WORKFLOW_EXECUTION_COMPLETED") for each in story.histories] == [1] * IN_FLIGHT
    jobs = await _jobs(story.stack, story.prompts)
    assert len(jobs) == IN_FLIGHT
    assert len({each["prompt_sha256"] for each in jobs}) == IN_FLIGHT, "one job for each prompt"
    assert {each.cost.settled_micros for each in story.results[SOME:]} == {200_000}
    assert {each.cost.suspense_micros for each in story.results} == {0}
    assert await story.stack.ledger_violations() == []
    await shows("F112", story.stack, story.results[-1], story.prompts[-1])
