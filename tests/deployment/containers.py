"""Images and containers for tests: podman, a base that debootstrap makes where no registry can be asked, our image."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tests.deployment.tools import could_not_run, program

ROOT: Final = Path(__file__).parents[2]
IMAGE_FOLDER: Final = ROOT / "deployment/image"
BUILD_LIMIT_S: Final = 3600.0
LIMIT_S: Final = 300.0  # reaching it is a hang, on however busy a machine
CANARY: Final = "canary-6f1c2b7d"  # begins every secret that tests leave where a build could take it
# What every container of ours gets in compose and in the chart: nothing to write to, no right that it does not need.
CONFINED: Final = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@dataclass(frozen=True)
class Ended:
    """A container that has ended."""

    code: int
    out: str
    log: str = field(repr=False)


@dataclass(frozen=True)
class Container:
    """A container that was started and is removed by who started it."""

    podman: "Podman"
    name: str

    @property
    def log(self) -> str:
        """What it said on both ways."""
        found = self.podman.run("logs", self.name)
        return found.stdout + found.stderr

    def _ended(self) -> Ended:
        said = self.podman.run("logs", self.name)
        return Ended(self.state["ExitCode"], said.stdout, said.stdout + said.stderr)

    @property
    def state(self) -> Mapping[str, Any]:
        return self.podman.inspect(self.name)["State"]

    def passes(self, *command: str) -> bool:
        """Whether a command inside it succeeds, as a health check does."""
        words = [self.podman.path, "exec", self.name, *command]
        return subprocess.run(words, env=dict(self.podman.env), capture_output=True, check=False).returncode == 0

    def stop(self, grace_s: int) -> Ended:
        """Ask it to end, and kill it after `grace_s`: its code is 137 then."""
        self.podman.run("stop", "--time", str(grace_s), self.name, limit_s=grace_s + LIMIT_S)
        return self._ended()

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Return when it has ended by itself."""
        self.podman.run("wait", self.name, limit_s=limit_s)
        return self._ended()


@dataclass(frozen=True)
class Podman:
    """The engine that runs containers here."""

    path: str
    env: Mapping[str, str] = field(repr=False)

    def run(self, *words: str, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
        """Run one of its verbs. Raises when it fails."""
        done = subprocess.run(
            [self.path, *words],
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        assert done.returncode == 0, f"podman {' '.join(words[:2])}: {done.stderr[-2000:]}"
        return done

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self.run("inspect", name).stdout)[0]

    def remove_image(self, name: str) -> None:
        """Remove it if it is there."""
        subprocess.run([self.path, "rmi", "--force", name], env=dict(self.env), capture_output=True, check=False)

    def has_image(self, name: str) -> bool:
        return subprocess.run([self.path, "image", "exists", name], env=dict(self.env), check=False).returncode == 0

    @contextmanager
    def container(
        self, image: str, *command: str, flags: Sequence[str] = (), env: Mapping[str, str] | None = None, name: str
    ) -> Generator[Container]:
        """Start a container, and remove it after the block, whatever it does."""
        given = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
        self.run("rm", "--force", "--ignore", "--time", "0", name)
        self.run("run", "--detach", "--name", name, *flags, *given, image, *command)
        try:
            yield Container(self, name)
        finally:
            self.run("rm", "--force", "--ignore", "--time", "0", name)


def podman() -> Podman:
    """The engine. Ends the test without a verdict where there is none that runs a container."""
    path = program("podman")
    env = {**os.environ, "CONTAINERS_CONF": str(IMAGE_FOLDER / "containers.conf")}
    answer = subprocess.run([path, "info"], env=env, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if answer.returncode:
        could_not_run(f"podman does not work here: {answer.stderr.strip()[-200:]}")
    return Podman(path, env)


def base(engine: Podman) -> str:
    """The image that ours is built on: `ONETAKE_TEST_BASE` when it is given, else one that debootstrap makes, once."""
    if given := os.environ.get("ONETAKE_TEST_BASE"):
        return given
    script = IMAGE_FOLDER / "base.sh"
    digest = sha256(script.read_bytes()).hexdigest()[:12]
    name = f"localhost/onetake-base:{digest}"
    # It lies outside of the repository, because it is 180 MB and the same for all clones.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onetake/image"
    cache.mkdir(parents=True, exist_ok=True)
    # Two processes of a run ask at once, and two bases that each made by itself are not the same one.
    with (cache / f"base-{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not engine.has_image(name):
            archive = cache / f"base-{digest}.tar"
            if not archive.exists():
                make_base(script, archive)
            engine.run("import", str(archive), name, limit_s=BUILD_LIMIT_S)
    return name


def make_base(script: Path, archive: Path) -> None:
    """Make the base as an archive. Ends the test without a verdict where that cannot be done."""
    if os.geteuid() != 0:
        could_not_run("debootstrap needs root; name a base image of Python with ONETAKE_TEST_BASE")
    folder = str(Path(program("debootstrap")).parent)
    done = subprocess.run(
        [str(script), str(archive)],
        env={**os.environ, "PATH": f"{os.environ['PATH']}:{folder}"},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    if done.returncode:
        could_not_run(f"debootstrap made no base image: {(done.stdout + done.stderr).strip()[-200:]}")


@dataclass(frozen=True)
class Build:
    """A build under way, or done."""

    tag: str
    output: Path
    process: subprocess.Popen[str] = field(repr=False)
    log: Path

    def wait(self) -> None:
        """Return when it has succeeded."""
        code = self.process.wait(BUILD_LIMIT_S)
        assert code == 0, self.log.read_text()[-3000:]


def build(engine: Podman, source: Path, tag: str, base_image: str, output: Path) -> Build:
    """Begin to build the image of a copy of the repository, without anything that an earlier build has left.

    The index of packages and the authorities that this machine uses are given as secrets.
    """
    output.mkdir(parents=True, exist_ok=True)
    words = ["--builder", "podman", "--tag", tag, "--base", base_image, "--output", str(output)]
    index, authorities = Path("/etc/pip.conf"), Path("/etc/ssl/certs/ca-certificates.crt")
    secret = output / "pip.conf"
    secret.write_text(f"{index.read_text() if index.exists() else '[global]'}\n# {CANARY}-pip\n")
    words += ["--pip-conf", str(secret), *(("--ca", str(authorities)) if authorities.exists() else ())]
    log = output / "build.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [str(source / "deployment/image/build.sh"), *words, "--", "--network", "host", "--layers=false"],
            env={**engine.env, "ONETAKE_GMI_API_KEY": f"{CANARY}-environment"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return Build(tag, output, process, log)


def until(what: str, limit_s: float = LIMIT_S) -> Generator[None]:
    """Iterate until the caller breaks, for `limit_s` at most."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {limit_s:.0f} s")
