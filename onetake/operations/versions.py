"""Worker Deployments at Temporal: which build is current, ramped or drained, who polls, and what is wrong with it.

`onetake deploy`, `onetake doctor` and a worker that starts read them here.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, cast

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import TaskQueueType, WorkerDeploymentVersionStatus, WorkerVersioningMode
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentResponse,
    GetSystemInfoRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake.core import logs
from onetake.core.errors import Refused, TryLater
from onetake.core.names import inputs_queue, media_queue, read_queue, submit_queue, sweep_queue
from onetake.engine.limits import RPC_LIMIT
from onetake.engine.versioning import NAME_VARIABLE, Version

LEAST_SERVER: Final = (1, 29, 1)
# Temporal lists a poller for five minutes after its last poll; one that lives polls again within a minute.
FRESH: Final = timedelta(seconds=90)
_WORKFLOW: Final = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
_ACTIVITY: Final = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY

State = Literal["created", "inactive", "current", "ramping", "draining", "drained", "unspecified"]
DoubtKind = Literal[
    "server_too_old", "nothing_current", "queue_missing", "drained_polled", "runs_unserved", "two_codes"
]

Kind = Literal["activity", "workflow"]

_log = logs.logger(__name__)


@dataclass(frozen=True, order=True)
class Queue:
    """A task queue with what is polled there: `workflow` or `activity` tasks."""

    name: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


Polled = Mapping[Queue, Sequence[PollerInfo]]


@dataclass(frozen=True)
class BuildStanding:
    """One build of the deployment. `pollers` has a number for each of the queues that it should serve, or does."""

    build: str
    state: State
    pollers: Mapping[Queue, int]
    open_runs: int

    @property
    def silent(self) -> list[Queue]:
        """The queues that no worker of this build polls."""
        return [queue for queue, number in self.pollers.items() if not number]

    @property
    def is_polled(self) -> bool:
        """Whether a worker of this build polls any queue."""
        return any(self.pollers.values())


@dataclass(frozen=True)
class Standing:
    """A deployment. `current` and `ramping` are builds; None stands for workers without a version, or for no ramp.

    `builds` begins with the newest."""

    deployment: str
    current: str | None
    ramping: str | None
    percent: float
    builds: tuple[BuildStanding, ...]

    def of(self, build: str) -> BuildStanding:
        """Raises Refused(`deployment_unknown`)."""
        for each in self.builds:
            if each.build == build:
                return each
        known = ", ".join(each.build for each in self.builds) or "none"
        raise Refused("deployment_unknown", f"Temporal has seen no worker of build {build}; it knows: {known}.")


@dataclass(frozen=True)
class Doubt:
    """Something that is wrong with how workers are versioned, and what to do."""

    kind: DoubtKind
    found: str
    fix: str


# -- Queues and who polls them -----------------------------------------------------------------------------------------


def versioned_queues(task_queue: str) -> tuple[Queue, ...]:
    """The queues of the role `orchestrate`."""
    return (
        Queue(task_queue, "workflow"),
        Queue(task_queue, "activity"),
        Queue(inputs_queue(task_queue), "activity"),
    )


def all_queues(task_queue: str, vendors: Iterable[str]) -> tuple[Queue, ...]:
    """The queues of all roles; `vendors` are those that have a key."""
    of_vendors = [name_of(task_queue, each) for each in vendors for name_of in (submit_queue, read_queue, media_queue)]
    names = (*of_vendors, sweep_queue(task_queue))
    return (*versioned_queues(task_queue), *(Queue(name, "activity") for name in names))


def kind_of(number: TaskQueueType.ValueType) -> Kind:
    """What is polled at a queue, of Temporal's number for it."""
    return "workflow" if number == _WORKFLOW else "activity"


