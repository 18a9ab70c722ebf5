"""A Temporal client that knows nothing of this package: what docs/reference.md promises it."""

import json
import uuid
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from tests.system.harness import ROUTE, Stack, activity_ids, unique

CANARY = "canary-7f3a prompt nobody may read"


async def run(stack: Stack, argument: Any, workflow_id: str | None = None) -> None:
    client = await stack.plain_temporal()
    handle = await client.start_workflow(
        "Generation", argument, id=workflow_id or f"plain/{uuid.uuid4()}", task_queue="onetake"
    )
    await handle.result(rpc_timeout=None)


async def test_a_plain_client_starts_by_name_and_the_generation_completes(stack: Stack) -> None:
    prompt, workflow_id = unique("plain"), f"shop-order-{uuid.uuid4()}"
    with pytest.raises(Exception) as encrypted:
        await run(stack, {"route": ROUTE, "prompt": prompt, "duration_s": 2, "tenant": "shop"}, workflow_id)
    assert "encrypted" in str(encrypted.value).lower() or "encoding" in str(encrypted.value).lower()
    async with stack.client() as onetake:
        (record,) = [each for each in await onetake.list(tenant="shop") if each.workflow_id == workflow_id]
        assert (record.status, record.cost.settled_micros) == ("completed", 200_000)
    assert activity_ids(await stack.history(workflow_id))[-1] == "settle"
    assert len(await stack.jobs_of(prompt)) == 1


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"route": ROUTE},
        {"route": ROUTE, "prompt": 7},
        {"route": ROUTE, "prompt": CANARY, "duraton_s": 10},
        {"route": ROUTE, "prompt": CANARY, "tenant": "Not A Tenant"},
        [],
        "words",
        None,
    ],
    ids=["empty", "no prompt", "a number as prompt", "a misspelled field", "a bad tenant", "a list", "text", "null"],
)
async def test_a_bad_payload_fails_the_workflow_without_echoing_it(stack: Stack, payload: object) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await run(stack, payload)
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "request_invalid"
    assert CANARY not in str(failure.value.cause.failure)


@pytest.mark.parametrize(
    "payload",
    [
        Payload(metadata={"encoding": b"json/plain"}, data=b'{"route": '),
        Payload(metadata={"encoding": b"binary/plain"}, data=CANARY.encode()),
        Payload(metadata={"encoding": b"of/another/world"}, data=CANARY.encode()),
        Payload(data=json.dumps({"route": ROUTE, "prompt": CANARY}).encode()),
    ],
    ids=["broken JSON", "bytes", "an unknown encoding", "no encoding"],
)
async def test_bytes_that_are_no_request_fail_the_workflow(stack: Stack, payload: Payload) -> None:
    with pytest.raises(WorkflowFailureError) as failure:
        await run(stack, RawValue(payload))
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "request_invalid"


async def test_a_rule_that_is_broken_is_a_failed_generation_with_every_violation(stack: Stack) -> None:
    workflow_id = f"plain/{uuid.uuid4()}"
    with pytest.raises(KeyError, match="binary/onetake"):  # the result in the failure's details is encrypted
        await run(stack, {"route": ROUTE, "prompt": "x" * 1501, "duration_s": 99, "aspect_ratio": "1:1"}, workflow_id)
    async with stack.client() as onetake:
        (record,) = [each for each in await onetake.list(limit=100) if each.workflow_id == workflow_id]
    assert record.error is not None
    assert record.error.code == "request_invalid"
    assert all(pointer in record.error.message for pointer in ("/prompt", "/duration_s", "/aspect_ratio"))
    assert record.cost.reserved_micros == 0
