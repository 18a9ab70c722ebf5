"""What is measured: the whole stack, a client of each kind, and beside our workers the bare one and DBOS."""

import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from bench import bare
from onetake.client import Onetake, Started
from onetake.client.requests import request_of
from onetake.core.contracts import GenerationRequest, GenerationResult
from onetake.core.money import MICROS_PER_USD
from onetake.core.settings import Settings, load_settings
from onetake.dev.devstack import Part
from onetake.dev.devstack.ports import free_port
from onetake.dev.devstack.progress import progress_for
from onetake.dev.stack import RunningStack, own_command, running_stack
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import Database

ROUTE: Final = "apixo/wan-2.6/text-to-video"
TENANT: Final = "bench"
USER: Final = "u1"
FEATURE: Final = "f1"
RESOLUTION: Final = "720p"
SHORT_CLIP_S: Final = 2
BARE_QUEUE: Final = "bench-bare"
LIMIT_S: Final = 120.0
BARE: Final = "bare worker"
DBOS: Final = "dbos"
HAS_DBOS: Final = find_spec("dbos") is not None
PARTS: Final = ("temporal", "worker", "media", "postgres", "s3", "gateway", "simulator")
_LOG_SHOWN: Final = 2_000  # characters
_OUTSIDE: Final = ("ONETAKE_", "TEMPORAL_", "OTEL_")


class BenchError(Exception):
    """Something under measurement did not work: its figures would mean nothing."""


@dataclass(frozen=True)
class Side:
    """One of those that are measured in turns: how it runs one generation, less what of it is the vendor's time, and
    the first process of each part that it uses."""

    name: str
    run: Callable[[str], Awaitable[object]]
    pids: dict[str, int]


@dataclass(frozen=True)
class Bench:
    """A running stack. `onetake` is the public client; `engine` a plain client of the same Temporal server. `long`:
    every count is the published one; else smaller ones do."""

    running: RunningStack
    onetake: Onetake
    engine: Client
    simulator: httpx.AsyncClient
    dbos: "DbosClient | None" = None
    long: bool = False

    @property
    def settings(self) -> Settings:
        return self.onetake.settings

    @property
    def home(self) -> Path:
        return self.running.devstack.home

    @property
    def pids(self) -> dict[str, int]:
        """The first process of each part."""
        return self._pids(*PARTS)

    def _pids(self, *names: str) -> dict[str, int]:
        return {name: self.running.devstack.pid_of(name) for name in names}

    @property
    def sides(self) -> list[Side]:
        """Onetake, the bare workflow, and the peer on DBOS where it is installed."""
        sides = [Side("onetake", self.generate, self.pids), Side("bare", self.bare, self._pids("temporal", BARE))]
        if self.dbos is not None:
            sides.append(Side("dbos", self.dbos.generate, self._pids(DBOS, "postgres", "s3", "simulator")))
        return sides

    async def generate(self, prompt: str, *, duration_s: int = SHORT_CLIP_S) -> Started:
        """One generation from its start to its result."""
        started = await self.onetake.start(request(prompt, duration_s))
        completed(await self.onetake.result(started.id, LIMIT_S))
        return started

    async def bare(self, prompt: str) -> None:
        """One bare workflow from its start to its result."""
        await self.engine.execute_workflow(
            bare.GENERATION_WORKFLOW, prompt, id=f"bare/{secrets.token_hex(8)}", task_queue=BARE_QUEUE
        )

    async def history(self, workflow_id: str) -> list[HistoryEvent]:
        handle = self.engine.get_workflow_handle(workflow_id)
        return [event async for event in handle.fetch_history_events()]

    async def job(self, task_id: str | None) -> dict[str, Any]:
        """A job in the simulator's journal."""
        return (await self.simulator.get(f"/journal/jobs/{task_id}")).raise_for_status().json()

    @asynccontextmanager
    async def deployment(
        self, task_queue: str, environ: Mapping[str, str] | None = None, **settings: object
    ) -> AsyncGenerator[Onetake]:
        """A client with a worker of its own on the same servers, both with these settings changed, and the worker with
        these variables."""
        port = free_port(set())
        changed = {"task_queue": task_queue, **settings}
        part = Part(
            name=task_queue,
            argv=own_command("worker", "--health-port", str(port)),
            env=self.running.environment
            | {f"ONETAKE_{name.upper()}": str(each) for name, each in changed.items()}
            | dict(environ or {}),
            health=f"http://127.0.0.1:{port}/readyz",
        )
        self.running.devstack.start_part(part)
        try:
            async with Onetake.connect(load_settings(**changed)) as onetake:
                yield onetake
        finally:
            self.running.devstack.stop_part(task_queue)


