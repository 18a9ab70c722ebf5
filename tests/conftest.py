"""One house for the whole session: everything a test needs is started here and stopped at the end."""

import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from onetake.client import Onetake
from onetake.dev.devstack.progress import SilentProgress
from onetake.dev.stack import running_stack
from tests.media.inputs.media_host import MediaHost, serving_media
from tests.system.harness import RENDER_S, TIME_SCALE, Stack, bare_environ


@pytest.fixture(scope="session")
def media_host(tmp_path_factory: pytest.TempPathFactory) -> Generator[MediaHost]:
    """Small valid media over HTTP, which the workers of `stack` trust: `media_host.url("picture.png")`."""
    with serving_media(tmp_path_factory.mktemp("media")) as host:
        yield host


@pytest.fixture(scope="session")
def stack(media_host: MediaHost) -> Generator[Stack]:
    """Temporal, PostgreSQL, S3, simulator, gateway and workers, with all times scaled down."""
    environ = bare_environ()
    environ["ONETAKE_TIME_SCALE"] = str(TIME_SCALE)
    environ["ONETAKE_TRUSTED_HOSTS"] = media_host.netloc
    home = Path(tempfile.mkdtemp(prefix="onetake-tests-"))
    with (
        running_stack(
            home,
            progress=SilentProgress(),
            environ=environ,
            ports="free",
            render_s=RENDER_S,
            ephemeral=True,
            temporal_in_memory=True,
        ) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
            patch.setenv(name, running.environment[name])
        yield Stack(running, environ | running.environment)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def onetake(stack: Stack) -> AsyncGenerator[Onetake]:
    """The public client of the session's house."""
    async with stack.client() as client:
        yield client