async def pollers_of(client: Client, queues: Sequence[Queue]) -> dict[Queue, list[PollerInfo]]:
    """Who has polled each queue in the last five minutes. Raises RPCError."""
    found = await asyncio.gather(*(_described(client, each) for each in queues))
    return {queue: list(each.pollers) for queue, each in zip(queues, found, strict=True)}


async def _described(client: Client, queue: Queue) -> DescribeTaskQueueResponse:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue.name),
        task_queue_type=_WORKFLOW if queue.kind == "workflow" else _ACTIVITY,
    )
    return await client.workflow_service.describe_task_queue(request, timeout=RPC_LIMIT)


def count_without_build(polled: Polled) -> Counter[Queue]:
    """How many processes without a build poll each queue now."""
    return Counter(queue for queue, found in polled.items() for each in _fresh(found) if not _is_versioned(each))


def count_by_build(polled: Polled, deployment: str) -> Counter[tuple[Queue, str]]:
    """How many processes of a deployment poll each queue now, by build."""
    return Counter(
        (queue, each.deployment_options.build_id)
        for queue, pollers in polled.items()
        for each in _fresh(pollers)
        if _is_versioned(each) and each.deployment_options.deployment_name == deployment
    )


async def deployments_of(client: Client, task_queue: str, polled: Polled, named: str = "") -> list[str]:
    """The deployments whose workers poll now, those that Temporal hands the work to, also when no worker of them is
    left, and the one that is named. Raises RPCError."""
    pollers = (each for of_queue in polled.values() for each in _fresh(of_queue))
    names = {each.deployment_options.deployment_name for each in pollers if _is_versioned(each)}
    for queue in await asyncio.gather(*(_described(client, each) for each in versioned_queues(task_queue))):
        routing = queue.versioning_info
        names |= {
            routing.current_deployment_version.deployment_name,
            routing.ramping_deployment_version.deployment_name,
        }
    return sorted((names | {named}) - {""})


def _fresh(pollers: Iterable[PollerInfo]) -> list[PollerInfo]:
    oldest = datetime.now(UTC) - FRESH
    return [each for each in pollers if each.last_access_time.ToDatetime(UTC) >= oldest]


def _is_versioned(poller: PollerInfo) -> bool:
    return poller.deployment_options.worker_versioning_mode == WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED


# -- A deployment ------------------------------------------------------------------------------------------------------


