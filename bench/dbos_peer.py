"""The peer: the same generation, made durable by DBOS in PostgreSQL instead of by Temporal.

`python -m bench.dbos_peer PORT CONTROL_PORT` serves the vendor's callbacks on PORT with the product's own gateway. On
CONTROL_PORT each line is a request as JSON; it answers with the generation's id when the clip is settled. The system
tables of DBOS are a database `bench_dbos` on the same server. One process does all; DBOS needs no other.
"""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvicorn

from bench.steps import Accepted, Steps, steps
from onetake.core.contracts import GenerationRequest, Persisted, Plan
from onetake.core.settings import Settings, load_settings
from onetake.gateway.app import GatewayParts, create_app
from onetake.ledger.callbacks import Callbacks, Wake
from onetake.ledger.database import Database
from providers.vendors import VENDORS

HOST: Final = "127.0.0.1"
TOPIC: Final = "wake"
LONGEST_WAIT_S: Final = 3600
TRIES: Final[dict[str, Any]] = {"retries_allowed": True, "interval_seconds": 0.5, "max_attempts": 5}
_POOL: Final = 20

Workflow = Callable[..., Awaitable[None]]


def workflow_of(engine: Any, steps: Steps) -> Workflow:
    """One workflow of four steps and a message. Steps exchange JSON, as activities do."""

    @engine.step(**TRIES)
    async def reserve(*written: str) -> None:
        await steps.reserve(_read(*written))

    @engine.step()  # a POST is never repeated
    async def submit(*written: str) -> str:
        return await steps.submit(_read(*written))

    @engine.step(**TRIES)
    async def persist(task_id: str, *written: str) -> str:
        return (await steps.persist(_read(*written), task_id)).model_dump_json()

    @engine.step(**TRIES)
    async def settle(task_id: str, persisted: str, *written: str) -> str:
        stored = Persisted.model_validate_json(persisted)
        return (await steps.settle(_read(*written), task_id, stored)).model_dump_json()

    @engine.workflow()
    async def generation(*written: str) -> None:
        await reserve(*written)
        task_id = await submit(*written)
        await engine.recv_async(TOPIC, timeout_seconds=LONGEST_WAIT_S)
        persisted = await persist(task_id, *written)
        await settle(task_id, persisted, *written)

    return generation


class Peer:
    """Starts workflows, and wakes them for their callbacks."""

    def __init__(self, settings: Settings, steps: Steps, inbox: Callbacks) -> None:
        dbos: Any = importlib.import_module("dbos")
        self._engine = dbos.DBOS
        self._with_id = dbos.SetWorkflowID
        self._steps = steps
        self._inbox = inbox
        self._waking: set[asyncio.Task[None]] = set()
        self._engine(config=_config(settings))
        self._workflow = workflow_of(self._engine, steps)
        self._engine.launch()

    async def generate(self, request: GenerationRequest) -> str:
        """Accept one, start its workflow and wait for its end, which this process learns without polling."""
        accepted = await self._steps.accept(request)
        with self._with_id(accepted.id):
            handle = await self._engine.start_workflow_async(self._workflow, *_written(accepted))
        await handle.get_result()
        return accepted.id

    def wake(self, wake: Wake) -> None:
        """Tell a workflow that its callback came, and note that it was told, as our gateway does."""
        task = asyncio.create_task(self._wake(wake))
        self._waking.add(task)
        task.add_done_callback(self._waking.discard)

    async def _wake(self, wake: Wake) -> None:
        await self._engine.send_async(wake.generation_id, "woken", topic=TOPIC)
        await self._inbox.woken(wake)


def _written(accepted: Accepted) -> tuple[str, ...]:
    return accepted.id, accepted.workflow_id, accepted.request.model_dump_json(), accepted.plan.model_dump_json()


def _read(generation_id: str, workflow_id: str, request: str, plan: str) -> Accepted:
    parsed = GenerationRequest.model_validate_json(request), Plan.model_validate_json(plan)
    return Accepted(generation_id, workflow_id, *parsed)


def _config(settings: Settings) -> dict[str, Any]:
    server = settings.database_url.get_secret_value().rpartition("/")[0]
    return {
        "name": "bench",
        "system_database_url": f"{server}/bench_dbos",
        "sys_db_pool_size": _POOL,
        "run_admin_server": False,
        "log_level": "ERROR",
        "application_version": "1",
        "executor_id": "bench",
    }


async def serve(port: int, control_port: int) -> None:
    """Run generations until the process is stopped."""
    settings = load_settings()
    inbox = Callbacks(await Database.connect(settings.database_url.get_secret_value(), pool_size=4))
    async with steps(settings, f"http://{HOST}:{port}") as built:
        peer = Peer(settings, built, inbox)
        app = create_app(GatewayParts(inbox, peer.wake, VENDORS, _hint, {}, {}))
        config = uvicorn.Config(app, host=HOST, port=port, log_config=None, access_log=False)
        async with await asyncio.start_server(_controlled(peer), HOST, control_port):
            await uvicorn.Server(config).serve()


def _hint(vendor: str, body: bytes) -> tuple[str | None, str | None]:
    found = VENDORS[vendor].callback_hint(body)
    return found.task_id, found.state


def _controlled(peer: Peer) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Run one generation after the other; whoever fails closes the connection, and the log says why."""
        try:
            while line := await reader.readline():
                generation_id = await peer.generate(GenerationRequest.model_validate_json(line))
                writer.write(f"{generation_id}\n".encode())
                await writer.drain()
        finally:
            writer.close()

    return answer


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
