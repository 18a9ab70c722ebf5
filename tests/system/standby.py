"""A primary and its asynchronous standby, which can be cut off and take over without the last commits."""

import asyncio
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from asyncpg import exceptions as pg

from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.devstack.postgres import OWNER, Cluster, clean_env, open_cluster
from onetake.ledger.database import connect_once
from onetake.ledger.migrate import upgrade
from tests.system.relay import Relay

LIMIT_S: Final = 300.0
# A power failure is not what this is about, and a flush for each commit is slow.
_FAST: Final = (
    *("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=32MB"),
    *("-c", "wal_retrieve_retry_interval=200ms", "-c", "max_wal_size=2GB"),
)


class Server:
    """One PostgreSQL server with its own data, killed as a machine dies: all of its processes at once."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.cluster = cluster
        self.port = port
        command = cluster.command(port, os.environ)
        account = command.account
        self._log = (cluster.data.parent / f"{port}.log").open("ab")
        self._process = subprocess.Popen(
            [*command.argv, *_FAST],
            env=dict(command.env),
            cwd=command.cwd,
            user=account.uid,
            group=account.gid,
            extra_groups=account.other_groups,
            stdout=self._log,
            stderr=self._log,
        )

    async def ready(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            while True:
                with suppress(OSError, pg.PostgresError):
                    await (await connect_once(self.cluster.url(self.port))).close()
                    return
                await asyncio.sleep(0.1)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # from now on it makes no more of them
        family = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, family)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


class Pair:
    """Two servers on two ports that stay, as `url` names them; which is the primary changes with each failover."""

    def __init__(self, home: Path) -> None:
        home.chmod(0o755)
        self._cluster = open_cluster(home, os.environ)
        first = free_port(set())
        self._ports = [first, free_port({first})]
        self._relay: Relay | None = None
        self._standby: Server | None = None
        self._copies = 0

    @property
    def url(self) -> str:
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in sorted(self._ports))
        user, _, rest = self._cluster.url(0).rpartition("@")
        return f"{user}@{hosts}/{rest.partition('/')[2]}"

    async def start(self) -> None:
        """Bring up both, with our tables."""
        self._primary = Server(self._cluster, self._ports[0])
        await self._primary.ready()
        await upgrade(self._primary.cluster.url(self._primary.port))
        await self.follow()

    async def follow(self) -> None:
        """Make a standby of the present primary, on the other port; it streams when this returns."""
        port = next(each for each in self._ports if each != self._primary.port)
        self._copies += 1
        data = self._cluster.data.with_name(f"copy-{self._copies}")
        self._relay = Relay(LOOPBACK, self._primary.port)
        through = await self._relay.start()
        await asyncio.to_thread(self._copy, data, through)
        account = self._cluster.account
        self._standby = Server(Cluster(self._cluster.binaries, data, self._cluster.password, account), port)
        await self._standby.ready()
        await self._until_streaming()

    def cut(self) -> None:
        """From now on nothing that is committed reaches the standby."""
        assert self._relay
        self._relay.losing = True

    def mend(self) -> None:
        """Let the standby catch up again."""
        assert self._relay
        self._relay.losing = False

    async def fail_over(self) -> None:
        """Kill the primary, and promote the standby."""
        assert self._relay
        assert self._standby
        self.cut()
        self._primary.kill()
        await self._relay.stop()
        shutil.rmtree(self._primary.cluster.data, ignore_errors=True)
        session = await connect_once(self._standby.cluster.url(self._standby.port), limit_s=LIMIT_S)
        assert await session.fetchval("select pg_promote(true, 240)")
        await session.close()
        self._primary, self._standby, self._relay = self._standby, None, None

    async def stop(self) -> None:
        if self._standby:
            self._standby.kill()
        self._primary.kill()
        if self._relay:
            await self._relay.stop()

    def _copy(self, data: Path, through: int) -> None:
        account = self._cluster.account
        data.mkdir(mode=0o700)
        if account.uid is not None and account.gid is not None:
            os.chown(data, account.uid, account.gid)
        where = ["-h", LOOPBACK, "-p", str(self._primary.port), "-U", OWNER]
        done = subprocess.run(
            [str(self._cluster.binaries / "pg_basebackup"), "-D", str(data), *where, "-c", "fast", "--no-sync", "-R"],
            env=clean_env(os.environ) | {"PGPASSWORD": self._cluster.password},
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=account.other_groups,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        conninfo = f"host={LOOPBACK} port={through} user={OWNER} password={self._cluster.password}"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{conninfo}'\n")

    async def _until_streaming(self) -> None:
        session = await connect_once(self._primary.cluster.url(self._primary.port), limit_s=LIMIT_S)
        async with asyncio.timeout(LIMIT_S):
            while not await session.fetchval("select count(*) from pg_stat_replication where state = 'streaming'"):
                await asyncio.sleep(0.05)
        await session.close()