async def describe(client: Client, deployment: str) -> DescribeWorkerDeploymentResponse:
    """Raises Refused(`deployment_unknown`, `engine_too_old`), TryLater(`engine_unavailable`)."""
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment)
    with translated():
        try:
            return await client.workflow_service.describe_worker_deployment(request, timeout=RPC_LIMIT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        await refuse_old_server(client)
    raise Refused("deployment_unknown", f"Temporal has seen no worker of the deployment {deployment}.")


def summaries(info: WorkerDeploymentInfo) -> Sequence[WorkerDeploymentInfo.WorkerDeploymentVersionSummary]:
    """The builds of a deployment, the newest first."""
    return sorted(info.version_summaries, key=lambda each: each.create_time.ToDatetime(), reverse=True)


async def standing_of(client: Client, task_queue: str, deployment: str, polled: Polled | None = None) -> Standing:
    """How a deployment stands. `polled`: who polls, as it was read already, of its queues and maybe of others.

    Raises Refused(`deployment_unknown`, `engine_too_old`), TryLater(`engine_unavailable`)."""
    info = (await describe(client, deployment)).worker_deployment_info
    with translated():
        found = await pollers_of(client, versioned_queues(task_queue)) if polled is None else polled
        builds = await _builds(client, task_queue, info, count_by_build(found, deployment))
    routing = info.routing_config
    return Standing(
        deployment=deployment,
        current=routing.current_deployment_version.build_id or None,
        ramping=routing.ramping_deployment_version.build_id or None,
        percent=round(routing.ramping_version_percentage, 2),
        builds=builds,
    )


async def _builds(
    client: Client, task_queue: str, info: WorkerDeploymentInfo, counts: Counter[tuple[Queue, str]]
) -> tuple[BuildStanding, ...]:
    states: dict[str, State] = {each.deployment_version.build_id: _state(each.status) for each in summaries(info)}
    runs = await asyncio.gather(*(_open_runs(client, task_queue, Version(info.name, build)) for build in states))
    polled_too = {queue for queue, build in counts if states.get(build) != "drained"}
    wanted = dict.fromkeys((*versioned_queues(task_queue), *sorted(polled_too)))
    return tuple(
        BuildStanding(build, state, _numbers(build, wanted, counts), number)
        for (build, state), number in zip(states.items(), runs, strict=True)
    )


def _numbers(build: str, wanted: Iterable[Queue], counts: Counter[tuple[Queue, str]]) -> dict[Queue, int]:
    """The workers of a build on each queue that is wanted of it, and on what else it polls."""
    own = sorted(queue for queue, of in counts if of == build)
    return {queue: counts[queue, build] for queue in (*wanted, *own)}


def _state(status: WorkerDeploymentVersionStatus.ValueType) -> State:
    name = WorkerDeploymentVersionStatus.Name(status).removeprefix("WORKER_DEPLOYMENT_VERSION_STATUS_")
    return cast("State", name.lower())


async def _open_runs(client: Client, task_queue: str, version: Version) -> int:
    named = str(version).replace("'", "")
    query = (
        f"ExecutionStatus = 'Running' AND TaskQueue = '{task_queue}' AND TemporalWorkerDeploymentVersion = '{named}'"
    )
    return (await client.count_workflows(query, rpc_timeout=RPC_LIMIT)).count


@contextmanager
def translated() -> Generator[None]:
    """Temporal's errors as ours."""
    try:
        yield
    except RPCError as error:
        raise _problem(error) from None


def _problem(error: RPCError) -> Refused | TryLater:
    match error.status:
        case RPCStatusCode.UNIMPLEMENTED:
            return Refused("engine_too_old")
        case RPCStatusCode.NOT_FOUND:
            return Refused("deployment_unknown", error.message[:300])
        case RPCStatusCode.FAILED_PRECONDITION | RPCStatusCode.INVALID_ARGUMENT:
            return Refused("deployment_not_ready", error.message[:300])
        case _:
            return TryLater("engine_unavailable", f"It answered {error.status.name}.")


async def refuse_old_server(client: Client) -> None:
    """Raises Refused(`engine_too_old`) for a server without worker versioning, RPCError."""
    said = (await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=RPC_LIMIT)).server_version
    if is_too_old(said):
        raise Refused("engine_too_old", f"It is {said}, and versions need {'.'.join(map(str, LEAST_SERVER))}.")


def is_too_old(server_version: str) -> bool:
    """Whether a server of this version cannot route by versions; one that does not say so can."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", server_version)
    return numbers is not None and tuple(map(int, numbers.groups())) < LEAST_SERVER


# -- What may be wrong -------------------------------------------------------------------------------------------------


async def warn_at_start(client: Client, version: Version) -> None:
    """Say in the worker's log when nothing will be handed to it. Raises Refused(`engine_too_old`)."""
    with translated():
        await refuse_old_server(client)
    try:
        routing = (await describe(client, version.deployment)).worker_deployment_info.routing_config
        current = routing.current_deployment_version.build_id or None
    except Refused:  # the first worker of the deployment
        current = None
    except TryLater as error:
        _log.warning("deployment_not_read", deployment=version.deployment, detail=error.detail)
        return
    if current is None:
        _log.warning(
            "deployment_without_current",
            deployment=version.deployment,
            build=version.build,
            detail=f"No versioned worker gets work until: onetake deploy current {version.build}",
        )
    elif current != version.build:
        _log.info("deployment_not_current", deployment=version.deployment, build=version.build, current=current)


