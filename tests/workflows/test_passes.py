"""The reconciler's run ends when it is canceled, whatever becomes of the pass that is under way."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import Worker

from onetake.core import names
from onetake.core.settings import Settings
from onetake.engine.temporal import connect
from tests.servers import Servers
from workflows.reconcile import Reconcile


@pytest.fixture
def at(servers: Servers) -> tuple[str, str]:
    environ = servers.of_ones_own("passes")
    return environ["TEMPORAL_ADDRESS"], environ["TEMPORAL_NAMESPACE"]


@pytest.fixture
async def client(at: tuple[str, str]) -> Client:
    return await connect(Settings(insecure_plaintext_history=True), address=at[0], namespace=at[1])


async def test_a_pass_that_fails_after_the_cancellation_is_the_last(client: Client) -> None:
    """As one does whose worker died, and which its time ends."""
    begun, canceled, passes = asyncio.Event(), asyncio.Event(), list[int]()

    @activity.defn(name=names.RECONCILE)
    async def fails(_: dict[str, Any]) -> None:
        passes.append(1)
        begun.set()
        await canceled.wait()
        raise ApplicationError("its worker died")

    queue = f"passes-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[Reconcile], activities=[fails]):
        run = await client.start_workflow(Reconcile.run, id=queue, task_queue=queue)
        await begun.wait()
        await run.cancel()
        while not any(
            each.HasField("workflow_execution_cancel_requested_event_attributes")
            for each in (await run.fetch_history()).events
        ):
            await asyncio.sleep(0.05)
        canceled.set()
        with pytest.raises(WorkflowFailureError) as ended:
            await run.result()
    assert isinstance(ended.value.cause, CancelledError)
    assert len(passes) == 1
