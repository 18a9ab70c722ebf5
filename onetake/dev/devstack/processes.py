"""Start, watch and end the processes of one stack, so that none outlives it.

Three safeguards, each for the failure of the one before: `Supervisor.close` stops everything in reverse order; the
reaper stops everything when the supervisor is killed; and `run.json` lets the next start end what survived both, if
provably ours.
"""

# ruff: noqa: S603 - every command line here is made by us

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, Self
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.ports import answers

STOP_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.03

# The child names itself to the reaper before it becomes the server, so that no instant exists in which a server runs
# that the reaper does not know. Its standard input is the reaper's pipe until then.
_ANNOUNCE: Final = 'echo "add $$ $0" >&0; exec "$@" </dev/null'


@dataclass(frozen=True)
class Account:
    """The user that a process runs as; None is ourselves."""

    uid: int | None = None
    gid: int | None = None

    @property
    def other_groups(self) -> list[int] | None:
        """Another user leaves our groups behind."""
        return None if self.uid is None else []


OURSELVES: Final = Account()


@dataclass(frozen=True)
class Command:
    """How one process is run. `stop_signal` asks it to end in good order."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None
    account: Account = OURSELVES
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Running:
    """A process that was started, with its log."""

    command: Command
    popen: subprocess.Popen[bytes]
    identity: str
    log: Path

    @property
    def ended(self) -> str | None:
        """How it ended, in words; None while it runs."""
        code = self.popen.poll()
        if code is None:
            return None
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class Supervisor:
    """Owns every process of one stack. Use as a context manager; thread-safe."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._record = home / "run.json"
        self._logs = home / "logs"
        self._running: dict[str, Running] = {}
        self._rotated: set[str] = set()
        self._lock = threading.Lock()
        self._reaper: subprocess.Popen[bytes] | None = None
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        end_leftovers(self._record)
        self._logs.mkdir(parents=True, exist_ok=True)
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._save()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def delete_at_the_end(self) -> None:
        """Let the reaper delete the home once every process has ended, whoever ended them."""
        self._tell_reaper(f"delete {self._home}")

    @property
    def running(self) -> list[Running]:
        """In the order of their start."""
        return list(self._running.values())

    def start(self, command: Command) -> Running:
        """Run a command in a session of its own, its output appended to `logs/NAME.log`."""
        if command.name in self._running:
            raise DevStackError(command.name, "runs already")
        log = self._log_for(command.name)
        with log.open("ab") as output:
            popen = self._spawn(command, output)
        running = Running(command, popen, identity_of(popen.pid) or "", log)
        with self._lock:
            self._running[command.name] = running
            self._save()
        return running

    def _spawn(self, command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
        account = command.account
        try:
            return subprocess.Popen(
                ["/bin/sh", "-c", _ANNOUNCE, str(int(command.stop_signal)), *command.argv],
                stdin=self._reaper_pipe,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(command.env),
                start_new_session=True,
                cwd=command.cwd,
                user=account.uid,
                group=account.gid,
                extra_groups=account.other_groups,
            )
        except OSError as error:
            raise DevStackError(command.name, f"cannot be started: {error}") from error

    def get(self, name: str) -> Running:
        try:
            return self._running[name]
        except KeyError:
            raise DevStackError(name, "does not run") from None

    def stop(self, name: str, *, limit_s: float = STOP_LIMIT_S) -> None:
        """Ask a process to end, kill it and its children after `limit_s`. Returns when it is gone."""
        running = self.get(name)
        if running.ended is None:
            send(running.popen.pid, running.command.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                running.popen.wait(limit_s)
        send(running.popen.pid, signal.SIGKILL)
        running.popen.wait()
        self._forget(name)

    def kill(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and its children; a process that it ends may be started again at once."""
        running = self.get(name)
        send(running.popen.pid, number)
        if number is signal.SIGKILL:
            running.popen.wait()
            self._forget(name)

    def close(self) -> None:
        """Stop everything, the last started first. Nothing happens the second time."""
        self.closing.set()
        for running in reversed(self.running):
            self.stop(running.command.name)
        if self._reaper is not None:
            self._reaper_pipe.close()
            self._reaper.wait()
            self._reaper = None
            self._record.unlink(missing_ok=True)

    @property
    def _reaper_pipe(self) -> IO[bytes]:
        if self._reaper is None or self._reaper.stdin is None:
            raise RuntimeError("the supervisor is not open")
        return self._reaper.stdin

    def _forget(self, name: str) -> None:
        with self._lock:
            gone = self._running.pop(name, None)
            if gone is None:  # it ended by itself while it was being stopped
                return
            self._tell_reaper(f"gone {gone.popen.pid}")
            self._save()

    def _tell_reaper(self, line: str) -> None:
        with suppress(BrokenPipeError):  # it may have been killed; run.json still knows the processes
            os.write(self._reaper_pipe.fileno(), f"{line}\n".encode())

    def _log_for(self, name: str) -> Path:
        """The log of this stack's life; that of the life before is kept as NAME.previous.log."""
        log = self._logs / f"{name}.log"
        if name not in self._rotated and log.exists():
            log.replace(log.with_suffix(".previous.log"))
        self._rotated.add(name)
        return log

    def _save(self) -> None:
        entries = [
            {"pid": it.popen.pid, "identity": it.identity, "signal": int(it.command.stop_signal)} for it in self.running
        ]
        draft = self._record.with_suffix(".draft")
        with suppress(OSError):  # someone deleted the home: the reaper still knows what runs
            draft.write_text(json.dumps({"supervisor": os.getpid(), "processes": entries}))
            draft.replace(self._record)


def wait_until(
    running: Running, healthy: Callable[[], bool], *, limit_s: float, closing: threading.Event, hint: str = ""
) -> None:
    """Return once `healthy()`; raise DevStackError when the process ends first, or `limit_s` passes."""
    name, deadline = running.command.name, time.monotonic() + limit_s
    while True:
        if running.ended:
            raise DevStackError(name, f"{running.ended} before it was ready", hint=hint, log=running.log)
        if healthy():
            return
        if time.monotonic() > deadline:
            raise DevStackError(name, f"was not ready within {limit_s:g} s", hint=hint, log=running.log)
        if closing.wait(_POLL_S):
            raise DevStackError(name, "was stopped before it was ready")


def health_check(address: str) -> Callable[[], bool]:
    """A check of `http://host:port/path` (any 2xx) or `tcp://host:port` (something accepts), a second long at most."""
    parts = urlsplit(address)
    if parts.scheme == "tcp" and parts.hostname and parts.port:
        host, port = parts.hostname, parts.port
        return lambda: answers(host, port)
    if parts.scheme != "http":
        raise ValueError(f"a health check is http://host:port/path or tcp://host:port, not {address!r}")
    return lambda: _is_ok(address)


# No proxy from the environment: these servers are on this machine.
_direct = build_opener(ProxyHandler({}))


def _is_ok(url: str) -> bool:
    try:
        with _direct.open(url, timeout=1.0) as answer:
            return 200 <= answer.status < 300
    except (URLError, OSError, ValueError):
        return False


def end_leftovers(record: Path) -> None:
    """End what a killed supervisor of this home left running; a process id that is another's now is let alone."""
    try:
        entries: list[dict[str, Any]] = json.loads(record.read_text())["processes"]
    except (OSError, ValueError, KeyError):
        return
    left = [it for it in entries if it["identity"] and identity_of(it["pid"]) == it["identity"]]
    for kills in (False, True):
        for it in left:
            send(it["pid"], signal.SIGKILL if kills else signal.Signals(it["signal"]))
        deadline = time.monotonic() + STOP_LIMIT_S / 2
        while left and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            left = [it for it in left if identity_of(it["pid"]) == it["identity"]]
    record.unlink(missing_ok=True)


def send(group: int, number: signal.Signals) -> None:
    """Signal a process group; one that is gone already is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def identity_of(pid: int) -> str | None:
    """What tells this process from a later one with the same id; None when it is gone."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():
        return _identity_from_ps(pid)
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{_boot()}/{fields[19]}"  # the clock tick at which it started


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _identity_from_ps(pid: int) -> str | None:
    shown = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None
