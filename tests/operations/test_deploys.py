"""What Temporal does with workers that have a version, and what the operations on deployments say and refuse."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from onetake.core.errors import Refused
from onetake.core.names import inputs_queue, media_queue
from onetake.core.settings import Settings
from onetake.engine.temporal import connect
from onetake.engine.versioning import Version, of_orchestrator, unversioned
from onetake.operations import versions
from onetake.operations.deploys import Deploys, has_drained
from onetake.operations.versions import (
    BuildStanding,
    Standing,
    State,
    all_queues,
    doubts_of,
    is_too_old,
    pollers_of,
    warn_at_start,
)
from tests.replay.stories import CODEC_KEY
from tests.servers import Servers

NAME = "tests/onetake"
LIMIT_S = 240.0


@activity.defn(name="media")
async def media() -> str:
    return "stored"


@activity.defn(name="inspect")
async def inspect() -> str:
    return "seen"


@workflow.defn(name="Tiny", sandboxed=False)
class Tiny:
    """Shows details, orders an activity of a queue without versions, and waits to be let go."""

    def __init__(self) -> None:
        self._released = False

    @workflow.run
    async def run(self, queue: str) -> str:
        workflow.set_current_details("under way")
        stored = await workflow.execute_activity(media, task_queue=queue, start_to_close_timeout=timedelta(seconds=30))
        await workflow.wait_condition(lambda: self._released)
        workflow.set_current_details(f"done: {stored}")
        return stored

    @workflow.signal
    def release(self) -> None:
        self._released = True


class Fleet:
    """Workers of several builds on one queue."""

    def __init__(self, client: Client, queue: str) -> None:
        self.client, self.queue = client, queue
        self.deploys = Deploys(client, queue, NAME)

    @asynccontextmanager
    async def build(self, name: str, *, inputs: bool = True) -> AsyncGenerator[None]:
        """Workers of a build on both queues of the role `orchestrate`, as `onetake.worker` makes them."""
        version = Version(NAME, name)
        workers = [self.worker(self.queue, version, [inspect], [Tiny])]
        workers += [self.worker(inputs_queue(self.queue), version, [inspect])] if inputs else []
        async with AsyncExitStack() as running:
            for worker in workers:
                await running.enter_async_context(worker)
            yield

    @asynccontextmanager
    async def without_builds(self) -> AsyncGenerator[None]:
        """Workers of the role `orchestrate` without a build, on both queues."""
        inputs = self.worker(inputs_queue(self.queue), None, [inspect])
        async with self.worker(self.queue, None, [inspect], [Tiny]), inputs:
            yield

    def worker(
        self, queue: str, version: Version | None, activities: Sequence[Any], workflows: Sequence[type] = ()
    ) -> Worker:
        told = of_orchestrator(version, runs_workflows=bool(workflows))
        return Worker(self.client, task_queue=queue, activities=activities, workflows=workflows, deployment_config=told)

    def media(self, identity: str | None = None) -> Worker:
        return Worker(
            identity=identity,
            client=self.client,
            task_queue=media_queue(self.queue, "apixo"),
            activities=[media],
            deployment_config=unversioned(),
        )

    async def start(self, workflow_id: str) -> WorkflowHandle[Tiny, str]:
        queue = media_queue(self.queue, "apixo")
        return await self.client.start_workflow(Tiny.run, queue, id=workflow_id, task_queue=self.queue)


async def events_of(run: WorkflowHandle[Any, Any]) -> int:
    return len((await run.fetch_history()).events)


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(servers: Servers, request: pytest.FixtureRequest) -> Fleet:
    namespace = f"deploys-{secrets.token_hex(4)}"
    await servers.namespace(namespace)
    settings = Settings.model_validate({"codec_key": CODEC_KEY})
    client = await connect(settings, address=servers.addresses.temporal_address, namespace=namespace)
    return Fleet(client, f"q-{abs(hash(request.node.name)) % 1000}")


async def doubts(fleet: Fleet, named: str = "") -> list[versions.Doubt]:
    polled = await pollers_of(fleet.client, all_queues(fleet.queue, ["apixo"]))
    return await doubts_of(fleet.client, fleet.queue, polled, named)


async def kinds(fleet: Fleet, named: str = "") -> list[str]:
    return [each.kind for each in await doubts(fleet, named)]


async def test_a_build_gets_work_once_it_is_current_and_the_next_one_answers_for_closed_runs(fleet: Fleet) -> None:
    async with AsyncExitStack() as running:
        first, said = await running.enter_async_context(AsyncExitStack()), list[str]()
        await first.enter_async_context(fleet.build("w1"))
        run = await fleet.start("tiny-1")
        await _until_polled(fleet, "w1")
        assert await events_of(run) == 2, "nothing is current: nobody is handed its first task"
        assert await kinds(fleet) == ["nothing_current"]
        await running.enter_async_context(fleet.media())
        standing, changed = await fleet.deploys.make_current("w1", limit_s=LIMIT_S, say=said.append)
        assert changed
        assert standing.current == "w1"
        assert await fleet.deploys.make_current("w1", limit_s=LIMIT_S) == (await fleet.deploys.standing(), False)
        await _until_events(run, 10)  # it waits to be let go: a worker without versions has stored its clip
        closed = await fleet.start("tiny-2")
        await closed.signal(Tiny.release)
        assert await closed.result() == "stored"
        assert await kinds(fleet) == []

        await running.enter_async_context(fleet.build("w2"))
        ramped = await _ramped(fleet, "w2")
        assert (ramped.current, ramped.ramping, ramped.percent) == ("w1", "w2", 25.0)
        back, changed = await fleet.deploys.make_current("w1", limit_s=LIMIT_S)
        assert (back.current, back.ramping, changed) == ("w1", None, True), "whoever goes back shares no more"
        assert (await _ramped(fleet, "w2")).ramping == "w2"
        assert (await fleet.deploys.ramp("w2", 0, limit_s=0)).ramping is None
        assert (await fleet.deploys.make_current("w2", limit_s=LIMIT_S))[0].current == "w2"
        await first.aclose()
        await run.signal(Tiny.release)
        assert await run.result() == "stored", "an open run goes on at the build that is current"
        assert "done: stored" in str(await closed.query("__temporal_workflow_metadata")), "who answers is w2"
        drained = await fleet.deploys.drain("w1", limit_s=LIMIT_S, say=said.append)
        assert drained.state in {"drained", "inactive"}
        with pytest.raises(Refused, match="current"):
            await fleet.deploys.drain("w2", limit_s=0)


@pytest.mark.parametrize(
    ("state", "open_runs", "ended"),
    [
        ("drained", 0, True),
        ("inactive", 0, True),
        ("inactive", 2, False),
        ("created", 0, True),
        ("draining", 0, False),
        ("unspecified", 0, False),
    ],
)
def test_workers_may_stop_only_when_nothing_comes_to_them(state: State, open_runs: int, *, ended: bool) -> None:
    assert has_drained(BuildStanding("w1", state, {}, open_runs)) is ended


async def test_a_build_that_is_not_all_there_changes_nothing(fleet: Fleet) -> None:
    said = list[str]()
    assert await kinds(fleet, NAME) == [], "it is named, and not there yet"
    with pytest.raises(Refused) as refused:
        await fleet.deploys.standing()
    assert refused.value.code == "deployment_unknown"
    with pytest.raises(Refused, match="no worker of the deployment") as refused:
        await fleet.deploys.make_current("w1", limit_s=0, say=said.append)
    assert refused.value.code == "deployment_not_ready"
    assert said == [f"waiting: no worker of the deployment {NAME} has been seen"]
    async with fleet.build("w1", inputs=False):
        await _until_polled(fleet, "w1", of=2)
        with pytest.raises(Refused, match=rf"polls .*{inputs_queue(fleet.queue)} \(activity\)"):
            await fleet.deploys.make_current("w1", limit_s=0)
        with pytest.raises(Refused, match="no worker of build w9 has been seen"):
            await fleet.deploys.ramp("w9", 10, limit_s=0)
        standing = await fleet.deploys.standing()
        assert (standing.current, standing.ramping) == (None, None)
        with pytest.raises(Refused, match="it knows: w1"):
            await fleet.deploys.drain("w9", limit_s=0)


async def test_a_build_whose_workers_are_gone_is_refused_and_found(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet.build("w1"):
        await fleet.deploys.make_current("w1", limit_s=LIMIT_S)
    monkeypatch.setattr(versions, "FRESH", timedelta(0))  # as if they had not polled for a minute and a half
    with pytest.raises(Refused, match="no worker of build w1 polls"):
        await fleet.deploys.make_current("w1", limit_s=0)
    (doubt,) = await doubts(fleet, NAME)
    assert doubt.kind == "queue_missing"
    assert "build w1" in doubt.found


async def test_a_current_build_without_workers_is_found_beside_workers_without_builds_and_can_be_turned_off(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    async with fleet.media():
        async with fleet.build("w1"):
            await fleet.deploys.make_current("w1", limit_s=LIMIT_S)
            begun = await fleet.start("tiny-begun")
            await _until_events(begun, 10)
            with pytest.raises(Refused, match="no worker without a build polls") as refused:
                await fleet.deploys.make_current(None, limit_s=0, say=said.append)
            assert refused.value.code == "deployment_not_ready"
            assert said == ["waiting: no worker without a build polls"]
            async with fleet.worker(fleet.queue, None, [inspect], [Tiny]):
                await _until_refused_for(fleet, f"polls {inputs_queue(fleet.queue)} (activity).")
            assert (await fleet.deploys.standing()).current == "w1"
        async with fleet.without_builds():
            run = await fleet.start("tiny-queued")
            with monkeypatch.context() as later:
                later.setattr(versions, "FRESH", timedelta(0))  # as if w1 had not polled for a minute and a half
                (doubt,) = await doubts(fleet)
            assert doubt.kind in {"queue_missing", "runs_unserved"}  # the server counts open runs a little later
            assert "the current build w1" in doubt.found
            assert f"onetake deploy current --none --deployment {NAME}" in doubt.fix
            assert await events_of(run) == 2, "it is the build's, and no worker of it is left"
            standing, changed = await fleet.deploys.make_current(None, limit_s=LIMIT_S)
            assert (standing.current, changed) == (None, True)
            standing, changed = await fleet.deploys.make_current(None, limit_s=LIMIT_S)
            assert (standing.current, changed) == (None, False)
            for each in (begun, run):
                await each.signal(Tiny.release)
                assert await each.result() == "stored"
            monkeypatch.setattr(versions, "FRESH", timedelta(0))
            async with asyncio.timeout(LIMIT_S):
                while await kinds(fleet):  # the server counts runs as open for a moment after their end
                    await asyncio.sleep(0.1)


async def _until_refused_for(fleet: Fleet, reason: str) -> None:
    """Ask until the server knows both pollers of the worker without a build that there is."""
    said = ""
    async with asyncio.timeout(LIMIT_S):
        while reason not in said:
            with pytest.raises(Refused) as refused:
                await fleet.deploys.make_current(None, limit_s=0)
            said = str(refused.value)
            await asyncio.sleep(0.1)


async def test_a_queue_that_only_another_build_polls_is_missing_at_the_current_one(fleet: Fleet) -> None:
    more = media_queue(fleet.queue, "apixo")
    async with fleet.build("w1"):
        await fleet.deploys.make_current("w1", limit_s=LIMIT_S)
        assert await kinds(fleet) == []
        async with fleet.worker(more, Version(NAME, "w2"), [media]), asyncio.timeout(LIMIT_S):
            while await kinds(fleet) != ["queue_missing"]:
                await asyncio.sleep(0.1)
            (doubt,) = await doubts(fleet)
    assert f"the current build w1 has no worker for {more}" in doubt.found


async def test_two_codes_on_a_queue_without_versions_are_found(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fleet.media():
        monkeypatch.setattr("onetake.engine.versioning.code_id", lambda: "cother")
        async with fleet.media("another process"):
            async with asyncio.timeout(LIMIT_S):
                while await kinds(fleet) != ["two_codes"]:
                    await asyncio.sleep(0.1)


async def test_a_worker_says_at_its_start_that_nothing_is_current(fleet: Fleet) -> None:
    with capture_logs() as said:
        await warn_at_start(fleet.client, Version(NAME, "w1"))
    assert [each["event"] for each in said] == ["deployment_without_current"]
    assert "onetake deploy current w1" in said[0]["detail"]


async def test_a_server_that_is_too_old_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "LEAST_SERVER", (99, 0, 0))
    with pytest.raises(Refused, match=r"versions need 99\.0\.0") as refused:
        await warn_at_start(fleet.client, Version(NAME, "w1"))
    assert refused.value.code == "engine_too_old"
    assert await kinds(fleet, NAME) == ["server_too_old"]


@pytest.mark.parametrize(
    ("said", "too_old"),
    [("1.28.3", True), ("1.29.0", True), ("1.29.1", False), ("1.31.2", False), ("2.0.0-rc.1", False), ("", False)],
)
def test_what_a_server_says_of_its_version(said: str, too_old: bool) -> None:
    assert is_too_old(said) is too_old


async def _until_polled(fleet: Fleet, build: str, of: int = 3) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await _polled(fleet, build) < of:
            await asyncio.sleep(0.1)


async def _polled(fleet: Fleet, build: str) -> int:
    try:
        standing = (await fleet.deploys.standing()).of(build)
    except Refused:
        return 0
    return len(standing.pollers) - len(standing.silent)


async def _until_events(run: WorkflowHandle[Any, Any], number: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await events_of(run) < number:
            await asyncio.sleep(0.1)


async def _ramped(fleet: Fleet, build: str) -> Standing:
    with pytest.raises(Refused, match="is current"):
        await fleet.deploys.ramp("w1", 25, limit_s=LIMIT_S)
    return await fleet.deploys.ramp(build, 25, limit_s=LIMIT_S)
