"""Where the programs `temporal` and `versitygw` come from: found in one of several ways, tried in order.

PATH, our own cache, the Temporal SDK's download, a build from the pinned modules under `deployment/devtools`. Each way
is bounded in time, and what it finds is checked. The way taken, and why those before it were passed over, is told to
the person who waits.
"""

# ruff: noqa: S603 - every command line here is made by us

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.progress import Progress, Step, step
from onetake.dev.devstack.toolchain import REPOSITORY, GoBuilder, Module

_DEVTOOLS: Final = REPOSITORY / "deployment" / "devtools"
_VERSION_LIMIT_S: Final = 10.0
_DOWNLOAD_STALL_LIMIT_S: Final = 20.0
_DOWNLOAD_LIMIT_S: Final = 300.0


@dataclass(frozen=True)
class Program:
    """A server program: how to recognise a fit one and how to make one."""

    name: str
    version: str
    module: Module
    unfit: Callable[[str], str | None]
    downloadable: bool = False


def temporal_unfit(shown: str) -> str | None:
    """Why a `temporal --version` is not good enough; None when it is (CLI 1.4 or newer with server 1.29 or newer)."""
    match = re.search(r"version v?(\d+)\.(\d+)\.\d+\S* \(Server v?(\d+)\.(\d+)", shown)
    if match is None:
        return "does not tell its version"
    numbers = [int(part) for part in match.groups()]
    if numbers[:2] >= [1, 4] and numbers[2:] >= [1, 29]:
        return None
    return "is CLI {}.{} with server {}.{}, older than 1.4 with 1.29".format(*numbers)


def versitygw_unfit(shown: str) -> str | None:
    """Why a `versitygw --version` is not good enough; None when it is 1.7 or newer."""
    match = re.search(r"Version\s*: v?(\d+)\.(\d+)", shown)
    if match is None:
        return "does not tell its version"
    numbers = [int(part) for part in match.groups()]
    return None if numbers >= [1, 7] else "is {}.{}, older than 1.7".format(*numbers)


TEMPORAL: Final = Program(
    name="temporal",
    version="1.8.2",
    module=Module(
        folder=_DEVTOOLS / "temporal",
        package="github.com/temporalio/cli/cmd/temporal",
        ldflags="-s -w -X github.com/temporalio/cli/internal/temporalcli.Version=1.8.2",
        packages=1720,
    ),
    unfit=temporal_unfit,
    downloadable=True,
)

VERSITYGW: Final = Program(
    name="versitygw",
    version="1.8.0",
    module=Module(
        folder=_DEVTOOLS / "versitygw",
        package="github.com/versity/versitygw/cmd/versitygw",
        ldflags="-s -w -X main.Version=1.8.0",
        packages=515,
    ),
    unfit=versitygw_unfit,
)


def programs_needed(environ: Mapping[str, str]) -> list[Program]:
    """The programs of the servers that the environment does not already name."""
    named = {TEMPORAL.name: "TEMPORAL_ADDRESS", VERSITYGW.name: "ONETAKE_S3_ENDPOINT"}
    return [program for program in (TEMPORAL, VERSITYGW) if not environ.get(named[program.name])]