async def doubts_of(client: Client, task_queue: str, polled: Polled, named: str = "") -> list[Doubt]:
    """All that is wrong with how workers are versioned. `polled`: who polls the queues, `named`: a deployment that is
    looked at also when no worker of it polls. One that Temporal does not know is not there yet.

    Raises TryLater(`engine_unavailable`)."""
    doubts = doubts_of_codes(polled)
    with translated():
        names = await deployments_of(client, task_queue, polled, named)
    try:
        if names:
            with translated():
                await refuse_old_server(client)
        for name in names:
            doubts += await _doubts_of_one(client, task_queue, polled, name)
    except Refused as refusal:
        if refusal.code != "engine_too_old":
            raise
        fix = f"Upgrade Temporal's server, or unset {NAME_VARIABLE} on the workers."
        doubts.append(Doubt("server_too_old", str(refusal), fix))
    return doubts


async def _doubts_of_one(client: Client, task_queue: str, polled: Polled, name: str) -> list[Doubt]:
    try:
        return doubts_of_standing(await standing_of(client, task_queue, name, polled))
    except Refused as refusal:
        if refusal.code != "deployment_unknown":
            raise
        return []


def doubts_of_codes(polled: Polled) -> list[Doubt]:
    """Queues without versions that workers of two codes poll: a deploy that is under way, or one that stopped."""
    codes = defaultdict[str, set[str]](set)
    for queue, pollers in polled.items():
        codes[queue.name] |= {code for each in _fresh(pollers) if not _is_versioned(each) and (code := _code_of(each))}
    mixed = {name: found for name, found in codes.items() if len(found) > 1}
    if not mixed:
        return []
    told = (f"{name} is polled by {len(found)} builds: {', '.join(sorted(found))}" for name, found in mixed.items())
    fix = "Finish the deploy: stop the workers of the older one. It is normal for a minute or two."
    return [Doubt("two_codes", "; ".join(told), fix)]


def _code_of(poller: PollerInfo) -> str:
    return poller.deployment_options.build_id or poller.worker_version_capabilities.build_id


def doubts_of_standing(standing: Standing) -> list[Doubt]:
    """What is wrong with a deployment; one without builds is not there yet."""
    doubts = list[Doubt]()
    if standing.current is None and standing.builds:
        build = next((each for each in standing.builds if each.is_polled), standing.builds[0]).build
        found = f"{standing.deployment} has {len(standing.builds)} builds and none is current: its workers get no work"
        fix = f"Run: onetake deploy current {build}; or stop its workers, where builds are to be turned off."
        doubts.append(Doubt("nothing_current", found, fix))
    return doubts + [doubt for each in standing.builds for doubt in _doubts_of_build(standing.deployment, each)]


def _doubts_of_build(deployment: str, each: BuildStanding) -> list[Doubt]:
    what, is_used = f"{deployment}: the {each.state} build {each.build}", each.state in {"current", "ramping"}
    turn_off = f"`onetake deploy current --none --deployment {deployment}` gives the work to workers without builds."
    if each.state == "drained":  # no open run is bound to it any more
        found = f"{what} has nothing left to do, and workers of it still poll"
        return [Doubt("drained_polled", found, "Stop its workers.")] if each.is_polled else []
    if each.open_runs and not each.is_polled:
        until = f"or make another build current. {turn_off}"
        until = until if is_used else f"until `onetake deploy drain {each.build}` ends."
        fix = f"Start workers of {each.build} again (`onetake worker --role orchestrate`), {until}"
        return [Doubt("runs_unserved", f"{what} has {each.open_runs} open runs and no worker", fix)]
    if is_used and each.silent:
        found = f"{what} has no worker for {', '.join(map(str, each.silent))}"
        fix = f"Start workers of it (`onetake worker --role orchestrate`), or make another build current. {turn_off}"
        return [Doubt("queue_missing", found, fix)]
    return []
