"""A replay whose start gets no answer from Temporal: the same call works later, and joins what has begun."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.errors import TryLater
from onetake.ledger import Database
from onetake.operations.replaying import Replays
from tests.providers.parts import plan_of

Suspend = Callable[..., Awaitable[str]]


class Silent:
    """Takes the first start and loses the answer; keeps what it was asked."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.id = ""

    async def start_workflow(self, *_: object, **options: Any) -> "Silent":
        self.started.append(options)
        self.id = options["id"]
        if len(self.started) == 1:
            raise RPCError("it quotes what we sent", RPCStatusCode.DEADLINE_EXCEEDED, b"")
        return self


async def test_a_recovery_whose_start_got_no_answer_is_joined_by_the_repeat(
    database: Database, suspend: Suspend
) -> None:
    generation_id, engine = await suspend("lost"), Silent()
    plan = plan_of(GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox"))
    await database.row("update onetake.generation set plan = $1", plan.model_dump_json())

    async def price(_: GenerationRequest) -> Plan:
        raise AssertionError("a reattach has no price")

    async def connected() -> Client:
        return cast("Client", cast("Any", engine))

    replays = Replays(database, price=price, engine=connected, task_queue="onetake")
    with pytest.raises(TryLater) as caught:
        await replays.replay("reattach", generation_id, who="a test")
    assert caught.value.code == "engine_unavailable"
    assert "quotes" not in str(caught.value)
    again = await replays.replay("reattach", generation_id, who="a test")
    first, second = engine.started
    assert first["id"] == second["id"] == again.workflow_id
    assert second["id_conflict_policy"].name == "USE_EXISTING"
