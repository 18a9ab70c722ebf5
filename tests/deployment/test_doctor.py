"""What `onetake doctor` says of versions of workers, on a real server with real pollers: one deployment's life."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from onetake.cli.doctor import versions
from onetake.core.names import inputs_queue, media_queue
from tests.cli.test_doctor import PLAIN, found_by, is_told
from tests.servers import Servers

BASE, NAME = "onetake", "drilled"
MEDIA = media_queue(BASE, "apixo")
GIVEN = PLAIN | {"apixo_api_key": "key"}
LIMIT_S = 300.0


@workflow.defn(name="Generation", sandboxed=False)
class Waiting:
    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


@activity.defn
async def nothing() -> None: ...


def versioned(client: Client, queue: str, build: str) -> Worker:
    config = WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(NAME, build),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED if queue == BASE else VersioningBehavior.UNSPECIFIED,
    )
    flows = [Waiting] if queue == BASE else []
    return Worker(client, task_queue=queue, workflows=flows, activities=[nothing], deployment_config=config)


def unversioned(client: Client, build: str) -> Worker:
    config = WorkerDeploymentConfig(version=WorkerDeploymentVersion("onetake", build), use_worker_versioning=False)
    # Two processes have two identities; the server keeps one poller for each.
    return Worker(client, task_queue=MEDIA, activities=[nothing], deployment_config=config, identity=build)


@asynccontextmanager
async def running(*workers: Worker) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        await asyncio.gather(*tasks)


async def until(code: str, given: dict[str, Any] = GIVEN) -> dict[str, Any]:
    """What is found once it is this alone; pollers and versions show up a moment after they begin."""
    deadline = time.monotonic() + LIMIT_S
    while list(found := await found_by(versions.versions, given)) != ([code] if code else []):
        assert time.monotonic() < deadline, f"{code or 'nothing'} was to be found, and not {found}"
        await asyncio.sleep(0.2)
    return found


async def make_current(client: Client, build: str) -> None:
    """The server knows a build a moment after its first poll."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=NAME, build_id=build, ignore_missing_task_queues=True
    )
    async with asyncio.timeout(LIMIT_S):
        while True:
            with suppress(RPCError):
                await client.workflow_service.set_worker_deployment_current_version(request)
                return
            await asyncio.sleep(0.2)


async def test_one_deployments_life_is_told_step_by_step(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    place = await asyncio.to_thread(servers.of_ones_own, "versions")
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
        monkeypatch.setenv(name, place[name])
    client = await Client.connect(place["TEMPORAL_ADDRESS"], namespace=place["TEMPORAL_NAMESPACE"])
    assert await found_by(versions.versions, GIVEN) == {}
    inputs = inputs_queue(BASE)
    async with running(versioned(client, BASE, "b1"), versioned(client, inputs, "b1")):
        is_told(await until("version_not_current"), "version_not_current", "onetake deploy current b1")
        await make_current(client, "b1")
        await until("")
        run = await client.start_workflow("Generation", id="gen/doctor/pinned", task_queue=BASE)
        async with running(versioned(client, BASE, "b2")):
            await make_current(client, "b2")
            found = await until("current_lacks_queue")
            assert f"b2 has no worker for {inputs}" in found["current_lacks_queue"].found
            await make_current(client, "b1")
            await until("")
        async with running(unversioned(client, "c1"), unversioned(client, "c2")):
            found = await until("builds_mixed")
            is_told(found, "builds_mixed", "Finish the deploy", verdict="warning")
            assert f"{MEDIA} is polled by 2 builds: c1, c2" in found["builds_mixed"].found
    await run.terminate()
