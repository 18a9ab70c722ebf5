"""Encrypted payloads in histories: with which keys of the codec they were written, and for which namespace."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client

from onetake.engine.codec import ENCODING
from onetake.engine.limits import RPC_LIMIT

FIRST_EVENTS: Final = 20  # with the first activity of a run among them


async def keys_of_run(client: Client, workflow_id: str) -> frozenset[str]:
    """The names of the codec's keys with which the run's first payloads were written. Raises RPCError."""
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id),
        maximum_page_size=FIRST_EVENTS,
    )
    found = await client.workflow_service.get_workflow_execution_history(request, timeout=RPC_LIMIT)
    return keys_of(found.history.events)


def keys_of(events: Iterable[HistoryEvent]) -> frozenset[str]:
    """The names of the codec's keys with which the payloads in these events were written."""
    return frozenset(each.metadata["key"].decode("ascii", "replace") for each in _encrypted(events))


def namespace_of(events: Iterable[HistoryEvent]) -> str:
    """The namespace that encrypted payloads are bound to; "" when none is."""
    return next((each.metadata["namespace"].decode("utf-8", "replace") for each in _encrypted(events)), "")


def _encrypted(events: Iterable[HistoryEvent]) -> Iterator[Payload]:
    payloads = (payload for event in events for payload in _payloads_in(event))
    return (payload for payload in payloads if payload.metadata["encoding"] == ENCODING)


def _payloads_in(message: Message) -> Iterator[Payload]:
    """Every payload in a message, wherever it stands."""
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            found: list[Any] = list(value.values())
        else:
            found = list(value) if field.is_repeated else [value]
        for each in found:
            if isinstance(each, Message):
                yield from _payloads_in(each)
