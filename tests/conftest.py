"""What whole sessions share: the servers of all processes of a run, and one running stack in each process."""

import logging
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import temporalio.service
from hypothesis import HealthCheck, settings

from onetake.client import Onetake
from onetake.dev.devstack.progress import SilentProgress
from onetake.dev.stack import running_stack
from tests.hogs import hogs
from tests.media.inputs.media_host import MediaHost, serving_media
from tests.order import seconds
from tests.servers import LIMIT_S, Run, Servers, shared
from tests.system.harness import RENDER_S, TIME_SCALE, Stack, bare_environ

FOLDER = pytest.StashKey[Path]()

# A run says the same as the one before it: no clock, which a busy machine stops, and no chance decides. Whoever wants
# other examples asks for them by `--hypothesis-profile exploring`.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeating", settings.get_profile("exploring"), derandomize=True, database=None)
settings.load_profile("repeating")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--busy", type=int, default=0, help="so many processes burn the processor beside the tests")


def pytest_configure(config: pytest.Config) -> None:
    """The process that a person started begins the run and ends it; xdist's workers are told which it is."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    if "run" in given:
        config.stash[FOLDER] = Path(given["run"])
        return
    run = Run.begin()
    config.stash[FOLDER] = run.folder
    config.add_cleanup(run.end)
    beside = ExitStack()
    beside.enter_context(hogs(config.option.busy))
    config.add_cleanup(beside.close)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Called by xdist for each worker before it starts."""
    node.workerinput["run"] = str(node.config.stash[FOLDER])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order whole files, never the tests of a file."""
    taken = seconds()
    items.sort(key=lambda item: -taken.get(item.nodeid.partition("::")[0], 0.0))


@pytest.fixture(scope="session", autouse=True)
def _busy_servers_are_waited_for() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """The SDK gives up a call without a limit of its own after ten seconds, in which a busy server answers no query."""
    client: Any = vars(temporalio.service)["_BridgeServiceClient"]
    call = client._rpc_call

    async def patient(*arguments: Any, **named: Any) -> Any:
        if named["service"] == "workflow":
            named["timeout"] = named["timeout"] or timedelta(seconds=LIMIT_S)
        return await call(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_rpc_call", patient)
        yield


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """A command that ran in this process has its log on a stream which ends with its test."""
    before = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = before


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """Temporal, PostgreSQL and S3, shared with the other processes of this run."""
    return shared(pytestconfig.stash[FOLDER])


@pytest.fixture(scope="session")
def media_host(tmp_path_factory: pytest.TempPathFactory) -> Generator[MediaHost]:
    """Small valid media over HTTP, which the workers of `stack` trust: `media_host.url("picture.png")`."""
    with serving_media(tmp_path_factory.mktemp("media")) as host:
        yield host


@pytest.fixture(scope="session")
def stack(servers: Servers, media_host: MediaHost) -> Generator[Stack]:
    """Simulator, gateway and workers of this process, with all times scaled down, on the run's servers."""
    environ = bare_environ() | servers.of_ones_own("stack")
    environ["ONETAKE_TIME_SCALE"] = str(TIME_SCALE)
    environ["ONETAKE_TRUSTED_HOSTS"] += f",{media_host.netloc}"
    home = Path(tempfile.mkdtemp(prefix="onetake-stack-"))
    with (
        running_stack(
            home, progress=SilentProgress(), environ=environ, ports="free", render_s=RENDER_S, ephemeral=True
        ) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
            patch.setenv(name, running.environment[name])
        yield Stack(running, environ | running.environment)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def onetake(stack: Stack) -> AsyncGenerator[Onetake]:
    """The public client of the session's stack."""
    async with stack.client() as client:
        yield client
