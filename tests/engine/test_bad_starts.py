"""A plain client sends what it likes: each bad start ends as Failed, says which rule broke, and quotes nothing."""

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest
from google.protobuf.json_format import MessageToJson
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from onetake.engine.codec import ENCODING
from tests.engine.parts import CANARY, QUEUE

GOOD = {"route": "apixo/wan-2.6/text-to-video", "prompt": CANARY}
ENDED = timedelta(seconds=240)  # a run that does not fail by itself


def raw(data: bytes, encoding: str = "json/plain", **more: bytes) -> RawValue:
    return RawValue(Payload(metadata={"encoding": encoding.encode()} | more, data=data))


BAD: dict[str, tuple[list[object], str]] = {
    "no argument": ([], "takes one payload; 0 were given"),
    "two arguments": ([GOOD, CANARY], "takes one payload; 2 were given"),
    "null": ([None], "not JSON"),
    "bytes": ([CANARY.encode()], "not JSON"),
    "a text": ([CANARY], "model_type"),
    "a list": ([[GOOD]], "model_type"),
    "broken JSON": ([raw(b'{"prompt": "' + CANARY.encode())], "json_invalid"),
    "not UTF-8": ([raw(b"\xff\xfe" + CANARY.encode())], "json_invalid"),
    "too deep": ([raw(b"[" * 50_000)], "json_invalid"),
    "another encoding": ([raw(CANARY.encode(), CANARY)], "not JSON"),
    "another codec": ([raw(CANARY.encode(), "binary/encrypted")], "not JSON"),
    "a broken copy of our codec": ([raw(CANARY.encode(), ENCODING.decode())], "names no key"),
    "a protobuf message": ([raw(b"{}", "json/protobuf", messageType=CANARY.encode())], "not JSON"),
    "an unknown field": ([GOOD | {CANARY: 1}], "unknown field"),
    "a misspelt field": ([GOOD | {"duration": CANARY}], "unknown field (perhaps duration_s)"),
    "a wrong type": ([GOOD | {"duration_s": CANARY}], "duration_s: int_type"),
    "a missing field": ([{"prompt": CANARY}], "route: missing"),
    "a bad label": ([GOOD | {"labels": {CANARY + "\n": "x"}}], "labels.?.?: string_pattern_mismatch"),
    "too many labels": ([GOOD | {"labels": {str(number): "x" for number in range(1100)}}], "labels: too_long"),
    "many problems": ([GOOD | {"videos": list(range(40_000))}], "and 39992 more"),
    "too large": ([GOOD | {"prompt": CANARY * 30_000}], "larger than"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_start_fails_the_workflow_without_quoting_it(plain: Client, case: str) -> None:
    arguments, expected = BAD[case]
    failure, last_event = await outcome(plain, "Quoting", arguments)
    assert failure.type == "request_invalid"
    assert failure.non_retryable
    assert expected in failure.message
    assert CANARY not in last_event


async def test_a_good_start_from_a_plain_client_runs(plain: Client, client: Client) -> None:
    workflow_id = f"good/{uuid4()}"
    await plain.start_workflow("Waiting", GOOD, id=workflow_id, task_queue=QUEUE)
    await plain.get_workflow_handle(workflow_id).signal("vendor_callback", {"claimed_task_id": "t-1"})
    assert await client.get_workflow_handle(workflow_id).result() == "apixo/wan-2.6/text-to-video t-1"


async def test_bad_signals_are_dropped_and_the_workflow_goes_on(plain: Client, client: Client) -> None:
    workflow_id = f"signals/{uuid4()}"
    handle = await plain.start_workflow("Waiting", GOOD, id=workflow_id, task_queue=QUEUE)
    await handle.signal("vendor_callback")
    await handle.signal("vendor_callback", args=[{}, {}])
    await handle.signal("vendor_callback", CANARY)
    await handle.signal("vendor_callback", raw(b"{"))
    await handle.signal("vendor_callback", {"claimed_task_id": "t-2"})
    assert await client.get_workflow_handle(workflow_id).result() == "apixo/wan-2.6/text-to-video t-2"


async def outcome(plain: Client, workflow: str, arguments: Sequence[object]) -> tuple[ApplicationError, str]:
    """How the run ended, and its last event as stored."""
    handle = await plain.start_workflow(
        workflow, args=arguments, id=f"bad/{uuid4()}", task_queue=QUEUE, execution_timeout=ENDED
    )
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert (await handle.describe()).status == WorkflowExecutionStatus.FAILED
    assert isinstance(caught.value.cause, ApplicationError)
    events = [event async for event in handle.fetch_history_events()]
    started, *others = (MessageToJson(event) for event in events)
    assert json.loads(started)["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"
    return caught.value.cause, "".join(others)
