"""Real worker, gateway and client processes at the price of a fork.

The standard library's fork server is one process that has imported everything and runs nothing: no thread, no event
loop, no Temporal runtime. Each `spawn` is a fork of it that takes an environment and a log of its own, arms its crash
points, and runs the very entry point of the `onetake` command, so that it can be killed and stopped like any process.
The fork server is its parent: it reaps each child and says how it ended. All of them die with the test session.

    child = spawn(["worker", "--health-port", "4711"], environment, log)      # the command line of `onetake`
    child = spawn_call(function, ["argument"], environment, log)              # a module-level function, in a process
    child.kill(signal.SIGSTOP); child.ended(); await child.wait(limit_s=60); child.point()
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from onetake.core import crashpoints

PRELOADED = [
    "tests.system.forked",
    "onetake.cli",
    "onetake.client",
    "onetake.gateway.serve",
    "onetake.worker",
    "anyio._backends._asyncio",  # otherwise loaded at the first request
    "encodings.idna",
]
LOOK_EVERY_S = 0.02
KILLED_AT = "killed at "
Call = Callable[[Sequence[str]], object]
_PR_SET_PDEATHSIG = 1

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)
_one_at_a_time = threading.Lock()  # the library reads a child's end from a pipe, once, in whichever thread looks


@dataclass(frozen=True)
class Child:
    """One process of ours. Its log holds what it wrote to its standard output and error, from `since` on."""

    process: BaseProcess = field(repr=False)
    log: Path
    since: int = 0

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    def ended(self) -> int | None:
        """The exit code, or the signal's number below zero, as its parent saw it; None while it runs."""
        with _one_at_a_time:
            return self.process.exitcode

    def point(self) -> str | None:
        """The crash point at which it died; None when it did not die at one, or lives."""
        if self.ended() != -signal.SIGKILL or not self.log.exists():
            return None
        # Another of its threads may have written a line more.
        lines = self.log.read_bytes()[self.since :].decode(errors="replace").splitlines()
        return next((line.removeprefix(KILLED_AT) for line in lines if line.startswith(KILLED_AT)), None)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; one that has ended is left alone: its id may be another's by now."""
        if self.ended() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self, limit_s: float) -> int:
        """Wait for its end. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while (code := self.ended()) is None:
                await asyncio.sleep(LOOK_EVERY_S)
        return code


def spawn(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Run `onetake WORDS...`. The environment is all it gets; `ONETAKE_CRASH` in it arms crash points."""
    return spawn_call(command, words, environment, log)


def spawn_call(function: Call, words: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Run a function of a module's top level in a process; it ends with code 0 when the function returns."""
    since = log.stat().st_size if log.exists() else 0
    process = _server.Process(target=_live, args=(function, list(words), dict(environment), str(log)), daemon=True)
    with _one_at_a_time:
        process.start()
    return Child(process, log, since)


def _live(function: Call, words: Sequence[str], environment: dict[str, str], log: str) -> None:
    _die_with_parent()
    _let_go()
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    crashpoints.arm(environment.get("ONETAKE_CRASH", ""))
    function(words)


def command(words: Sequence[str]) -> None:
    from onetake.cli import main  # noqa: PLC0415 - loaded by the fork server, not by every test session

    sys.argv = ["onetake", *words]
    main()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    session = multiprocessing.parent_process()
    if session and not session.is_alive():  # it died before this process had asked to be told
        os._exit(1)


def _let_go() -> None:
    """Hold nothing of the library's: as long as a child has its pipe, the fork server would outlive the session."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
