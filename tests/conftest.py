"""One house for the whole session: everything a test needs is started here and stopped at the end."""

import os
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from onetake.cli.stack import running_stack
from onetake.client import Onetake
from onetake.devstack.progress import SilentProgress
from tests.harness import RENDER_S, TIME_SCALE, Stack

OUTSIDE = ("ONETAKE_", "TEMPORAL_")


@pytest.fixture(scope="session")
def stack() -> Generator[Stack]:
    """Temporal, PostgreSQL, S3, simulator, gateway and workers, with all times scaled down."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(OUTSIDE)}
    environ["ONETAKE_TIME_SCALE"] = str(TIME_SCALE)
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
