"""The whole stack on real parts, for tests: servers, simulator, gateway and workers, and the ways to look at them."""

import asyncio
import itertools
import json
import os
import signal
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from minio import Minio
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowFailureError
from temporalio.service import RPCError, RPCStatusCode

from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationResult
from onetake.core.errors import TryLater
from onetake.core.money import parse_usd
from onetake.core.names import Period, Scope
from onetake.core.settings import Settings
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.stack import RunningStack
from onetake.engine.temporal import connect
from onetake.ledger import PostgresSubmissions
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import Database
from onetake.ledger.invariants import violations
from onetake.ledger.vendors import PostgresVendors
from onetake.media.storage import BucketStore
from onetake.operations.sweeping import Sweeper, running_at
from tests.replay.commands import local_step
from tests.system.forked import Call, Child, spawn, spawn_call
from tests.system.standing import standing_still
from tests.system.started import has_started, readiness

ROUTE = "apixo/wan-2.6/text-to-video"
TIME_SCALE = 0.05
RENDER_S = 1.0
LIMIT_S = 300.0
MOST_STARTS = 3
PATIENT_S = 3600  # the deadline of who is not about deadlines

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
        """Return when it has started, or when it has killed itself before. A server that is too busy to answer ends a
        process at its start; whoever runs one starts it again."""
        for _ in range(MOST_STARTS):
            self.lives.append(await asyncio.to_thread(spawn, self.words, self.env, self.log))
            async with asyncio.timeout(LIMIT_S):
                while not await asyncio.to_thread(has_started, self.port) and self.child.ended() is None:
                    await asyncio.sleep(0.05)
            if self.child.ended() in {None, -signal.SIGKILL}:
                return
        raise AssertionError(self.log.read_text()[-2000:])


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
        return Settings.model_validate(settings_in(self.environment) | overrides)

    async def temporal(self) -> Client:
        address, namespace = self.environment["TEMPORAL_ADDRESS"], self.environment["TEMPORAL_NAMESPACE"]
        return await patiently(lambda: connect(self.settings(), address=address, namespace=namespace))

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
    async def worker(
        self, task_queue: str, *, crash: str = "", roles: Sequence[str] = (), **env: str
    ) -> AsyncGenerator[str]:
        """A worker process, with all roles or those named, on a task queue of its own; yields its name, for `died`,
        `kill`, `restart` and `child`. It may kill itself at the points of `crash` (see `onetake.core.crashpoints`)."""
        own = {"ONETAKE_TASK_QUEUE": task_queue, "ONETAKE_RECONCILE_EVERY_S": "0", "ONETAKE_CRASH": crash}
        port = free_port(set())
        words = ("worker", "--health-port", str(port), *(word for role in roles for word in ("--role", role)))
        async with self._part("worker", words, own | env, port) as name:
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

    def log_of(self, part: str) -> str:
        """What a part has written to its log so far."""
        return self._parts[part].log.read_text()

    def readiness(self, part: str) -> tuple[int, list[str]]:
        """What a part answers to who asks whether it is ready. Blocks."""
        return readiness(self._parts[part].port)

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a part of `worker` or `gateway`; SIGSTOP stops it, SIGCONT lets it go on."""
        self.child(part).kill(number)

    async def restart(self, part: str, *, crash: str = "") -> None:
        """Kill a part if it lives, and start it again at the same address, with other crash points or with none."""
        self.kill(part)
        await self.died(part)
        self._parts[part].env["ONETAKE_CRASH"] = crash
        await self._parts[part].start()

    @contextmanager
    def no_clip_stored(self) -> Generator[None]:
        """The worker that stores clips stands still in this block: what is started goes on, and does not end."""
        with standing_still(self.running.devstack, "media"):
            yield

    async def simulator_journal(self) -> dict[str, Any]:
        """The simulator's own journal: the truth about what was sent, accepted and charged."""
        return await asyncio.to_thread(self.get, "/journal")

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

    async def release(self, prompt: str) -> None:
        """What the markers of this prompt hold up at the simulator goes on: a POST, a render, a list, a download."""
        await self.control("release", prompt_sha256=sha256(prompt.encode()).hexdigest())

    async def intended(self, generation_id: str, database_url: str | None = None) -> None:
        """Wait until the intent to send is written, in another ledger than this stack's where one is named: the POST of
        it is under way, or was."""
        async with self.database(database_url) as database, asyncio.timeout(LIMIT_S):
            while (await PostgresSubmissions(database).read(generation_id, 1)).state == "not_sent":
                await asyncio.sleep(0.05)

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
    async def database(self, named: str | None = None) -> AsyncGenerator[Database]:
        url = named or self.environment["ONETAKE_DATABASE_URL"]
        database = await patiently(lambda: Database.connect(url, pool_size=1))
        try:
            yield database
        finally:
            await database.close()

    async def make_old(self, *generation_ids: str) -> None:
        """The reconciler leaves an open generation alone while it is new."""
        async with self.database() as database:
            aged = "update onetake.generation set created_at = created_at - interval '1 hour' where id = any ($1)"
            await database.row(aged, list(generation_ids))

    async def give_up(self, *started: Started) -> None:
        """End runs that would only sit there. They are settled soon, and keep no room at their vendor from others."""
        await self.terminate(*(each.workflow_id for each in started))
        await self.make_old(*(each.id for each in started))

    async def terminate(self, *workflow_ids: str) -> None:
        """End runs that have not ended; nothing of theirs is settled."""
        engine = await self.temporal()
        for workflow_id in workflow_ids:
            try:
                await engine.get_workflow_handle(workflow_id).terminate("the test is over")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    async def closed_history(self, workflow_id: str) -> list[HistoryEvent]:
        """The history of a run that is over, or is about to be: its row may end a moment before it."""
        handle = (await self.temporal()).get_workflow_handle(workflow_id)
        with suppress(WorkflowFailureError):
            await handle.result()
        return await self.history(workflow_id)

    async def history(self, workflow_id: str) -> list[HistoryEvent]:
        handle = (await self.temporal()).get_workflow_handle(workflow_id)
        return list((await handle.fetch_history()).events)

    async def happened(self, workflow_id: str, event: str, *, times: int = 1) -> list[HistoryEvent]:
        """The history of a run, once an event is in it so many times."""
        async with asyncio.timeout(LIMIT_S):
            while event_names(events := await self.history(workflow_id)).count(event) < times:
                await asyncio.sleep(0.05)
        return events

    async def cancel(self, onetake: Onetake, started: Started) -> None:
        """Cancel a generation that is under way, and wait until its run knows: what the test does next comes later."""
        await onetake.cancel(started.id)
        events = await self.happened(started.workflow_id, "WORKFLOW_EXECUTION_CANCEL_REQUESTED")
        taken = event_names(events).index("WORKFLOW_EXECUTION_CANCEL_REQUESTED")
        async with asyncio.timeout(LIMIT_S):
            while "WORKFLOW_TASK_COMPLETED" not in event_names(await self.history(started.workflow_id))[taken:]:
                await asyncio.sleep(0.05)

    async def swept(self) -> None:
        """Sweep the bucket as if a day were over: what generations need stays, whatever they are doing."""
        store = BucketStore.from_settings(self.settings())
        try:
            async with self.database() as database:
                sweeper = Sweeper(running_at(await self.temporal()), database, store, older_than_s=0)
                await patiently(sweeper.sweep_once)
        finally:
            store.close()

    async def listed(self, workflow_id: str, status: str) -> None:
        """Wait until Temporal's list, which is late, shows a run with this status."""
        engine, query = await self.temporal(), f"WorkflowId = '{workflow_id}' AND ExecutionStatus = '{status}'"
        async with asyncio.timeout(LIMIT_S):
            while not (await engine.count_workflows(query)).count:
                await asyncio.sleep(0.1)

    def get(self, path: str) -> Any:
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
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_", "OTEL_"))
    }


