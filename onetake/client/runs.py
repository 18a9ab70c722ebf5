"""What the client asks Temporal about runs, each as one clear answer: the messages of its service may quote us."""
# ruff: noqa: PLC0415 - the Temporal SDK takes half a second to import; `get` and `list` need it not.

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onetake.core.errors import TryLater
from onetake.engine.limits import RPC_LIMIT

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle


async def cancel_run(engine: "Client", workflow_id: str) -> bool:
    """Ask a run to end; False when there is none. Raises TryLater(`engine_unavailable`)."""
    from temporalio.service import RPCError, RPCStatusCode

    absent = False
    with engine_errors():
        try:
            await engine.get_workflow_handle(workflow_id).cancel(rpc_timeout=RPC_LIMIT)
        except RPCError as error:
            absent = error.status is RPCStatusCode.NOT_FOUND
            if not absent:
                raise
    return not absent


async def close_of(handle: "WorkflowHandle[Any, Any]") -> str:
    """Wait until the run has closed and say how. Reads no payload, so that it needs no codec key."""
    from temporalio.api.enums.v1 import EventType
    from temporalio.client import WorkflowHistoryEventFilterType

    with engine_errors(absent_is_fine=True):
        events = handle.fetch_history_events(
            wait_new_event=True, event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT
        )
        async for event in events:
            return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_WORKFLOW_EXECUTION_").lower()
    return "never started, or no longer kept by Temporal"


async def goes_on(handle: "WorkflowHandle[Any, Any]") -> bool:
    """Whether the workflow's newest run is open; False also when Temporal does not say."""
    from temporalio.client import WorkflowExecutionStatus
    from temporalio.service import RPCError

    try:
        return (await handle.describe(rpc_timeout=RPC_LIMIT)).status is WorkflowExecutionStatus.RUNNING
    except RPCError:
        return False


async def known_namespace(engine: "Client") -> None:
    """Refuse a namespace that is not there before a row is written that nobody would ever run."""
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.service import RPCError, RPCStatusCode

    try:
        request = DescribeNamespaceRequest(namespace=engine.namespace)
        await engine.workflow_service.describe_namespace(request, timeout=RPC_LIMIT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            reason = f"It has no namespace {engine.namespace!r}; check TEMPORAL_NAMESPACE."
        elif error.status is RPCStatusCode.PERMISSION_DENIED:
            return  # a key may be allowed to start workflows and nothing else
        else:
            reason = f"It answered {error.status.name}."
        raise TryLater("engine_unavailable", reason) from None


@contextmanager
def engine_errors(*, absent_is_fine: bool = False) -> Generator[None]:
    """Turn what the Temporal service answers into one clear error; its own message may quote what we sent."""
    from temporalio.service import RPCError, RPCStatusCode

    try:
        yield
    except RPCError as error:
        if absent_is_fine and error.status is RPCStatusCode.NOT_FOUND:
            return
        detail = f"It answered {error.status.name}; `onetake doctor` says what is missing."
        raise TryLater("engine_unavailable", detail) from None
