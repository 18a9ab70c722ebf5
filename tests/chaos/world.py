"""A stack of its own for one run: real servers, a fleet that can be hurt, and somebody who watches."""

import asyncio
import importlib
import inspect
import os
import pkgutil
import signal
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from temporalio.client import WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Replayer

import workflows
from onetake.client import Onetake
from onetake.core.names import TERMINAL, SearchAttribute
from onetake.dev.devstack import DevStack, Part
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.devstack.progress import SilentProgress
from onetake.dev.stack import RunningStack, own_command, vendor_environment
from onetake.engine.schedule import schedule_id_of
from onetake.engine.temporal import plugin
from onetake.ledger import migrate
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import connect_once
from onetake.media.storage import BucketStore
from onetake.operations.reconciler import Reconciler
from onetake.operations.sweeping import Sweeper, running_at
from providers.admission import RouteAdmission
from tests.chaos import evidence
from tests.chaos.balancing import balanced
from tests.chaos.evidence import Evidence, Generation, Seen
from tests.chaos.fleet import Fleet, names_of, worker_of
from tests.chaos.plan import POOR, RICH, VENDORS
from tests.system.harness import Stack, bare_environ

TIME_SCALE: Final = 0.01  # an unknown outcome ends after 18 s instead of half an hour
RENDER_S: Final = 1.0
WORKERS: Final = 4
GATEWAYS: Final = 1
MOST_ASSET_BYTES: Final = 16 * 1024 * 1024  # a body without an end is cut here
WATCH_EVERY_S: Final = 1.5
AN_HOUR_S: Final = 3600.0
REPLAYS_AT_ONCE: Final = 4
PASS_LIMIT_S: Final = 240.0
SPOOL_LIMIT_S: Final = 240.0
POOR_MICROS: Final = 1_000_000
RICH_MICROS: Final = 1_000_000_000
MARKS: Final = {"vendor's link": "/files/", "signed link": "X-Amz-Signature", "callback's address": "/callbacks/"}


