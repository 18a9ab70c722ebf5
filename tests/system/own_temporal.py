"""A Temporal server of one's own, whose runs can be copied and put back: what a restored backup of it would be."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from onetake.core.names import SearchAttribute
from onetake.dev.devstack.binaries import TEMPORAL, ProgramFinder
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.devstack.processes import Command, health_check
from onetake.dev.devstack.progress import SilentProgress
from onetake.dev.devstack.temporal_server import health_url, server_command

LIMIT_S: Final = 300.0
NAMES: Final = ("temporal", "temporal_ui", "temporal_http", "codec")


class OwnTemporal:
    """One development server on ports that stay, with its runs in a file."""

    def __init__(self, home: Path, *config: str) -> None:
        """`config`: dynamic configuration beyond ours, as `NAME=VALUE`."""
        self._config = [word for each in config for word in ("--dynamic-config-value", each)]
        self._file, self._copy, self._log = home / "temporal.db", home / "temporal.copy", home / "temporal.log"
        self._ports: dict[str, int] = {}
        for name in NAMES:
            self._ports[name] = free_port(set(self._ports.values()))
        with ProgramFinder(os.environ, SilentProgress()) as finder:
            self._program = finder.find(TEMPORAL)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._ports['temporal']}"

    async def start(self) -> None:
        """Serve what the file holds."""
        command = server_command(self._program, self._ports, self._file, SearchAttribute.ALL, os.environ)
        self._run(replace(command, argv=[*command.argv, *self._config]))
        is_healthy = health_check(health_url(self._ports))
        async with asyncio.timeout(LIMIT_S):
            while not await asyncio.to_thread(is_healthy):
                await asyncio.sleep(0.2)

    def _run(self, command: Command) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command.argv, env=dict(command.env), stdout=log, stderr=log)

    async def copy(self) -> None:
        """Keep its runs as they are now.

        Not while it serves: whoever reads its file may make a commit of its fail, and then it stands still for good
        ("shard status unknown")."""
        self.kill()
        with closing(sqlite3.connect(self._file)) as now, closing(sqlite3.connect(self._copy)) as kept:
            now.backup(kept)
        await self.start()

    def put_back(self) -> None:
        """Its machine dies, and what was kept takes the place of what it had."""
        self.kill()
        for path in self._file.parent.glob(f"{self._file.name}*"):
            path.unlink()
        shutil.copy(self._copy, self._file)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
