"""Deploys of builds: making one current, ramping one, and waiting until one is done.

A build serves nothing until it is made current, or ramped. It is made so only while workers of it poll every queue of
the role `orchestrate`: Temporal would hand workflows to a version whose queues nobody serves.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentResponse,
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.errors import Refused, TryLater
from onetake.engine.limits import RPC_LIMIT
from onetake.engine.versioning import check_build, check_name
from onetake.operations.versions import (
    BuildStanding,
    Queue,
    Standing,
    count_by_build,
    count_without_build,
    describe,
    kind_of,
    pollers_of,
    standing_of,
    summaries,
    translated,
    versioned_queues,
)

LOOK_EVERY_S: Final = 1.0

Say = Callable[[str], None]


def has_drained(build: BuildStanding) -> bool:
    """Whether nothing more comes to the workers of a build. One that never had any share has nothing to drain, unless
    runs are open on it; one whose state Temporal does not tell yet may still get some."""
    return build.state == "drained" or (build.state in {"created", "inactive"} and not build.open_runs)


def silently(_: str) -> None:
    """Nobody follows."""


class Deploys:
    """The deployment `deployment` of the workers that serve `task_queue`."""

    def __init__(self, client: Client, task_queue: str, deployment: str) -> None:
        check_name(deployment)
        self._client = client
        self._queues = versioned_queues(task_queue)
        self._task_queue = task_queue
        self._deployment = deployment

    async def standing(self) -> Standing:
        """Raises Refused(`deployment_unknown`, `engine_too_old`), TryLater(`engine_unavailable`)."""
        return await standing_of(self._client, self._task_queue, self._deployment)

    async def make_current(self, build: str | None, *, limit_s: float, say: Say = silently) -> tuple[Standing, bool]:
        """Route all workflows to the build, once workers of it poll every queue, and end the ramp of another one.
        None routes them to the workers without builds.

        Returns whether that changed anything. Raises Refused(`deployment_unknown`, `deployment_not_ready`,
        `engine_too_old`), TryLater(`engine_unavailable`); nothing is changed then. Repeatable.
        """
        if build is not None:
            check_build(build)
        described = await self._ready(build, limit_s, say)
        routing, token = described.worker_deployment_info.routing_config, described.conflict_token
        is_current = routing.current_deployment_version.build_id == (build or "")
        # Temporal ends the ramp of a build that becomes current, and of no other.
        is_shared = bool(routing.ramping_version_percentage) and routing.ramping_deployment_version.build_id != build
        if not is_current:
            token = await self._set_current(build or "", token)
        if is_shared:
            await self._set_ramp("", 0, token)
        return await self.standing(), is_shared or not is_current

    async def ramp(self, build: str, percent: float, *, limit_s: float, say: Say = silently) -> Standing:
        """Route a share of the workflows to the build, once workers of it poll every queue; 0 ends its ramp.

        Raises as `make_current`, and Refused(`usage`) for the build that is current."""
        check_build(build)
        ready = self._ready(build, limit_s, say) if percent else describe(self._client, self._deployment)
        described = await ready
        routing = described.worker_deployment_info.routing_config
        if routing.current_deployment_version.build_id == build:
            raise Refused("usage", f"Build {build} is current: everything goes to it.")
        if not percent and routing.ramping_deployment_version.build_id != build:
            return await self.standing()
        await self._set_ramp(build if percent else "", percent, described.conflict_token)
        return await self.standing()

    async def _set_current(self, build: str, token: bytes) -> bytes:
        """Make a build current, or with "" none. Returns the token of the deployment as it is then."""
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self._client.namespace,
            deployment_name=self._deployment,
            build_id=build,
            conflict_token=token,
            identity=self._client.identity,
        )
        with translated():
            service = self._client.workflow_service
            return (await service.set_worker_deployment_current_version(request, timeout=RPC_LIMIT)).conflict_token

    async def _set_ramp(self, build: str, percent: float, token: bytes) -> None:
        """Ramp a build to a share; no build ends the ramp."""
        request = SetWorkerDeploymentRampingVersionRequest(
            namespace=self._client.namespace,
            deployment_name=self._deployment,
            build_id=build,
            percentage=percent,
            conflict_token=token,
            identity=self._client.identity,
        )
        with translated():
            await self._client.workflow_service.set_worker_deployment_ramping_version(request, timeout=RPC_LIMIT)

    async def drain(self, build: str, *, limit_s: float, say: Say = silently) -> BuildStanding:
        """Wait until Temporal has nothing more for the workers of the build. It looks every few minutes.

        Raises Refused(`deployment_unknown`, `usage` for what is current or ramping, `deployment_not_ready` when the
        time is over), TryLater(`engine_unavailable`)."""
        deadline, told = time.monotonic() + limit_s, ""
        while True:
            try:
                found = (await self.standing()).of(build)
            except TryLater:
                if time.monotonic() >= deadline:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            if found.state in {"current", "ramping"}:
                raise Refused("usage", f"Build {build} is {found.state}: make another one current first.")
            if has_drained(found):
                return found
            told = _say_news(say, told, f"build {build} is {found.state}; {found.open_runs} open runs were seen on it")
            if time.monotonic() >= deadline:
                raise Refused("deployment_not_ready", f"Build {build} is still {found.state} after {limit_s:g} s.")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ready(self, build: str | None, limit_s: float, say: Say) -> DescribeWorkerDeploymentResponse:
        """The deployment, as soon as every queue has a poller of the build. Raises Refused(`deployment_not_ready`)."""
        deadline, told = time.monotonic() + limit_s, ""
        while True:
            lacks, described = await self._patiently_lacks(build, deadline)
            if not lacks and described is not None:
                return described
            told = _say_news(say, told, f"waiting: {lacks}")
            if time.monotonic() >= deadline:
                raise Refused("deployment_not_ready", f"After {limit_s:g} s {lacks}. Nothing changed.")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _patiently_lacks(
        self, build: str | None, deadline: float
    ) -> tuple[str, DescribeWorkerDeploymentResponse | None]:
        """`_lacks`; a server that allows few such questions a second is asked again while there is time."""
        try:
            return await self._lacks(build)
        except TryLater as error:
            if time.monotonic() >= deadline:
                raise
            return error.detail, None

    async def _lacks(self, build: str | None) -> tuple[str, DescribeWorkerDeploymentResponse | None]:
        """What keeps a build, or the workers without one, from being used; "" when nothing does."""
        try:
            described = await describe(self._client, self._deployment)
        except Refused as refusal:
            if refusal.code != "deployment_unknown":
                raise
            return f"no worker of the deployment {self._deployment} has been seen", None
        if build is None:
            with translated():
                found = count_without_build(await pollers_of(self._client, self._queues))
            return self._silence([queue for queue in self._queues if not found[queue]], "without a build"), described
        if build not in {each.deployment_version.build_id for each in summaries(described.worker_deployment_info)}:
            return f"no worker of build {build} has been seen", described
        with translated():
            pollers = count_by_build(await pollers_of(self._client, self._queues), self._deployment)
            registered = await self._registered(build)
        silent = [queue for queue in self._queues if not pollers[queue, build] or queue not in registered]
        return self._silence(silent, f"of build {build}"), described

    def _silence(self, silent: list[Queue], whose: str) -> str:
        if len(silent) == len(self._queues):
            return f"no worker {whose} polls"
        return f"no worker {whose} polls {', '.join(map(str, silent))}" if silent else ""

    async def _registered(self, build: str) -> frozenset[Queue]:
        """The queues that Temporal counts to a build, a little after its workers have begun to poll them."""
        request = DescribeWorkerDeploymentVersionRequest(
            namespace=self._client.namespace,
            deployment_version=WorkerDeploymentVersion(deployment_name=self._deployment, build_id=build),
        )
        service = self._client.workflow_service
        try:
            found = await service.describe_worker_deployment_version(request, timeout=RPC_LIMIT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return frozenset()  # the deployment names it already
        infos = found.worker_deployment_version_info.task_queue_infos
        return frozenset(Queue(each.name, kind_of(each.type)) for each in infos)


def _say_news(say: Say, told: str, news: str) -> str:
    if news != told:
        say(news)
    return news
