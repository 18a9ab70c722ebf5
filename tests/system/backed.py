"""A PostgreSQL server that is backed up by the scripts of `deployment/backup`, and put back to a second."""

import asyncio
import os
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.devstack.postgres import OWNER, clean_env, open_cluster
from onetake.dev.devstack.toolchain import REPOSITORY
from onetake.ledger.database import connect_once
from tests.system.standby import LIMIT_S, Server

SCRIPTS: Final = REPOSITORY / "deployment" / "backup"
_CONF: Final = """
archive_mode = on
archive_command = '{scripts}/archive.sh --to {wal} "%p" "%f"'
summarize_wal = on
wal_summary_keep_time = '1d'
"""


class Backed:
    """One server on one port that stays, its backups and its archive; `restore` puts other data behind the port.

    `conf`: what is added to postgresql.conf, with `{scripts}` and `{wal}` for the folders."""

    def __init__(self, home: Path, conf: str = _CONF) -> None:
        home.chmod(0o755)
        self.cluster = open_cluster(home, os.environ)
        self.port = free_port(set())
        self._home = home
        self.scripts, self.backups, self.wal = home / "scripts", home / "backups", home / "wal"
        shutil.copytree(SCRIPTS, self.scripts)  # the server's user may not come to where we are
        for folder in (self.backups, self.wal):
            self._make(folder)
        with (self.cluster.data / "postgresql.conf").open("a") as file:
            file.write(conf.format(scripts=self.scripts, wal=self.wal))
        self._copies = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return self.cluster.url(self.port)

    async def start(self) -> None:
        """Serve what the data are now."""
        self._server = Server(self.cluster, self.port)
        await self._server.ready()

    def kill(self) -> None:
        """As its machine dies."""
        if self._server:
            self._server.kill()
            self._server = None

    async def script(self, name: str, *words: str, **env: str | None) -> "subprocess.CompletedProcess[str]":
        """Run one of the scripts as the server's user; a variable that is None is not set."""
        return await asyncio.to_thread(self._run, name, *words, **env)

    async def base(self, *words: str) -> None:
        """A whole backup."""
        well(await self.script("base.sh", "--to", str(self.backups), *words))

    async def incremental(self) -> None:
        """What has changed since the last one."""
        well(await self.script("incremental.sh", "--to", str(self.backups)))

    async def now(self) -> datetime:
        """The server's moment; all that was committed before is on this side of it."""
        session = await connect_once(self.url, limit_s=LIMIT_S)
        try:
            return await session.fetchval("select clock_timestamp()")
        finally:
            await session.close()

    async def archived(self) -> None:
        """Return when all that was committed until now is in the archive."""
        session = await connect_once(self.url, limit_s=LIMIT_S)
        try:
            await session.fetchval("select pg_logical_emit_message(true, 'onetake', 'drill')")
            segment = await session.fetchval("select pg_walfile_name(pg_switch_wal())")
            async with asyncio.timeout(LIMIT_S):
                while not await session.fetchval("select last_archived_wal >= $1 from pg_stat_archiver", segment):
                    await asyncio.sleep(0.1)
        finally:
            await session.close()

    async def restore(self, at: datetime, zone: str = "+00") -> str:
        """Put the data as they were then behind the port; what the script said."""
        self.kill()
        self._copies += 1
        data = self._home / f"restored-{self._copies}"
        self._make(data)
        done = await self.script("restore.sh", *self.words_of(at, data, zone))
        self.cluster = replace(self.cluster, data=data)
        well(done)
        await self.start()
        return done.stderr

    def words_of(self, at: datetime, data: Path, zone: str = "+00") -> list[str]:
        """The options of restore.sh. `zone` is how UTC is spelt."""
        moment = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") + zone
        return ["--from", str(self.backups), "--archive", str(self.wal), "--to", str(data), "--at", moment]

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        account = self.cluster.account
        if account.uid is not None and account.gid is not None:
            os.chown(folder, account.uid, account.gid)

    def _run(self, name: str, *words: str, **env: str | None) -> "subprocess.CompletedProcess[str]":
        account = self.cluster.account
        where = {"PGHOST": LOOPBACK, "PGPORT": str(self.port), "PGUSER": OWNER, "PGDATABASE": OWNER}
        path = f"{self.cluster.binaries}{os.pathsep}{os.environ['PATH']}"
        given = clean_env(os.environ) | where | {"PGPASSWORD": self.cluster.password, "PATH": path} | env
        return subprocess.run(
            [str(self.scripts / name), *words],
            env={name: value for name, value in given.items() if value is not None},
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=account.other_groups,
            capture_output=True,
            text=True,
            check=False,
        )


def well(done: "subprocess.CompletedProcess[str]") -> None:
    """It must have ended well."""
    assert done.returncode == 0, done.stderr
