"""What is measured: the whole stack, a client of each kind, and the bare worker beside ours."""

import os
import secrets
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from bench import bare
from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationResult
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
RESOLUTION: Final = "720p"
SHORT_CLIP_S: Final = 2
BARE_QUEUE: Final = "bench-bare"
LIMIT_S: Final = 120.0
PARTS: Final = ("temporal", "worker", "media", "postgres", "s3", "gateway", "simulator")
_OUTSIDE: Final = ("ONETAKE_", "TEMPORAL_")


class BenchError(Exception):
    """Something under measurement did not work: its figures would mean nothing."""


@dataclass(frozen=True)
class Bench:
    """A running stack. `onetake` is the public client; `engine` a plain client of the same Temporal server."""

    running: RunningStack
    onetake: Onetake
    engine: Client
    simulator: httpx.AsyncClient

    @property
    def settings(self) -> Settings:
        return self.onetake.settings

    @property
    def home(self) -> Path:
        return self.running.devstack.home

    @property
    def pids(self) -> dict[str, int]:
        """The first process of each part."""
        return {name: self.running.devstack.pid_of(name) for name in PARTS}

    @property
    def bare_pids(self) -> dict[str, int]:
        """The first process of each part that the bare workflow uses."""
        return {name: self.running.devstack.pid_of(name) for name in ("temporal", "bare worker")}

    async def generate(self, prompt: str, *, duration_s: int = SHORT_CLIP_S) -> Started:
        """One generation from its start to its result."""
        started = await self.onetake.start(
            route=ROUTE, prompt=prompt, duration_s=duration_s, resolution=RESOLUTION, tenant=TENANT
        )
        completed(await self.onetake.result(started.id, LIMIT_S))
        return started

    async def bare(self) -> None:
        """One bare workflow from its start to its result."""
        await self.engine.execute_workflow(
            bare.GENERATION_WORKFLOW, "a prompt", id=f"bare/{secrets.token_hex(8)}", task_queue=BARE_QUEUE
        )

    async def history(self, workflow_id: str) -> list[HistoryEvent]:
        handle = self.engine.get_workflow_handle(workflow_id)
        return [event async for event in handle.fetch_history_events()]

    async def job(self, task_id: str | None) -> dict[str, Any]:
        """A job in the simulator's journal."""
        return (await self.simulator.get(f"/journal/jobs/{task_id}")).raise_for_status().json()

    @asynccontextmanager
    async def impatient(self, task_queue: str, time_scale: float) -> AsyncGenerator[Onetake]:
        """A client with a worker of its own, for whom all times are shorter."""
        port = free_port(set())
        given = {"ONETAKE_TASK_QUEUE": task_queue, "ONETAKE_TIME_SCALE": str(time_scale)}
        part = Part(
            name=task_queue,
            argv=own_command("worker", "--health-port", str(port)),
            env=self.running.environment | given,
            health=f"http://127.0.0.1:{port}/",
        )
        self.running.devstack.start_part(part)
        try:
            async with Onetake.connect(load_settings(task_queue=task_queue, time_scale=time_scale)) as onetake:
                yield onetake
        finally:
            self.running.devstack.stop_part(task_queue)


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
        _start_bare_worker(running)
        yield running


def _start_bare_worker(running: RunningStack) -> None:
    argv = (sys.executable, "-m", "bench.bare", BARE_QUEUE)
    running.devstack.start_part(Part(name="bare worker", argv=argv, cwd=Path(__file__).parents[1]))


@asynccontextmanager
async def prepared(running: RunningStack) -> AsyncGenerator[Bench]:
    """The clients, a budget on the tenant, clips rendered beforehand, and one run of each kind to warm up."""
    async with (
        Onetake.connect(load_settings()) as onetake,
        httpx.AsyncClient(base_url=running.simulator_url or "", trust_env=False, timeout=60) as simulator,
    ):
        built = Bench(running, onetake, await bare.connect(), simulator)
        await _set_budget(onetake.settings)
        clips = {"duration_s": SHORT_CLIP_S, "resolution": RESOLUTION}
        (await simulator.post("/control/prerender", json=clips)).raise_for_status()
        await built.bare()
        await built.generate("warm up")
        yield built


async def _set_budget(settings: Settings) -> None:
    """One budget on everything, as a tenant has it: its row is hot."""
    database = await Database.connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        await Budgets(database).set_budget("tenant", TENANT, "month", 1_000_000 * MICROS_PER_USD)
    finally:
        await database.close()