class ProgramFinder:
    """Finds programs. As a context manager it keeps one Go for several builds and cleans up after them."""

    def __init__(self, environ: Mapping[str, str], progress: Progress) -> None:
        self._environ = environ
        self._progress = progress
        self._cache = cache_folder(environ)
        self._builder = GoBuilder(self._cache, environ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._builder.__exit__()

    def find(self, program: Program) -> Path:
        """The path of a fit program; made if there is none. Raises DevStackError when no way gives one."""
        with step(self._progress, program.name, "looking for the program") as current:
            passed: list[str] = []
            path, way = (
                self._on_path(program, passed) or self._cached(program, passed) or self._made(program, passed, current)
            )
            why = f" ({'; '.join(passed)})" if passed else ""
            current.text = f"{program.name} {way}: {path}{why}"
            return path

    def _on_path(self, program: Program, passed: list[str]) -> tuple[Path, str] | None:
        found = shutil.which(program.name, path=self._environ.get("PATH", ""))
        if found is None:
            passed.append("none on PATH")
            return None
        reason = program.unfit(version_shown(Path(found), self._environ))
        if reason is not None:
            passed.append(f"{found} {reason}")
            return None
        return Path(found), "on PATH"

    def _cached(self, program: Program, passed: list[str]) -> tuple[Path, str] | None:
        for path, way in ((self._built(program), "built earlier"), (self._downloaded(program), "downloaded earlier")):
            if not path.exists():
                continue
            reason = program.unfit(version_shown(path, self._environ))
            if reason is None:
                return path, way
            passed.append(f"{path} {reason}")
        return None

    def _made(self, program: Program, passed: list[str], current: Step) -> tuple[Path, str]:
        if not program.module.folder.exists():
            raise DevStackError(
                program.name, f"is not on PATH, and {program.module.folder} is missing to build it from"
            )
        self._builder.lock(current)
        made_meanwhile = self._cached(program, passed)
        if made_meanwhile:
            return made_meanwhile
        if program.downloadable:
            target = self._downloaded(program)
            reason = download_temporal(program.version, target, self._environ, current)
            if reason is None:
                return target, "downloaded by the Temporal SDK"
            passed.append(f"download: {reason}")
        target = self._built(program)
        origin = self._builder.build(program.module, target, current)
        return target, f"built with {origin}"

    def _built(self, program: Program) -> Path:
        return self._cache / f"{program.name}-{program.version}-{fingerprint(program.module)}" / program.name

    def _downloaded(self, program: Program) -> Path:
        return self._cache / f"{program.name}-{program.version}-download" / program.name


def cache_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/onetake/bin`, by default under `~/.cache`."""
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(base).absolute() / "onetake" / "bin"


def fingerprint(module: Module) -> str:
    """Twelve hex digits that change with the pinned sources, the recipe or the machine's kind."""
    digest = hashlib.sha256(f"{module.package} {module.ldflags} {platform.system()} {platform.machine()}".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((module.folder / name).read_bytes() if module.folder.exists() else b"")
    return digest.hexdigest()[:12]


def version_shown(program: Path, environ: Mapping[str, str]) -> str:
    """What `PROGRAM --version` prints; empty when it fails or takes longer than 10 s."""
    try:
        done = subprocess.run(
            [program, "--version"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


# The SDK can only download by starting the server, and its runtime may crash while Python exits: a process of its own.
_DOWNLOAD: Final = """
import asyncio, os, sys
from temporalio.testing import WorkflowEnvironment

async def download(folder, version):
    server = await WorkflowEnvironment.start_local(
        download_dest_dir=folder, dev_server_download_version=version, dev_server_log_level="error"
    )
    await server.shutdown()

try:
    asyncio.run(download(*sys.argv[1:]))
except BaseException as error:
    sys.stderr.write(str(error).replace(chr(10), " "))
    sys.stderr.flush()
    os._exit(1)
os._exit(0)
"""


def download_temporal(version: str, target: Path, environ: Mapping[str, str], current: Step) -> str | None:
    """Let the SDK download the CLI to `target`; given up when it stands still for 20 s. Returns why it could not."""
    current.update("asking the Temporal SDK to download it")
    with tempfile.TemporaryDirectory(prefix="download-", dir=target.parent.parent) as folder:
        with _downloader(Path(folder), version, environ) as process:
            reason = _watch_download(process, Path(folder), current)
        if reason is not None:
            return reason
        for downloaded in Path(folder).glob("temporal*"):
            if temporal_unfit(version_shown(downloaded, environ)) is None:
                target.parent.mkdir(parents=True, exist_ok=True)
                downloaded.replace(target)
                return None
        return "the program that came does not work here"


@contextmanager
def _downloader(folder: Path, version: str, environ: Mapping[str, str]) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", _DOWNLOAD, str(folder), f"v{version}"],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)


def _watch_download(process: subprocess.Popen[str], folder: Path, current: Step) -> str | None:
    started = moved = time.monotonic()
    size_before = -1
    while process.poll() is None:
        now, size = time.monotonic(), sum(file.stat().st_size for file in folder.iterdir())
        if size != size_before:
            moved, size_before = now, size
            current.update(f"downloading: {size / 1e6:.0f} MB")
        if now - moved > _DOWNLOAD_STALL_LIMIT_S or now - started > _DOWNLOAD_LIMIT_S:
            return f"no answer for {now - moved:.0f} s"
        time.sleep(0.2)
    said = process.stderr.read() if process.stderr else ""
    return None if process.returncode == 0 else (_short(said) or f"exit code {process.returncode}")


def _short(text: str) -> str:
    address = re.search(r"\((https?://[^/?)]+)", text)
    return f"{address[1]} is not reachable" if address else text.strip()[-160:]
