"""A gateway process on a real database and a real Temporal server, and a workflow that only listens."""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.contracts import (
    GenerationRequest,
    Plan,
    Price,
    RecoveryRequest,
    ReserveInput,
    SettleInput,
    WakeSignal,
)
from onetake.core.ids import recovery_id_of
from onetake.core.names import RECOVERY_WORKFLOW, Resolution, SubmissionState
from onetake.dev.devstack import DevStack, Part
from onetake.dev.devstack.ports import free_port
from onetake.ledger import Database, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.callbacks import Callbacks
from tests.system.standing import standing_still

QUEUE = "gateway-tests"
TIME_SCALE = 0.1
INTERVAL_S = 5 * TIME_SCALE
LIMIT_S = 300.0  # of a hang
CANARY = "canary-8d41e0b7"
ROUTE = "apixo/wan-2.6/text-to-video"


@workflow.defn
class Listening:
    def __init__(self) -> None:
        self._heard: list[WakeSignal] = []

    @workflow.run
    async def run(self, request: GenerationRequest) -> None:
        del request
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def vendor_callback(self, wake: WakeSignal) -> None:
        self._heard.append(wake)

    @workflow.query
    def heard(self) -> list[WakeSignal]:
        return self._heard


@workflow.defn(name=RECOVERY_WORKFLOW)
class Recovering:
    """In the place of the recovery: it keeps what it was asked and waits."""

    def __init__(self) -> None:
        self._asked: RecoveryRequest | None = None
        self._heard: list[WakeSignal] = []

    @workflow.run
    async def run(self, request: RecoveryRequest) -> None:
        self._asked = request
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def vendor_callback(self, wake: WakeSignal) -> None:
        self._heard.append(wake)

    @workflow.query
    def asked(self) -> RecoveryRequest | None:
        return self._asked

    @workflow.query
    def heard(self) -> list[WakeSignal]:
        return self._heard


@dataclass(frozen=True)
class Generation:
    """A generation that waits for its callback."""

    id: str
    token: str
    handle: WorkflowHandle[Listening, None]
    recovery: WorkflowHandle[Recovering, None]

    async def heard(self) -> list[str | None]:
        """The claimed ids of the signals so far."""
        return [wake.claimed_task_id for wake in await _asked(lambda: self.handle.query(Listening.heard))]

    async def recovery_heard(self) -> list[str | None]:
        """The claimed ids of the signals to the recovery so far; none when nobody has started it."""
        return [wake.claimed_task_id for wake in await _asked(lambda: self.recovery.query(Recovering.heard))]


async def _asked(query: Callable[[], Awaitable[list[WakeSignal]]]) -> list[WakeSignal]:
    """What a run answers. A busy server that gives a query up is asked again: a query changes nothing."""
    while True:
        try:
            return await query()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            if error.status not in {RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}:
                raise


@dataclass(frozen=True)
class Gateway:
    stack: DevStack
    database: Database
    temporal: Client
    url: str
    codec_url: str
    plan: Plan

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """Its process does nothing in this block: no sweep of the inbox that it shares with another gateway."""
        with standing_still(self.stack, "gateway"):
            yield

    @property
    def inbox(self) -> Callbacks:
        return Callbacks(self.database)

    async def generation(self) -> Generation:
        """Accept, hold and begin one submission, and start its workflow."""
        request, workflow_id = GenerationRequest(route=ROUTE, prompt=CANARY), f"gen/default/{uuid4()}"
        handle = await self.temporal.start_workflow(Listening.run, request, id=workflow_id, task_queue=QUEUE)
        rows = PostgresGenerations(self.database)
        identity = (await rows.accept_once(request, workflow_id=workflow_id, plan=self.plan)).id
        price = Price(amount_micros=1, unit="clip", table_version="1")
        owner: dict[str, Any] = {"tenant": "default", "user": None, "feature": None, "route": ROUTE, "vendor": "apixo"}
        await PostgresLedger(self.database).reserve(
            ReserveInput(generation_id=identity, attempt=1, price=price, **owner)
        )
        token = secrets.token_urlsafe(24)
        await PostgresSubmissions(self.database).begin(
            identity,
            1,
            vendor="apixo",
            token_sha256=sha256(token.encode()).digest(),
            request_sha256=b"\0" * 32,
            seed=None,
        )
        recovery = self.temporal.get_workflow_handle_for(Recovering.run, recovery_id_of("default", identity))
        return Generation(identity, token, handle, recovery)

    async def sent(self, generation: Generation, state: SubmissionState) -> None:
        """Record what came of the POST."""
        task_id = f"task-{generation.id}" if state == "accepted" else None
        await PostgresSubmissions(self.database).record(generation.id, 1, state=state, vendor_task_id=task_id)

    async def end(self, generation: Generation, resolution: Resolution) -> None:
        """Settle it as its workflow would; the workflow itself goes on listening."""
        order = SettleInput(
            generation_id=generation.id, attempt=1, tenant="default", status="failed", resolution=resolution
        )
        await PostgresLedger(self.database).settle(order)

    async def seen(self, generation: Generation) -> tuple[int, int]:
        """How many callbacks the inbox has counted, and in how many rows for which somebody is still to be woken."""
        row = await self.database.answer(
            """select coalesce(sum(i.seen), 0)::bigint as seen, count(*) filter (where i.signalled_at is null) as due
            from onetake.callback_inbox i join onetake.callback_token t using (token_sha256)
            where t.generation_id = $1""",
            generation.id,
        )
        return row["seen"], row["due"]

    async def unsignalled(self, generation: Generation) -> int:
        return (await self.seen(generation))[1]


def gateway_part(name: str, *, codec: bool = False, **env: str) -> Part:
    port = free_port(set())
    argv = (sys.executable, "-m", "onetake.cli", "gateway", "--port", str(port))
    argv += ("--codec-port", str(free_port({port}))) if codec else ()
    env = {"ONETAKE_TIME_SCALE": str(TIME_SCALE), **env}
    return Part(name=name, argv=argv, env=env, health=f"http://127.0.0.1:{port}/healthz")


def url_of(part: Part) -> str:
    assert part.health
    return part.health.removesuffix("/healthz")


async def eventually(what: Callable[[], Any]) -> None:
    """Wait until an awaitable check is true."""
    async with asyncio.timeout(LIMIT_S):
        while not await what():
            await asyncio.sleep(0.05)
