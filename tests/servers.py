"""One Temporal server, one PostgreSQL and one S3 for all test processes of a run, and places of one's own on them.

The process that a person started (xdist's controller, or the only one there is) holds a lock as long as it lives. The
first test process that needs servers starts a keeper, `python -m tests.servers RUN`, which holds them until that lock
is free: they end with the run, however it ends, and a run that needs none starts none.
"""

import asyncio
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import IO, Final

from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import CountWorkflowExecutionsRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.errors import OnetakeError
from onetake.core.names import SearchAttribute
from onetake.dev.devstack import DevStack, SilentProgress, StackAddresses
from onetake.dev.devstack.object_store import Keys, ensure_bucket
from onetake.dev.devstack.postgres import write_secret
from onetake.dev.devstack.toolchain import REPOSITORY
from onetake.engine.temporal import ensure_search_attributes
from onetake.ledger.database import connect_once
from onetake.ledger.migrate import upgrade

READY: Final = "ready"
TEMPLATE: Final = "template_onetake"
LIMIT_S: Final = 300.0

# Crashes of the server's machine are not what tests on shared servers are about, and a flush for each commit is slow.
_FAST: Final = ("fsync = off", "full_page_writes = off", "max_wal_size = '2GB'")


@dataclass(frozen=True)
class Run:
    """The folder of one run of the tests, and the lock by which its servers know that it goes on."""

    folder: Path
    lock: IO[str] = field(repr=False)

    @classmethod
    def begin(cls) -> "Run":
        folder = Path(tempfile.mkdtemp(prefix="onetake-tests-"))
        folder.chmod(0o755)  # PostgreSQL may run as another user
        lock = _lock_of(folder).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(folder, lock)

    def end(self) -> None:
        """Return when the servers, if there are any, have ended; their keeper deletes the folder."""
        kept = (self.folder / "stack.lock").exists()
        self.lock.close()
        deadline = time.monotonic() + LIMIT_S
        while kept and self.folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Servers:
    """The running servers of this run."""

    addresses: StackAddresses
    folder: Path

    @property
    def objects(self) -> Path:
        """Where the S3 server keeps its buckets."""
        return self.folder / "s3"

    @property
    def keys(self) -> Keys:
        return Keys(self.addresses.s3_access_key, self.addresses.s3_secret_key)

    def of_ones_own(self, name: str) -> dict[str, str]:
        """The environment of a namespace, a migrated database and a bucket that nobody else uses."""
        own = f"{name}-{secrets.token_hex(4)}"
        asyncio.run(self._usable_namespace(own))
        return {
            "TEMPORAL_ADDRESS": self.addresses.temporal_address,
            "TEMPORAL_NAMESPACE": own,
            "ONETAKE_TEMPORAL_UI_URL": self.addresses.temporal_ui_url or "",
            "ONETAKE_DATABASE_URL": asyncio.run(self._database(own.replace("-", "_"))),
            "ONETAKE_S3_ENDPOINT": self.addresses.s3_endpoint,
            "ONETAKE_S3_ACCESS_KEY": self.addresses.s3_access_key,
            "ONETAKE_S3_SECRET_KEY": self.addresses.s3_secret_key,
            "ONETAKE_S3_BUCKET": self.bucket(own),
            "ONETAKE_S3_SECURE": "false",
            "ONETAKE_TRUSTED_HOSTS": self.addresses.s3_endpoint,
        }

    def bucket(self, name: str) -> str:
        """Make a bucket."""
        ensure_bucket(int(self.addresses.s3_endpoint.rpartition(":")[2]), self.keys, name)
        return name

    async def _database(self, name: str) -> str:
        url = self.addresses.database_url
        session = await connect_once(url, limit_s=LIMIT_S)
        await session.execute(f"create database {name} template {TEMPLATE} strategy file_copy")
        await session.close()
        return on_this_server(url, name)

    async def _usable_namespace(self, name: str) -> None:
        """Return when it can be used: who starts a run there need not wait for a worker."""
        client = await self.namespace(name)
        async with asyncio.timeout(LIMIT_S):
            while not await _searchable(client):
                await asyncio.sleep(0.05)

    async def namespace(self, name: str) -> Client:
        """Register a namespace without search attributes."""
        client = await Client.connect(self.addresses.temporal_address)
        keep = Duration()
        keep.FromTimedelta(timedelta(days=1))
        request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=keep)
        await client.workflow_service.register_namespace(request)
        async with asyncio.timeout(LIMIT_S):
            while not await _usable(client, name):
                await asyncio.sleep(0.05)
        return await Client.connect(self.addresses.temporal_address, namespace=name)


async def _usable(client: Client, namespace: str) -> bool:
    try:
        await client.workflow_service.count_workflow_executions(CountWorkflowExecutionsRequest(namespace=namespace))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def _searchable(client: Client) -> bool:
    """Whether runs can be found by our search attributes, which a busy server is slow to learn."""
    try:
        await ensure_search_attributes(client)
        await client.count_workflows(" AND ".join(f'{name} = "nobody"' for name in SearchAttribute.ALL))
    except (OnetakeError, RPCError):
        return False
    return True


def on_this_server(url: str, database: str) -> str:
    """The address of another database on the same server."""
    return f"{url.rpartition('/')[0]}/{database}"


@cache
def shared(folder: Path) -> Servers:
    """The servers of the run with this folder; started by the first process that asks."""
    with (folder / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _addresses_of(folder).exists():
            _start_keeper(folder)
    return Servers(StackAddresses.model_validate_json(_addresses_of(folder).read_text()), folder)


def _start_keeper(folder: Path) -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.servers", str(folder)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests; the servers end after them
    )
    assert keeper.stdout
    with keeper.stdout as said:
        if (first := said.readline().strip()) != READY:
            raise RuntimeError(f"the tests' servers do not start: {first}\n{said.read()}")
    keeper.returncode = 0  # it outlives this process: nobody here waits for it


def _addresses_of(folder: Path) -> Path:
    return folder / "addresses.json"


def _lock_of(folder: Path) -> Path:
    return folder / "run.lock"


def keep(folder: Path) -> None:
    """Start the servers, and hold them until the run has ended."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_"))}
    stack = DevStack(
        folder, progress=SilentProgress(), ports="free", environ=environ, ephemeral=True, temporal_in_memory=True
    )
    with _lock_of(folder).open() as lock, stack:
        at = stack.start_servers()
        asyncio.run(_prepare(at.database_url))
        draft = folder / "addresses.draft"
        write_secret(draft, at.model_dump_json())
        draft.replace(_addresses_of(folder))
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)


async def _prepare(database_url: str) -> None:
    """Make the database server quick, and the database that all others are copies of."""
    session = await connect_once(database_url)
    for setting in _FAST:
        await session.execute(f"alter system set {setting}")
    await session.execute("select pg_reload_conf()")
    await session.close()
    await upgrade(on_this_server(database_url, TEMPLATE))


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
