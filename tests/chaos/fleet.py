"""The workers and the gateways of a run: real processes that are killed, stopped, armed and brought back.

Each writes down every address that it dials.
"""

import asyncio
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase
from typing import Final, cast

from onetake.dev.devstack.ports import free_port
from tests.system.forked import Child, spawn_call
from tests.system.started import has_started

READY_LIMIT_S: Final = 240.0
CONNECTS: Final = "ONETAKE_TESTS_CONNECTS"
ROLES: Final = {
    "worker": ("orchestrate", "vendors"),
    "media": ("media",),
    "orchestrate": ("orchestrate",),
    "vendors": ("vendors",),
}


def watched_command(words: Sequence[str]) -> None:
    """Run `onetake WORDS...`, and note each address that this process connects to."""
    from onetake.cli import main  # noqa: PLC0415 - loaded by the process that is forked

    log = os.open(os.environ[CONNECTS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "socket.connect":
            os.write(log, f"{place_of(arguments[1])}\n".encode())

    sys.addaudithook(hook)
    sys.argv = ["onetake", *words]
    main()


def place_of(address: object) -> str:
    """`host:port`, or the path of a local socket."""
    parts = cast("tuple[object, ...]", address) if isinstance(address, tuple) else ()
    return f"{parts[0]}:{parts[1]}" if len(parts) > 1 else f"local socket {address!r}"


@dataclass
class _Part:
    words: tuple[str, ...]
    port: int
    child: Child
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Fleet:
    """Every part by its name. `deaths` counts the crash points at which one died."""

    def __init__(self, environment: Mapping[str, str], home: Path) -> None:
        self.deaths: Counter[str] = Counter()
        self.kills = 0
        self.stops = 0
        self.readers_hurt = 0
        self._environment = {**environment, CONNECTS: str(home / "connects")}
        self._logs = home / "logs"
        self._parts: dict[str, _Part] = {}
        self._lives: dict[str, int] = defaultdict(int)

    @property
    def pids(self) -> set[int]:
        return {part.child.pid for part in self._parts.values()}

    async def start(self, name: str, port: int, words: Sequence[str]) -> None:
        """Start a part: `onetake WORDS...`. Its port tells when it has started."""
        self._parts[name] = _Part(tuple(words), port, await self._spawn(name, words, ""))

    async def ready(self) -> None:
        """Return when every part serves. One that could not start, because its servers were slow, is started again.
        Raises TimeoutError."""
        async with asyncio.timeout(READY_LIMIT_S):
            for name, part in self._parts.items():
                while not await asyncio.to_thread(has_started, part.port):
                    await self._bring_back(name)
                    await asyncio.sleep(0.2)

    def idle(self, kind: str) -> str | None:
        """A part of this kind (`worker`, `media`, `gateway`) that nothing is being done to, of several the one that has
        lived the fewest lives; None when there is none."""
        idle = [name for name, part in self._parts.items() if name.startswith(kind) and not part.lock.locked()]
        return min(idle, key=lambda name: self._lives[name], default=None)

    async def down(self, name: str, for_s: float) -> None:
        """Kill a part, and bring it back after so long."""
        part = self._parts[name]
        async with part.lock:
            part.child.kill()
            self.kills += 1
            await part.child.wait(READY_LIMIT_S)
            await asyncio.sleep(for_s)
            await self.replace(name)

    async def stop(self, name: str, for_s: float) -> None:
        """Stop a part, which keeps its connections and its work in hand, and let it go on after so long."""
        part = self._parts[name]
        async with part.lock:
            part.child.kill(signal.SIGSTOP)
            self.stops += 1
            await asyncio.sleep(for_s)
            part.child.kill(signal.SIGCONT)

    async def hurt_readers(self, name: str, how: str, for_s: float) -> None:
        """Kill the processes that read clips for a media worker, or stop them and let them go on after so long."""
        readers = children_of(self._parts[name].child.pid)
        _signal(readers, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        self.readers_hurt += len(readers)
        if how == "stop":
            await asyncio.sleep(for_s)
            _signal(readers, signal.SIGCONT)

    async def arm(self, name: str, points: str, for_s: float) -> None:
        """Replace a part by one that kills itself at these points, for so long at most."""
        async with self._parts[name].lock:
            await self.replace(name, points)
            await self.died(name, for_s)
            await self.replace(name)

    async def replace(self, name: str, points: str = "") -> None:
        """Kill a part, if it lives, and start it again with these crash points, or with none."""
        part = self._parts[name]
        if part.child.ended() is None:
            part.child.kill()
            self.kills += 1
            await part.child.wait(READY_LIMIT_S)
        part.child = await self._spawn(name, part.words, points)

    async def died(self, name: str, limit_s: float) -> str | None:
        """Wait until a part has killed itself; the crash point, or None when it still lives after so long."""
        child = self._parts[name].child
        with suppress(TimeoutError):
            await child.wait(limit_s)
        point = child.point()
        self.deaths.update([point] if point else [])
        return point

    async def mend(self) -> None:
        """Let go on what is stopped, and bring back what is dead."""
        for name, part in self._parts.items():
            async with part.lock:
                part.child.kill(signal.SIGCONT)
            await self._bring_back(name)

    async def _bring_back(self, name: str) -> None:
        async with self._parts[name].lock:
            if self.has_ended(name):
                await self.replace(name)

    def has_ended(self, name: str) -> bool:
        return self._parts[name].child.ended() is not None

    def close(self) -> None:
        for part in self._parts.values():
            part.child.kill()

    async def _spawn(self, name: str, words: Sequence[str], points: str) -> Child:
        """Each life has a log of its own: where it died is that log's last line."""
        self._lives[name] += 1
        log = self._logs / f"{name}-{self._lives[name]}.log"
        return await asyncio.to_thread(
            spawn_call, watched_command, words, {**self._environment, "ONETAKE_CRASH": points}, log
        )


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and that live."""
    found: list[int] = []
    with suppress(OSError):
        for tasks in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (tasks / "children").read_text().split())
    return found


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def names_of(workers: int) -> list[str]:
    """The names of so many workers: every second one is for media."""
    names = [f"{kind}-{letter}" for letter in ascii_lowercase for kind in ("worker", "media")]
    return names[:workers]


def worker_of(name: str) -> tuple[int, tuple[str, ...]]:
    """Port and command line of a worker called `worker-a` or `media-b`."""
    port, roles = free_port(set()), ROLES[name.partition("-")[0]]
    return port, ("worker", "--health-port", str(port), *(word for role in roles for word in ("--role", role)))
