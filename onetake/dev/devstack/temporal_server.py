"""The Temporal development server: how it is run, and the search attributes on a server that is not ours."""

# ruff: noqa: S603 - every command line here is made by us

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.ports import LOOPBACK
from onetake.dev.devstack.processes import Command

PART: Final = "temporal"
_CONNECT_LIMIT_S: Final = 20.0

# The development server has one history shard, whose queue reader polls 20 times a second unless told otherwise: every
# task of every workflow would wait for its tick. And a task queue is served by one server: four partitions of each,
# which is the default, only cost four times as much.
_DYNAMIC_CONFIG: Final = (
    "matching.enableFairness=true",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    "history.transferProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollRPS=2000",
    # A build of the workers is seen to be drained within seconds, and not minutes.
    'matching.wv.VersionDrainageStatusRefreshInterval="3s"',
    'matching.wv.VersionDrainageStatusVisibilityGracePeriod="3s"',
)


def server_command(
    program: Path,
    ports: Mapping[str, int],
    database: Path | None,
    search_attributes: Sequence[str],
    environ: Mapping[str, str],
) -> Command:
    """`temporal server start-dev` on the chosen ports. `database` None keeps everything in memory."""
    argv = [str(program), "server", "start-dev", "--ip", LOOPBACK, "--namespace", "default", "--log-level", "warn"]
    argv += ["--port", str(ports["temporal"]), "--ui-port", str(ports["temporal_ui"])]
    argv += ["--http-port", str(ports["temporal_http"])]
    argv += ["--ui-codec-endpoint", f"http://{LOOPBACK}:{ports['codec']}"]
    for value in _DYNAMIC_CONFIG:
        argv += ["--dynamic-config-value", value]
    for name in search_attributes:
        argv += ["--search-attribute", f"{name}=Keyword"]
    if database is not None:
        argv += ["--db-filename", str(database)]
    env = {name: value for name, value in environ.items() if not name.startswith("TEMPORAL_")}
    if _knows(program, "--ui-disable-news-fetch", env):
        argv.append("--ui-disable-news-fetch")
    return Command(PART, argv, env)


def health_url(ports: Mapping[str, int]) -> str:
    """Answers 200 once the namespace exists."""
    return f"http://{LOOPBACK}:{ports['temporal_http']}/api/v1/namespaces/default"


def _knows(program: Path, flag: str, env: Mapping[str, str]) -> bool:
    """Whether a program (one on PATH may be older than ours) takes the flag."""
    shown = subprocess.run(
        [program, "server", "start-dev", "--help"],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return flag in shown.stdout


def register_search_attributes(names: Sequence[str], environ: Mapping[str, str]) -> str:
    """Give the server named by TEMPORAL_ADDRESS these keyword search attributes; returns its namespace.

    Adds the missing ones where we may; else raises DevStackError with the command that an operator must run.
    Idempotent.
    """
    return asyncio.run(asyncio.wait_for(_register(names, environ), _CONNECT_LIMIT_S))


async def _register(names: Sequence[str], environ: Mapping[str, str]) -> str:
    config = ClientConfig.load_client_connect_config(override_env_vars=environ)
    address, namespace = config.get("target_host", ""), config.get("namespace", "default")
    try:
        client = await Client.connect(**config)
    except (RuntimeError, ValueError) as error:
        raise DevStackError(
            PART,
            f"no Temporal server answers at {address}",
            hint="Start it, correct TEMPORAL_ADDRESS, or unset it to run one here.",
        ) from error
    try:
        await _add_missing(client, names)
    except RPCError as error:
        wanted = " ".join(f"--name {name} --type Keyword" for name in names)
        raise DevStackError(
            PART,
            f"cannot register search attributes on {address} ({error.message})",
            hint=f"Run: temporal operator search-attribute create --namespace {namespace} {wanted}",
        ) from error
    return namespace


async def _add_missing(client: Client, names: Sequence[str]) -> None:
    have = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace=client.namespace))
    missing = [name for name in names if name not in have.custom_attributes]
    if missing:
        kinds = dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
        request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
        await client.operator_service.add_search_attributes(request)
