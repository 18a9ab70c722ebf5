"""The whole stack of one home folder: servers first, then the parts that the caller names, and their end.

It knows how servers are found, started and stopped. It does not know what our own parts are: the caller hands them over
as commands with a health check, and gets addresses and an environment.
"""

import base64
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from onetake.dev.devstack import object_store, postgres, temporal_server
from onetake.dev.devstack.binaries import TEMPORAL, VERSITYGW, ProgramFinder, programs_needed
from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.ports import LOOPBACK, PortChoice, answers, choose_ports
from onetake.dev.devstack.processes import Command, Running, Supervisor, health_check, wait_until
from onetake.dev.devstack.progress import Progress, step
from onetake.dev.devstack.toolchain import try_lock

SERVER_LIMIT_S: Final = 120.0
BUCKET: Final = "onetake"
_LOCK_LIMIT_S: Final = 3.0


class Part(BaseModel):
    """One of our own processes. It may be started once its servers are up.

    `health` is `http://host:port/path` (any 2xx) or `tcp://host:port` (something accepts); without one the part only
    has to live for a moment. `env` is added to the stack's environment. `limit_s` bounds the wait for its health.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    cwd: Path | None = None
    health: str | None = None
    limit_s: float = 120.0  # a busy machine is slow to start Python; one that cannot start says so sooner


class StackAddresses(BaseModel):
    """Where everything is. Ports of the gateway, the simulator and the codec are kept for the caller's parts."""

    model_config = ConfigDict(frozen=True)

    temporal_address: str
    temporal_namespace: str
    temporal_ui_url: str | None
    database_url: str = Field(repr=False)
    s3_endpoint: str
    s3_access_key: str = Field(repr=False)
    s3_secret_key: str = Field(repr=False)
    s3_bucket: str
    s3_secure: bool
    gateway_port: int
    simulator_port: int
    codec_port: int

    @property
    def gateway_url(self) -> str:
        return f"http://{LOOPBACK}:{self.gateway_port}"

    @property
    def simulator_url(self) -> str:
        return f"http://{LOOPBACK}:{self.simulator_port}"

    @property
    def codec_url(self) -> str:
        return f"http://{LOOPBACK}:{self.codec_port}"