def settings_in(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that an environment names, by their fields."""
    named = {name.removeprefix("ONETAKE_").lower(): value for name, value in environ.items()}
    return {name: value for name, value in named.items() if name in Settings.model_fields}


def unique(text: str) -> str:
    """A prompt that no other test sends, so that the journal can be asked about it."""
    return f"{text} #{next(_numbers)}-{id(text)}"


def event_names(events: list[HistoryEvent]) -> list[str]:
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events]


def activity_ids(events: list[HistoryEvent]) -> list[str]:
    """What was done, in its order: the ids of activities as scheduled, and the names of steps that were done in the
    workflow's own task. A step that did not succeed there is named twice: it went on as an activity."""
    return [name for event in events if (name := local_step(event) or _activity_id(event))]


def _activity_id(event: HistoryEvent) -> str:
    return event.activity_task_scheduled_event_attributes.activity_id


def money(result: GenerationResult) -> tuple[int, int, int]:
    """Reserved, settled and suspense micros."""
    return result.cost.reserved_micros, result.cost.settled_micros, result.cost.suspense_micros


async def ended(onetake: Onetake, generation_id: str, limit_s: float = LIMIT_S) -> GenerationResult:
    return await onetake.result(generation_id, timeout_s=limit_s)


async def in_phase(onetake: Onetake, generation_id: str, *phases: str, limit_s: float = LIMIT_S) -> None:
    """Wait until a generation has reached one of these phases."""
    async with asyncio.timeout(limit_s):
        while (record := await onetake.get(generation_id)).phase not in phases:
            assert record.phase != "done", f"it ended {record.status} before it was seen in {phases}"
            await asyncio.sleep(0.05)
