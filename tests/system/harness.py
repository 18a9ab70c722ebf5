"""The whole stack on real parts, for tests: servers, simulator, gateway and workers, and the ways to look at them."""

import asyncio
import itertools
import json
import os
import signal
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from minio import Minio
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.core.errors import TryLater
from onetake.core.money import parse_usd
from onetake.core.names import Period, Scope
from onetake.core.settings import Settings
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.stack import RunningStack
from onetake.engine.temporal import connect
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import Database
from onetake.ledger.invariants import violations
from onetake.ledger.vendors import PostgresVendors
from tests.system.forked import Call, Child, spawn, spawn_call

ROUTE = "apixo/wan-2.6/text-to-video"
TIME_SCALE = 0.05
RENDER_S = 1.0
LIMIT_S = 120.0

T = TypeVar("T")
_numbers = itertools.count(1)


@dataclass
class _Part:
    """A command line that is a process now, or was."""

    words: tuple[str, ...]
    env: dict[str, str] = field(repr=False)
    port: int
    log: Path
    lives: list[Child] = field(default_factory=list[Child])

    @property
    def child(self) -> Child:
        return self.lives[-1]

    async def start(self) -> None:
        """Return when it listens, which it does when all it needs is there, or when it has killed itself before."""
        self.lives.append(await asyncio.to_thread(spawn, self.words, self.env, self.log))
        async with asyncio.timeout(LIMIT_S):
            while not await self._listens() and self.child.ended() is None:
                await asyncio.sleep(0.05)
        assert self.child.ended() in {None, -signal.SIGKILL}, self.log.read_text()[-2000:]

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@dataclass(frozen=True)
class Stack:
    """A running stack. `environment` is what a client process of it needs."""

    running: RunningStack
    environment: dict[str, str] = field(repr=False)
    _parts: "dict[str, _Part]" = field(default_factory=dict[str, "_Part"], init=False, repr=False)

    @property
    def simulator_url(self) -> str:
        assert self.running.simulator_url
        return self.running.simulator_url

    @property
    def gateway_url(self) -> str:
        return self.running.addresses.gateway_url

    def settings(self, **overrides: str) -> Settings:
        """Settings as a process with this environment would read them."""
        named = {name.removeprefix("ONETAKE_").lower(): value for name, value in self.environment.items()}
        known = {name: value for name, value in named.items() if name in Settings.model_fields}
        return Settings.model_validate(known | overrides)

    async def temporal(self) -> Client:
        address, namespace = self.environment["TEMPORAL_ADDRESS"], self.environment["TEMPORAL_NAMESPACE"]
        return await connect(self.settings(), address=address, namespace=namespace)

    async def plain_temporal(self) -> Client:
        """A client that knows nothing of this package: no converter, no codec, no plugin of ours."""
        return await Client.connect(
            self.environment["TEMPORAL_ADDRESS"], namespace=self.environment["TEMPORAL_NAMESPACE"]
        )

    @asynccontextmanager
    async def client(self, **overrides: str) -> AsyncGenerator[Onetake]:
        async with AsyncExitStack() as opened:
            yield await patiently(lambda: opened.enter_async_context(Onetake.connect(self.settings(**overrides))))

    @asynccontextmanager
    async def worker(self, task_queue: str, *, crash: str = "", **env: str) -> AsyncGenerator[str]:
        """A worker process with all roles on a task queue of its own; yields its name, for `died`, `kill`, `restart`
        and `child`. It may kill itself at the points of `crash` (see `onetake.core.crashpoints`)."""
        own = {"ONETAKE_TASK_QUEUE": task_queue, "ONETAKE_RECONCILE_EVERY_S": "0", "ONETAKE_CRASH": crash}
        port = free_port(set())
        async with self._part("worker", ("worker", "--health-port", str(port)), own | env, port) as name:
            yield name

    @asynccontextmanager
    async def gateway(self, *, crash: str = "", **env: str) -> AsyncGenerator[tuple[str, str]]:
        """A gateway process of one's own; yields its name and its address, which is a worker's
        `ONETAKE_CALLBACK_BASE_URL`. The stack's own gateway sweeps the same inbox."""
        port = free_port(set())
        words = ("gateway", "--host", LOOPBACK, "--port", str(port))
        async with self._part("gateway", words, {"ONETAKE_CRASH": crash, **env}, port) as name:
            yield name, f"http://{LOOPBACK}:{port}"

    async def in_process(self, call: Call, *words: str, crash: str = "", **env: str) -> Child:
        """Run a function of a module's top level in a process with this stack's environment; returns when it ended."""
        child = spawn_call(call, words, {**self.environment, "ONETAKE_CRASH": crash, **env}, self._log("call"))
        try:
            await child.wait(LIMIT_S)
        finally:
            child.kill()
        return child

    @asynccontextmanager
    async def _part(self, kind: str, words: tuple[str, ...], env: dict[str, str], port: int) -> AsyncGenerator[str]:
        name = f"{kind}-{next(_numbers)}"
        self._parts[name] = part = _Part(words, self.environment | env, port, self._log(name))
        try:
            await part.start()
            yield name
        finally:
            if part.lives:
                part.child.kill()

    def _log(self, name: str) -> Path:
        return self.running.devstack.log_of(f"{name}-{next(_numbers)}")

    def child(self, part: str) -> Child:
        """The process that a part runs as now."""
        return self._parts[part].child

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a part of `worker` or `gateway`; SIGSTOP stops it, SIGCONT lets it go on."""
        self.child(part).kill(number)

    async def restart(self, part: str, *, crash: str = "") -> None:
        """Kill a part if it lives, and start it again at the same address, with other crash points or with none."""
        self.kill(part)
        await self.died(part)
        self._parts[part].env["ONETAKE_CRASH"] = crash
        await self._parts[part].start()

    async def simulator_journal(self) -> dict[str, Any]:
        """The simulator's own journal: the truth about what was sent, accepted and charged."""
        return await asyncio.to_thread(self._get, "/journal")

    async def job(self, task_id: str | None) -> dict[str, Any]:
        return next(job for job in (await self.simulator_journal())["jobs"] if job["task_id"] == task_id)

    async def jobs_of(self, prompt: str) -> list[dict[str, Any]]:
        digest = sha256(prompt.encode()).hexdigest()
        return [job for job in (await self.simulator_journal())["jobs"] if job["prompt_sha256"] == digest]

    async def submits_of(self, prompt: str) -> list[dict[str, Any]]:
        digest = sha256(prompt.encode()).hexdigest()
        return [submit for submit in (await self.simulator_journal())["submits"] if submit["prompt_sha256"] == digest]

    async def control(self, what: str, **body: object) -> None:
        """Tell the simulator something: an outage, callbacks off."""
        await asyncio.to_thread(self._post, f"/control/{what}", body)

    async def died(self, part: str, limit_s: float = LIMIT_S) -> str | None:
        """Wait until a part has ended, whoever ended it; returns the crash point at which it died, if at one."""
        child = self.child(part)
        await child.wait(limit_s)
        return child.point()

    async def objects_under(self, prefix: str) -> list[str]:
        """The keys in the bucket, read with a client of the test's own."""
        settings = self.settings()
        store = Minio(
            endpoint=settings.s3_endpoint.removeprefix("http://"),
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            region=settings.s3_region,
        )
        found = await asyncio.to_thread(lambda: list(store.list_objects(settings.s3_bucket, prefix, recursive=True)))
        return [str(each.object_name) for each in found]

    async def set_budget(self, scope: Scope, key: str, period: Period, usd: str) -> None:
        async with self.database() as database:
            await Budgets(database).set_budget(scope, key, period, parse_usd(usd))

    async def reopen(self, vendor: str) -> None:
        """End a pause that a test caused: an empty account or a refused key pauses a vendor for everybody."""
        async with self.database() as database:
            await PostgresVendors(database).reopen(vendor)

    async def ledger_violations(self) -> list[str]:
        async with self.database() as database:
            return await violations(database)

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[Database]:
        url = self.environment["ONETAKE_DATABASE_URL"]
        database = await patiently(lambda: Database.connect(url, pool_size=1))
        try:
            yield database
        finally:
            await database.close()

    async def terminate(self, *workflow_ids: str) -> None:
        """End runs that would only sit there; nothing of theirs is settled."""
        engine = await self.temporal()
        for workflow_id in workflow_ids:
            await engine.get_workflow_handle(workflow_id).terminate("the test is over")

    async def history(self, workflow_id: str) -> list[HistoryEvent]:
        handle = (await self.temporal()).get_workflow_handle(workflow_id)
        return list((await handle.fetch_history()).events)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.simulator_url}{path}", timeout=60) as answer:
            return json.load(answer)

    def _post(self, path: str, body: Mapping[str, object]) -> None:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.simulator_url}{path}", data=data, headers=headers, method="POST")
        urllib.request.urlopen(request, timeout=60).close()