class DevStack:
    """Context manager over one home folder. Everything that it started has ended when the block is left.

    `ports="free"` takes ports nobody knows, for tests. `ephemeral` deletes the home at the end, even a violent one.
    What the environment names (TEMPORAL_ADDRESS, ONETAKE_DATABASE_URL, ONETAKE_S3_ENDPOINT) is used as it is. Raises
    DevStackError.
    """

    def __init__(
        self,
        home: Path,
        *,
        progress: Progress,
        ports: PortChoice = "default",
        search_attributes: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
        ephemeral: bool = False,
        temporal_in_memory: bool = False,
    ) -> None:
        self.home = home.absolute()
        self._progress = progress
        self._port_choice: PortChoice = ports
        self._search_attributes = tuple(search_attributes)
        self._environ = dict(environ)
        self._ephemeral = ephemeral
        self._temporal_in_memory = temporal_in_memory
        self._supervisor = Supervisor(self.home)
        self._exits = ExitStack()
        self._addresses: StackAddresses | None = None
        self._parts: dict[str, Part] = {}
        self._ended_on_purpose: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            exits.enter_context(_locked_home(self.home))
            exits.enter_context(self._supervisor)
            if self._ephemeral:
                self._supervisor.delete_at_the_end()
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything in reverse order, in good order where possible. Nothing happens the second time."""
        self._exits.close()

    @property
    def addresses(self) -> StackAddresses:
        """Known after `start_servers`."""
        if self._addresses is None:
            raise RuntimeError("start_servers() comes first")
        return self._addresses

    def start_servers(self) -> StackAddresses:
        """Bring up Temporal, PostgreSQL and S3 side by side and wait until each is healthy."""
        ports = choose_ports(self._port_choice, self._note_port)
        programs = self._find_programs()
        temporal, database, store = self._together(
            lambda: self._start_temporal(ports, programs),
            lambda: self._start_postgres(ports),
            lambda: self._start_store(ports, programs),
        )
        kept = {f"{name}_port": ports[name] for name in ("gateway", "simulator", "codec")}
        self._addresses = StackAddresses.model_validate({**temporal, **database, **store, **kept})
        return self._addresses

    def environment(self) -> dict[str, str]:
        """The variables by which our parts, and people's shells, find this stack. What was set before is kept."""
        at = self.addresses
        ours = [f"{LOOPBACK}:{at.simulator_port}", f"localhost:{at.simulator_port}"]
        ours += [] if self._environ.get("ONETAKE_S3_ENDPOINT") else [at.s3_endpoint]
        trusted = filter(None, [*ours, self._environ.get("ONETAKE_TRUSTED_HOSTS")])
        found = {
            "TEMPORAL_ADDRESS": at.temporal_address,
            "TEMPORAL_NAMESPACE": at.temporal_namespace,
            "ONETAKE_DATABASE_URL": at.database_url,
            "ONETAKE_S3_ENDPOINT": at.s3_endpoint,
            "ONETAKE_S3_ACCESS_KEY": at.s3_access_key,
            "ONETAKE_S3_SECRET_KEY": at.s3_secret_key,
            "ONETAKE_S3_BUCKET": at.s3_bucket,
            "ONETAKE_S3_SECURE": str(at.s3_secure).lower(),
            "ONETAKE_CODEC_KEY": self._environ.get("ONETAKE_CODEC_KEY") or _codec_key(self.home),
            "ONETAKE_CALLBACK_BASE_URL": self._environ.get("ONETAKE_CALLBACK_BASE_URL") or at.gateway_url,
            "ONETAKE_TRUSTED_HOSTS": ",".join(trusted),
        }
        return found | ({"ONETAKE_TEMPORAL_UI_URL": at.temporal_ui_url} if at.temporal_ui_url else {})

    def start_part(self, part: Part) -> None:
        """Start one of our own processes and wait until it is healthy. Its log is `HOME/logs/NAME.log`."""
        env = {**self._environ, **self.environment(), **part.env}
        command = Command(part.name, part.argv, env, cwd=part.cwd)
        with step(self._progress, part.name, "starting") as current:
            self._ended_on_purpose.discard(part.name)
            self._start_and_wait(command, _check_of(part), part.limit_s)
            current.text = f"ready{f' at {part.health}' if part.health else ''}"
        self._parts[part.name] = part

    def stop_part(self, name: str) -> None:
        """Ask a part to end and wait until it has; it is killed after ten seconds."""
        self._ended_on_purpose.add(name)
        self._supervisor.stop(name)

    def kill_part(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a part and its children. After SIGKILL it is gone and `restart` brings it back."""
        self._ended_on_purpose.add(name)
        self._supervisor.kill(name, number)

    def restart(self, name: str) -> None:
        """Start a part again, after stopping it if it still runs."""
        part = self._parts[name]
        if any(running.command.name == name for running in self._supervisor.running):
            self.stop_part(name)
        self.start_part(part)

    def pid_of(self, name: str) -> int:
        """The process id of a running part or server."""
        return self._supervisor.get(name).popen.pid

    def log_of(self, name: str) -> Path:
        """The log of a part or server."""
        return self.home / "logs" / f"{name}.log"

    def wait(self) -> None:
        """Block until Ctrl-C or SIGTERM (returns), or until a part ends by itself (raises DevStackError)."""
        stop = threading.Event()
        with _signals_set(stop):
            while not stop.wait(0.2):
                self._raise_if_one_ended()

    def _raise_if_one_ended(self) -> None:
        for running in self._supervisor.running:
            name, ended = running.command.name, running.ended
            if ended and name not in self._ended_on_purpose:
                raise DevStackError(name, ended, hint="Everything else was stopped.", log=running.log)

    def _note_port(self, part: str, text: str) -> None:
        """Tell of a taken port, unless the environment names that part: its own server may be the one there."""
        setting = {
            "temporal": "TEMPORAL_ADDRESS",
            "temporal_ui": "TEMPORAL_ADDRESS",
            "postgres": "ONETAKE_DATABASE_URL",
            "s3": "ONETAKE_S3_ENDPOINT",
        }.get(part, "")
        if not self._environ.get(setting):
            self._progress.note(part, text)

    def _find_programs(self) -> dict[str, Path]:
        with ProgramFinder(self._environ, self._progress) as finder:
            return {program.name: finder.find(program) for program in programs_needed(self._environ)}

    def _together(self, *starts: Callable[[], Mapping[str, object]]) -> list[Mapping[str, object]]:
        """Run all, and give up on the others as soon as one fails or the person interrupts."""
        with ThreadPoolExecutor(len(starts)) as pool:
            pending: list[Future[Mapping[str, object]]] = [pool.submit(start) for start in starts]
            try:
                for future in as_completed(pending):
                    future.result()
            except BaseException:
                self._supervisor.closing.set()
                raise
        return [future.result() for future in pending]

    def _start_temporal(self, ports: Mapping[str, int], programs: Mapping[str, Path]) -> dict[str, object]:
        address = self._environ.get("TEMPORAL_ADDRESS")
        if address:
            with step(self._progress, temporal_server.PART, f"connecting to {address}") as current:
                namespace = temporal_server.register_search_attributes(self._search_attributes, self._environ)
                current.text = f"used as it is: {address}, namespace {namespace}"
            ui = self._environ.get("ONETAKE_TEMPORAL_UI_URL")
            return {"temporal_address": address, "temporal_namespace": namespace, "temporal_ui_url": ui}
        database = None if self._temporal_in_memory else self.home / "temporal" / "dev.db"
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        ui = f"http://{LOOPBACK}:{ports['temporal_ui']}"
        with step(self._progress, temporal_server.PART, "starting") as current:
            program = programs[TEMPORAL.name]
            command = temporal_server.server_command(program, ports, database, self._search_attributes, self._environ)
            hint = f"Its runs are in {database}; without that file it starts empty." if database else ""
            self._start_and_wait(command, health_check(temporal_server.health_url(ports)), SERVER_LIMIT_S, hint)
            current.text = f"ready at {LOOPBACK}:{ports['temporal']}, UI {ui}"
        found = {"temporal_address": f"{LOOPBACK}:{ports['temporal']}", "temporal_namespace": "default"}
        return {**found, "temporal_ui_url": ui}

    def _start_postgres(self, ports: Mapping[str, int]) -> dict[str, object]:
        url = self._environ.get("ONETAKE_DATABASE_URL")
        if url:
            self._use_as_is(postgres.PART, url, default_port=5432, setting="ONETAKE_DATABASE_URL")
            return {"database_url": url}
        port = ports["postgres"]
        with step(self._progress, postgres.PART, "starting") as current:
            cluster = postgres.open_cluster(self.home, self._environ)
            command = cluster.command(port, self._environ)
            self._start_and_wait(command, lambda: cluster.answers(port, self._environ), SERVER_LIMIT_S)
            current.text = f"ready at {LOOPBACK}:{port}"
        return {"database_url": cluster.url(port)}

    def _start_store(self, ports: Mapping[str, int], programs: Mapping[str, Path]) -> dict[str, object]:
        given = self._environ.get("ONETAKE_S3_ENDPOINT")
        bucket = self._environ.get("ONETAKE_S3_BUCKET") or BUCKET
        if given:
            return self._store_as_is(given, bucket)
        port = ports["s3"]
        with step(self._progress, object_store.PART, "starting") as current:
            keys = object_store.open_keys(self.home)
            command = object_store.server_command(programs[VERSITYGW.name], port, self.home, keys, self._environ)
            self._start_and_wait(command, health_check(object_store.health_url(port)), SERVER_LIMIT_S)
            object_store.ensure_bucket(port, keys, bucket)
            current.text = f"ready at {LOOPBACK}:{port}, bucket {bucket}"
        return _store(f"{LOOPBACK}:{port}", keys.access_key, keys.secret_key, bucket, secure=False)

    def _store_as_is(self, endpoint: str, bucket: str) -> dict[str, object]:
        secure = (self._environ.get("ONETAKE_S3_SECURE") or "true").lower() in {"1", "true", "yes", "on"}
        self._use_as_is(object_store.PART, endpoint, default_port=443 if secure else 80, setting="ONETAKE_S3_ENDPOINT")
        access, secret = (self._environ.get(f"ONETAKE_S3_{name}_KEY", "") for name in ("ACCESS", "SECRET"))
        return _store(endpoint, access, secret, bucket, secure=secure)

    def _use_as_is(self, part: str, address: str, *, default_port: int, setting: str) -> None:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname or "", parts.port or default_port
        with step(self._progress, part, f"connecting to {host}:{port}") as current:
            if not answers(host, port, timeout_s=5.0):
                raise DevStackError(
                    part, f"nothing answers at {host}:{port}", hint=f"Correct {setting}, or unset it to run one here."
                )
            current.text = f"used as it is: {host}:{port}"

    def _start_and_wait(self, command: Command, healthy: Callable[[], bool], limit_s: float, hint: str = "") -> Running:
        running = self._supervisor.start(command)
        try:
            wait_until(running, healthy, limit_s=limit_s, closing=self._supervisor.closing, hint=hint)
        except DevStackError:
            self._supervisor.stop(command.name)
            raise
        return running


def _store(endpoint: str, access: str, secret: str, bucket: str, *, secure: bool) -> dict[str, object]:
    keys = {"s3_access_key": access, "s3_secret_key": secret}
    return {"s3_endpoint": endpoint, **keys, "s3_bucket": bucket, "s3_secure": secure}


def _check_of(part: Part) -> Callable[[], bool]:
    if part.health is not None:
        return health_check(part.health)
    alive_from = time.monotonic() + 0.3
    return lambda: time.monotonic() >= alive_from


def _codec_key(home: Path) -> str:
    """The payload codec's key of this home: 32 random bytes in base64, made once."""
    path = home / "codec.key"
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        postgres.write_secret(draft, base64.b64encode(secrets.token_bytes(32)).decode())
        draft.replace(path)
    return path.read_text().strip()


@contextmanager
def _locked_home(home: Path) -> Generator[None]:
    """Hold the home; a second stack in it is refused. The lock dies with this process, however it ends."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / "stack.lock").open("a+")
    except OSError as error:
        raise DevStackError("stack", f"{home} cannot be used: {error}", hint="Choose another folder.") from error
    with lock:
        deadline = time.monotonic() + _LOCK_LIMIT_S
        while not try_lock(lock):
            if time.monotonic() > deadline:
                raise DevStackError(
                    "stack", f"{_holder(lock)} uses {home}", hint="Stop it first, or use another folder."
                )
            time.sleep(0.1)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
        lock.truncate(0)


def _holder(lock: IO[str]) -> str:
    lock.seek(0)
    pid = lock.read().strip()
    return f"another stack (pid {pid})" if pid else "another stack"


@contextmanager
def _signals_set(stop: threading.Event) -> Generator[None]:
    """Turn Ctrl-C and SIGTERM into an event while the block runs."""

    def set_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