@dataclass
class World:
    """One stack with its fleet, its client, and what was seen of it. `prompt` is a word that every prompt contains,
    `callbacks` how many connections each gateway has got."""

    stack: Stack
    fleet: Fleet
    onetake: Onetake
    prompt: str
    time_scale: float
    callbacks: list[int]
    seen: Seen = field(default_factory=Seen)
    _frozen: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def home(self) -> Path:
        return self.stack.running.devstack.home

    async def watch(self) -> None:
        """Note, again and again, what changes in the bucket and what `ps` shows, until cancelled."""
        while True:
            with suppress(Exception):  # the store may be stopped just now
                self._note(await asyncio.to_thread(evidence.etags_of, self.stack))
            self.seen.commands |= await asyncio.to_thread(evidence.commands_of, self._groups())
            await asyncio.sleep(WATCH_EVERY_S)

    def _note(self, etags: dict[str, str]) -> None:
        """No attempt removes or replaces anything: what has been seen stays, as it was, until the bucket is swept."""
        for key, etag in etags.items():
            if not key.startswith("check/"):
                self.seen.etags.setdefault(key, set()).add(etag)
        self.seen.vanished |= self.seen.etags.keys() - etags.keys()

    def _groups(self) -> set[int]:
        stack = self.stack.running.devstack
        return self.fleet.pids | {stack.pid_of(name) for name in ("temporal", "postgres", "s3", "simulator")}

    async def reconcile(self) -> int:
        """One pass, as the schedule runs it; returns how many things it did."""
        async with self.stack.database() as database:
            reconciler = Reconciler(await self.stack.temporal(), database, time_scale=self.time_scale)
            reconciled = await reconciler.run_once()
        return sum(finding.action != "none" for finding in reconciled.findings)

    async def freeze(self, server: str, for_s: float) -> None:
        """Stop a server, with what it has in hand, for so long."""
        async with self._frozen:
            devstack = self.stack.running.devstack
            devstack.kill_part(server, signal.SIGSTOP)
            try:
                await asyncio.sleep(for_s)
            finally:
                devstack.kill_part(server, signal.SIGCONT)

    async def pause_schedule(self) -> None:
        """No pass but ours from now on; one under way may end."""
        engine, queue = await self.stack.temporal(), self.stack.settings().task_queue
        await engine.get_schedule_handle(schedule_id_of(queue)).pause(note="a run of the chaos suite looks")
        running = 'WorkflowType="Reconcile" AND ExecutionStatus="Running"'
        async with asyncio.timeout(PASS_LIMIT_S):
            while found := [each.id async for each in engine.list_workflows(running)]:
                for each in found:
                    with suppress(RPCError):  # it has ended meanwhile
                        await engine.get_workflow_handle(each).cancel()
                await asyncio.sleep(0.5)

    async def journal(self) -> list[str]:
        async with self.stack.database() as database:
            return await evidence.journal_of(database)

    async def open(self) -> int:
        """How many generations have not ended."""
        async with self.stack.database() as database:
            row = await database.answer(
                "select count(*) as open from onetake.generation where status <> all($1)", list(TERMINAL)
            )
        return row["open"]

    async def ledger_evidence(self) -> Evidence:
        """The database and the vendors' journal alone: what can be had quickly."""
        journal = await self.stack.simulator_journal()
        async with self.stack.database() as database:
            parts = await evidence.of_database(database)
        return Evidence(
            time.time(), self.time_scale, submits=journal["submits"], jobs=journal["jobs"], seen=self.seen, **parts
        )

    async def _sweep(self) -> None:
        """Sweep the bucket as if a day were over."""
        store = BucketStore.from_settings(self.stack.settings())
        try:
            async with self.stack.database() as database:
                await Sweeper(running_at(await self.stack.temporal()), database, store, older_than_s=0).sweep_once()
        finally:
            store.close()

    async def gather(self) -> Evidence:
        """Everything."""
        uploads, spool = await self._left_behind()
        engine = await self.stack.temporal()
        histories = await evidence.histories_of(engine)
        failures = await replay_failures([history for _, history in histories], self.stack)
        runs = [evidence.run_of(each, history, failures[history.run_id]) for each, history in histories]
        of_ledger = await self.ledger_evidence()
        self._note(await asyncio.to_thread(evidence.etags_of, self.stack))
        await self._sweep()
        connects = self.home / "connects"
        return replace(
            of_ledger,
            objects=await asyncio.to_thread(evidence.of_bucket, self.stack),
            uploads=uploads,
            spool=spool,
            runs=runs,
            logs=evidence.logs_of(self.home),
            secrets=secrets_of(self.stack),
            prompt=self.prompt,
            connects=frozenset(connects.read_text().splitlines()),
            allowed=permitted(self.stack),
            prices={each.id: price for each in of_ledger.generations if (price := self._price_of(each))},
        )

    def _price_of(self, generation: Generation) -> tuple[int, str] | None:
        if generation.plan is None:
            return None
        settings = self.stack.settings()
        price = RouteAdmission(settings).plan(generation.request, base_queue=settings.task_queue).price
        return price.amount_micros, price.table_version

    async def _left_behind(self) -> tuple[list[str], list[str]]:
        """What is left an hour later, after a worker has started anew: the files are made older, the sweeps look."""
        spool, then = self.home / "spool", time.time() - 2 * AN_HOUR_S
        for path in spool.rglob("*"):
            os.utime(path, (then, then))
        await asyncio.gather(self.fleet.down("media-a", 0), self.fleet.down("worker-a", 0))
        await self.fleet.ready()
        store = BucketStore.from_settings(self.stack.settings())
        try:
            await store.abort_stale_uploads(0)
            left = await store.abort_stale_uploads(0)
        finally:
            store.close()
        return ["an object"] * left, await self._left_in(spool)

    async def _left_in(self, spool: Path) -> list[str]:
        """The files that stay. A recovery that goes on uses some until its try has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SPOOL_LIMIT_S):
                while any(spool.iterdir()):
                    await asyncio.sleep(0.5)
        return [str(path.relative_to(spool)) for path in spool.iterdir()]


@asynccontextmanager
async def world(
    prompt: str, *, workers: Sequence[str] = (), gateways: int = GATEWAYS, time_scale: float = TIME_SCALE
) -> AsyncGenerator[World]:
    """Bring it all up on free ports in a folder that is deleted at the end: these workers, or half of
    `WORKERS` for media, and so many gateways, which get the callbacks in turns."""
    with servers(time_scale) as stack, pytest.MonkeyPatch.context() as patch:
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
            patch.setenv(name, stack.environment[name])
        home = stack.running.devstack.home
        (home / "spool").mkdir()
        fleet = Fleet(stack.environment | {"ONETAKE_SPOOL_DIR": str(home / "spool")}, home)
        try:
            await _prepare(stack)
            front = await _start(fleet, stack, workers or names_of(WORKERS), gateways)
            async with front as callbacks, stack.client() as onetake:
                yield World(stack, fleet, onetake, prompt, time_scale, callbacks)
        finally:
            fleet.close()


@contextmanager
def servers(time_scale: float) -> Generator[Stack]:
    """Temporal, PostgreSQL, S3 and the simulator; none of our own parts."""
    given = bare_environ() | {
        "ONETAKE_TIME_SCALE": str(time_scale),
        "ONETAKE_ASSET_MAX_BYTES": str(MOST_ASSET_BYTES),
    }
    devstack = DevStack(
        Path(tempfile.mkdtemp(prefix="onetake-chaos-")),
        progress=SilentProgress(),
        ports="free",
        search_attributes=SearchAttribute.ALL,
        environ=given,
        ephemeral=True,
        temporal_in_memory=True,
    )
    with devstack:
        at = devstack.start_servers()
        vendors, _ = vendor_environment(given, at.simulator_url)
        serve = ("--host", LOOPBACK, "--port", str(at.simulator_port), "--home", str(devstack.home / "simulator"))
        argv = own_command("simulator", *serve, "--render-s", str(RENDER_S))
        devstack.start_part(Part(name="simulator", argv=argv, env=vendors, health=f"{at.simulator_url}/healthz"))
        environment = devstack.environment() | vendors
        yield Stack(RunningStack(devstack, environment, at.simulator_url), given | environment)


async def _prepare(stack: Stack) -> None:
    """Tables, the log of every change, and budgets."""
    url = stack.environment["ONETAKE_DATABASE_URL"]
    await migrate.upgrade(url)
    session = await connect_once(url)
    await session.execute(evidence.AUDIT)
    await session.close()
    async with stack.database() as database:
        budgets = Budgets(database)
        await budgets.set_budget("tenant", POOR, "total", POOR_MICROS)
        for tenant in RICH:
            await budgets.set_budget("tenant", tenant, "month", RICH_MICROS)
        for vendor in VENDORS:
            await budgets.set_budget("vendor", vendor, "total", RICH_MICROS)


async def _start(
    fleet: Fleet, stack: Stack, workers: Sequence[str], gateways: int
) -> AbstractAsyncContextManager[list[int]]:
    """Start every part; what it returns stands before the gateways, at the address that the vendors know."""
    at = stack.running.addresses
    ports = [free_port(set()) for _ in range(gateways)]
    for number, port in enumerate(ports, 1):
        codec = ("--codec-port", str(at.codec_port)) if number == 1 else ()
        await fleet.start(f"gateway-{number}", port, ("gateway", "--host", LOOPBACK, "--port", str(port), *codec))
    for name in workers:
        await fleet.start(name, *worker_of(name))
    await fleet.ready()
    return balanced(at.gateway_port, ports)


def secrets_of(stack: Stack) -> dict[str, str]:
    """What must stay where it is kept, and the marks of links that let whoever has them in."""
    environment = stack.environment
    named = {
        name: value for name, value in environment.items() if name.endswith(("_API_KEY", "_SECRET_KEY", "CODEC_KEY"))
    }
    password = urlsplit(environment["ONETAKE_DATABASE_URL"]).password
    return named | ({"database password": password} if password else {}) | MARKS


def permitted(stack: Stack) -> frozenset[str]:
    """The addresses that our processes may dial: those of the configuration."""
    at, environment = stack.running.addresses, stack.environment
    database = urlsplit(environment["ONETAKE_DATABASE_URL"])
    served = (stack.simulator_url, stack.gateway_url, f"//{environment['ONETAKE_S3_ENDPOINT']}")
    places = {urlsplit(url).netloc for url in served} | {f"{database.hostname}:{database.port}", at.temporal_address}
    return frozenset(places)


async def replay_failures(histories: list[WorkflowHistory], stack: Stack) -> dict[str, str | None]:
    """How each history fares on today's code, by its run's id."""
    kinds = workflow_kinds()
    gate = asyncio.Semaphore(REPLAYS_AT_ONCE)

    async def one(history: WorkflowHistory) -> tuple[str, str | None]:
        async with gate:
            replayer = Replayer(workflows=kinds, plugins=[plugin(stack.settings())], namespace="default")
            outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        failure = outcome.replay_failure
        return history.run_id, None if failure is None else f"{type(failure).__name__}: {failure}"[:300]

    return dict(await asyncio.gather(*(one(history) for history in histories)))


def workflow_kinds() -> list[type[Any]]:
    """Every workflow there is, so that a new one is replayed too."""
    modules = [
        importlib.import_module(f"workflows.{module.name}") for module in pkgutil.iter_modules(workflows.__path__)
    ]
    return [
        each
        for module in modules
        for _, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and hasattr(each, "__temporal_workflow_definition")
    ]