class DbosClient:
    """Runs generations in the process of the peer, over connections that are kept."""

    def __init__(self, port: int, log: Path) -> None:
        self._port = port
        self._log = log
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def generate(self, prompt: str) -> str:
        """One generation from its start to its end; its id."""
        connection = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = connection
        writer.write(request(prompt).model_dump_json().encode() + b"\n")
        generation_id = (await reader.readline()).decode().strip()
        if not generation_id:
            raise BenchError(f"a generation of the peer on DBOS failed: {self._log.read_text()[-_LOG_SHOWN:]}")
        self._idle.append(connection)
        return generation_id


def request(prompt: str, duration_s: int = SHORT_CLIP_S) -> GenerationRequest:
    """What every side is asked for: it must pass four budgets."""
    return request_of(
        {
            "route": ROUTE,
            "prompt": prompt,
            "duration_s": duration_s,
            "resolution": RESOLUTION,
            "tenant": TENANT,
            "user": USER,
            "feature": FEATURE,
        }
    )


def completed(record: GenerationResult) -> None:
    """Refuse to measure a generation that did not make its clip."""
    if record.status != "completed":
        raise BenchError(f"{record.id} ended as {record.status} ({record.error.code if record.error else 'no error'})")


@contextmanager
def stack(*, temporal_in_memory: bool) -> Generator[RunningStack]:
    """Everything on free ports in a folder that is deleted; this process then speaks to it by its environment."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
    environ["ONETAKE_LOG_LEVEL"] = "warning"
    # The sandbox imports the workflow anew for each run. Without byte code it would compile it anew, too.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with running_stack(
        Path(tempfile.mkdtemp(prefix="onetake-bench-")),
        progress=progress_for(),
        environ=environ,
        ports="free",
        render_s=0.0,
        always_simulate=True,
        ephemeral=True,
        temporal_in_memory=temporal_in_memory,
    ) as running:
        for name in [name for name in os.environ if name.startswith(_OUTSIDE)]:
            del os.environ[name]
        os.environ.update(running.environment)
        yield running


@asynccontextmanager
async def prepared(running: RunningStack, *, long: bool) -> AsyncGenerator[Bench]:
    """The peers, the clients, four budgets, clips rendered beforehand, and one run of each kind to warm up."""
    start_module(running, BARE, "bench.bare", BARE_QUEUE)
    async with (
        Onetake.connect(load_settings()) as onetake,
        httpx.AsyncClient(base_url=running.simulator_url or "", trust_env=False, timeout=60) as simulator,
    ):
        await _set_budgets(onetake.settings)
        built = Bench(running, onetake, await bare.connect(), simulator, _start_dbos(running), long)
        clips = {"duration_s": SHORT_CLIP_S, "resolution": RESOLUTION}
        (await simulator.post("/control/prerender", json=clips)).raise_for_status()
        for side in built.sides:
            await side.run("warm up")
        yield built


def _start_dbos(running: RunningStack) -> DbosClient | None:
    if not HAS_DBOS:
        sys.stderr.write("dbos is not installed, so this peer is left out; `make bench` installs it\n")
        return None
    port = free_port(set())
    control = free_port({port})
    start_module(running, DBOS, "bench.dbos_peer", str(port), str(control), health=f"http://127.0.0.1:{port}/healthz")
    return DbosClient(control, running.devstack.log_of(DBOS))


def start_module(running: RunningStack, name: str, module: str, *arguments: str, health: str | None = None) -> None:
    """Run a module of the bench beside the stack."""
    argv = (sys.executable, "-m", module, *arguments)
    root = Path(__file__).parents[1]
    running.devstack.start_part(Part(name=name, argv=argv, cwd=root, env=running.environment, health=health))


async def _set_budgets(settings: Settings) -> None:
    """Four budgets that every generation must pass: their rows are hot."""
    database = await Database.connect(settings.database_url.get_secret_value(), pool_size=1)
    budgets, limit = Budgets(database), 1_000_000 * MICROS_PER_USD
    try:
        await budgets.set_budget("tenant", TENANT, "month", limit)
        await budgets.set_budget("user", f"{TENANT}/{USER}", "day", limit)
        await budgets.set_budget("feature", f"{TENANT}/{FEATURE}", "month", limit)
        await budgets.set_budget("route", ROUTE, "day", limit)
    finally:
        await database.close()
