"""Waiting for a generation whose run ends and begins again, with a Temporal that answers as the test says."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from onetake.client import Onetake, client
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Failed, TryLater
from onetake.core.settings import Settings
from onetake.ledger import Database, PostgresGenerations

LIMIT_S = 300.0  # of a hang
WORKFLOW = "gen/acme/gen_01890000-0000-7000-8000-000000000001"


class Runs:
    """A workflow whose first run closes (or was never there) and whose second goes on, when there is one."""

    namespace = "default"

    def __init__(self, *, begins_again: bool, was_there: bool = True) -> None:
        self._begins_again, self._was_there = begins_again, was_there
        self.waits = 0
        self.again = asyncio.Event()  # the second run is waited for

    def get_workflow_handle(self, workflow_id: str) -> "Runs":
        assert workflow_id == WORKFLOW
        return self

    async def fetch_history_events(self, **_: object) -> AsyncGenerator[HistoryEvent]:
        self.waits += 1
        if self.waits > 1:
            self.again.set()
            await asyncio.sleep(2 * LIMIT_S)
        if not self._was_there:
            raise RPCError("", RPCStatusCode.NOT_FOUND, b"")
        yield HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED)

    async def describe(self, **_: object) -> "Runs":
        return self

    @property
    def status(self) -> WorkflowExecutionStatus:
        return WorkflowExecutionStatus.RUNNING if self._begins_again else WorkflowExecutionStatus.TERMINATED


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(client, "RECONCILED_WITHIN_S", 1.0)
    monkeypatch.setattr(client, "GONE_EVERY_S", 0.1)
    monkeypatch.setattr(client, "RESULT_EVERY_S", 0.2)


async def waited_for(runs: Runs, database: Database, database_url: str) -> str:
    """The status with which a wait ends. Its row ends when the second run has been waited for longer than a run that
    is gone would be."""
    request = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox", tenant="acme")
    row = await PostgresGenerations(database).accept_once(request, workflow_id=WORKFLOW)
    async with Onetake.connect(Settings.model_validate({"database_url": database_url})) as onetake:
        onetake._engine = cast("Client", cast("Any", runs))  # pyright: ignore[reportPrivateUsage]

        async def end() -> None:
            await runs.again.wait()
            await asyncio.sleep(1.5 * client.RECONCILED_WITHIN_S)
            await database.row("update onetake.generation set status = 'failed', phase = 'done', ended_at = now()")

        ending = asyncio.create_task(end())
        try:
            return (await onetake.result(row.id, timeout_s=LIMIT_S)).status
        finally:
            ending.cancel()


@pytest.mark.parametrize("was_there", [True, False], ids=["it was reset", "it starts later"])
async def test_a_run_that_begins_again_is_waited_for(database: Database, database_url: str, was_there: bool) -> None:
    runs = Runs(begins_again=True, was_there=was_there)
    assert await waited_for(runs, database, database_url) == "failed"
    assert runs.waits == 2


async def test_a_run_that_is_gone_for_good_is_not_waited_for_for_ever(database: Database, database_url: str) -> None:
    with pytest.raises(Failed) as caught:
        await waited_for(Runs(begins_again=False), database, database_url)
    assert caught.value.code == "run_lost"


async def test_a_wait_can_time_out_and_be_taken_up_again(database: Database, database_url: str) -> None:
    runs = Runs(begins_again=True)
    request = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox", tenant="acme")
    row = await PostgresGenerations(database).accept_once(request, workflow_id=WORKFLOW)
    async with Onetake.connect(Settings.model_validate({"database_url": database_url})) as onetake:
        onetake._engine = cast("Client", cast("Any", runs))  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(TryLater) as caught:
            await onetake.result(row.id, timeout_s=0.3)
        assert caught.value.code == "wait_timed_out"
        await database.row("update onetake.generation set status = 'failed', phase = 'done', ended_at = now()")
        assert (await onetake.result(row.id, timeout_s=LIMIT_S)).status == "failed"


async def test_a_cancellation_is_noted_while_temporal_is_away(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of the reconciler delivers what is noted."""

    async def away(_: Onetake) -> Client:
        raise TryLater("engine_unavailable", "a lost connection")

    monkeypatch.setattr(Onetake, "_temporal", away)
    request = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox", tenant="acme")
    row = await PostgresGenerations(database).accept_once(request, workflow_id=WORKFLOW)
    async with Onetake.connect(Settings.model_validate({"database_url": database_url})) as onetake:
        with pytest.raises(TryLater):
            await onetake.cancel(row.id)
        assert (await onetake.get(row.id)).cancel_requested