async def patiently(connect: Callable[[], Awaitable[T]]) -> T:
    """Connect to what is there for certain; a server that is slow on a busy machine is asked again."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            with suppress(TryLater):
                return await connect()


def bare_environ() -> dict[str, str]:
    """This process's environment without what would make a stack use servers of somebody else's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_"))}


def unique(text: str) -> str:
    """A prompt that no other test sends, so that the journal can be asked about it."""
    return f"{text} #{next(_numbers)}-{id(text)}"


def event_names(events: list[HistoryEvent]) -> list[str]:
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events]


def activity_ids(events: list[HistoryEvent]) -> list[str]:
    """The activity ids in the order in which they were scheduled."""
    scheduled = [event.activity_task_scheduled_event_attributes for event in events]
    return [attributes.activity_id for attributes in scheduled if attributes.activity_id]


def money(result: GenerationResult) -> tuple[int, int, int]:
    """Reserved, settled and suspense micros."""
    return result.cost.reserved_micros, result.cost.settled_micros, result.cost.suspense_micros


async def ended(onetake: Onetake, generation_id: str, limit_s: float = LIMIT_S) -> GenerationResult:
    return await onetake.result(generation_id, timeout_s=limit_s)


async def in_phase(onetake: Onetake, generation_id: str, *phases: str, limit_s: float = LIMIT_S) -> None:
    """Wait until a generation has reached one of these phases."""
    async with asyncio.timeout(limit_s):
        while (await onetake.get(generation_id)).phase not in phases:
            await asyncio.sleep(0.05)
