import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Generator
from contextlib import suppress

import pytest

from onetake.dev.devstack.binaries import VERSITYGW, ProgramFinder
from onetake.dev.devstack.object_store import Keys, health_url, server_command
from onetake.dev.devstack.ports import free_port
from onetake.dev.devstack.progress import SilentProgress
from onetake.media.storage import BucketStore
from tests.media.storage.parts import Server

START_LIMIT_S = 10.0


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    home, port = tmp_path_factory.mktemp("s3"), free_port(set())
    keys = Keys(secrets.token_hex(10), secrets.token_hex(20))
    with ProgramFinder(os.environ, SilentProgress()) as finder:
        command = server_command(finder.find(VERSITYGW), port, home, keys, os.environ)
    process = subprocess.Popen(
        list(command.argv), env=dict(command.env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(health_url(port))
        yield Server(f"127.0.0.1:{port}", keys, home / "s3")
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.02)
    pytest.fail("the S3 server does not start")


@pytest.fixture(scope="session")
async def store(server: Server) -> AsyncIterator[BucketStore]:
    store = server.store()
    await store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
def key() -> str:
    """A key nobody used."""
    return f"tenant/gen_{secrets.token_hex(8)}/1/0.mp4"
