"""A run that ends before it has money ends its row too, whatever it was that could not be done.

The engine is real, and so is the workflow; the activities are made up.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from onetake.core import names
from onetake.core.contracts import GenerationRequest, GenerationResult, InspectInput, SettleInput, Validated
from onetake.core.errors import Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.dev.devstack.temporal_server import register_search_attributes
from onetake.engine.temporal import connect
from tests.providers.parts import plan_of, request_for
from tests.servers import Servers
from workflows.generation import Generation

LOST = ApplicationError("the machine is on fire", type="Fire", non_retryable=True)


@dataclass
class Steps:
    """Activities that fail as they are told, and the settlements that were ordered."""

    validating: Exception | None = None
    inspecting: Exception | None = None
    settling: Exception | None = None
    inspected: list[InspectInput] = field(default_factory=list[InspectInput])
    settled: list[SettleInput] = field(default_factory=list[SettleInput])
    generation_id: str = ""

    @activity.defn(name=names.VALIDATE)
    async def validate(self, _: Any) -> Validated:
        if self.validating:
            raise self.validating
        return Validated(generation_id=self.generation_id, plan=plan_of(request_for("image-to-video")))

    @activity.defn(name=names.INSPECT)
    async def inspect(self, order: InspectInput) -> Validated:
        self.inspected.append(order)
        raise self.inspecting or LOST

    @activity.defn(name=names.SETTLE)
    async def settle(self, order: SettleInput) -> GenerationResult:
        self.settled.append(order)
        if self.settling:
            raise self.settling
        return GenerationResult(
            id=order.generation_id, status="failed", phase="done", route="r", error=order.error, workflow_id="w"
        )


@pytest.fixture(scope="module")
def environ(servers: Servers) -> Mapping[str, str]:
    own = servers.of_ones_own("ends")
    register_search_attributes(SearchAttribute.ALL, own)
    return own


@pytest.fixture(scope="module")
async def client(environ: Mapping[str, str]) -> Client:
    return await connect(
        Settings(insecure_plaintext_history=True),
        address=environ["TEMPORAL_ADDRESS"],
        namespace=environ["TEMPORAL_NAMESPACE"],
    )


@pytest.fixture
async def steps(client: Client) -> AsyncGenerator[Steps]:
    made = Steps(generation_id=new_generation_id())
    inputs = Worker(client, task_queue="ends-inputs", activities=[made.inspect])
    ends = [made.validate, made.settle]
    async with Worker(client, task_queue="ends", workflows=[Generation], activities=ends), inputs:
        yield made


async def ended_with(client: Client, request: GenerationRequest, workflow_id: str) -> str:
    """The code with which a run closes."""
    with pytest.raises(WorkflowFailureError) as failure:
        await client.execute_workflow(Generation.run, request, id=workflow_id, task_queue="ends")
    assert isinstance(failure.value.cause, ApplicationError)
    return str(failure.value.cause.type)


def asked() -> GenerationRequest:
    return request_for("image-to-video")


async def test_inputs_that_cannot_be_looked_at_end_the_row(client: Client, steps: Steps) -> None:
    request = asked()
    code = await ended_with(client, request, workflow_id_of(request.tenant, steps.generation_id))
    assert [order.generation_id for order in steps.inspected] == [steps.generation_id]
    (order,) = steps.settled
    assert order.error is not None
    assert (code, order.generation_id, order.status, order.error.code) == (
        "inputs_busy",
        steps.generation_id,
        "failed",
        "inputs_busy",
    )


async def test_a_ledger_that_was_away_ends_the_row_that_our_client_has_written(client: Client, steps: Steps) -> None:
    """Nobody has answered with the row's id: the id of the workflow says it."""
    steps.validating, request = LOST, asked()
    code = await ended_with(client, request, workflow_id_of(request.tenant, steps.generation_id))
    (order,) = steps.settled
    assert order.error is not None
    assert (code, order.generation_id, order.resolution) == ("ledger_unavailable", steps.generation_id, "none")


@pytest.mark.parametrize("refusal", ["workflow_id_reused", "idempotency_key_reused"])
async def test_a_row_that_is_anothers_is_not_ended(client: Client, steps: Steps, refusal: str) -> None:
    steps.validating, request = Refused(refusal), asked()
    assert await ended_with(client, request, workflow_id_of(request.tenant, steps.generation_id)) == refusal
    assert steps.settled == []


async def test_a_run_of_a_plain_client_without_a_row_says_what_it_was(client: Client, steps: Steps) -> None:
    steps.validating = LOST
    assert await ended_with(client, asked(), f"mine-{uuid4()}") == "ledger_unavailable"
    assert steps.settled == []


async def test_a_row_that_is_not_there_does_not_hide_why_the_run_ended(client: Client, steps: Steps) -> None:
    steps.validating, steps.settling = LOST, Refused("generation_not_found")
    request = asked()
    code = await ended_with(client, request, workflow_id_of(request.tenant, steps.generation_id))
    assert (code, len(steps.settled)) == ("ledger_unavailable", 1)
