"""Starting the workflow of a generation whose row is written: by the client, and by the reconciler after it."""

# ruff: noqa: PLC0415 - the Temporal SDK takes half a second to import; a client that only reads needs none of it

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.errors import Failed, TryLater
from onetake.core.money import format_usd
from onetake.core.names import GENERATION_WORKFLOW, SearchAttribute
from onetake.engine.limits import RPC_LIMIT
from workflows.details import in_cell, table_of

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.common import TypedSearchAttributes

FAIRNESS_BYTES: Final = 64
SUMMARY_BYTES: Final = 200
START_TRIES: Final = 3
START_RETRY_S: Final = 1.0
# Answers that say that this try started nothing.
REFUSED_STARTS: Final = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "UNIMPLEMENTED",
}
# A refusal that the SDK itself tried again: what the tries before it said is not known.
REPEATED_BY_THE_SDK: Final = "RESOURCE_EXHAUSTED"


class StartRefused(TryLater):
    """Temporal cannot take this start as it is: `INVALID_ARGUMENT`. The same start is refused until Temporal's own
    settings change."""


async def start_run(
    engine: "Client", workflow_id: str, request: GenerationRequest, plan: Plan, *, task_queue: str
) -> None:
    """Start the workflow. Repeating is safe: one workflow id runs once. An answer that is lost is asked for again,
    for a caller who is told "try later" without an id would start, and pay for, a second generation.

    Raises TryLater(`engine_unavailable`) when nothing was started, and Failed(`start_outcome_unknown`) when nobody
    knows: once the answer to a try was lost, a refusal of the next one says nothing about it.
    """
    from temporalio.service import RPCError

    is_unknown = False
    for _ in range(START_TRIES):
        try:
            await _start(engine, workflow_id, request, plan, task_queue)
        except RPCError as error:
            status = error.status.name
        else:
            return
        if status not in REFUSED_STARTS:
            is_unknown = True
        elif not is_unknown and (status != REPEATED_BY_THE_SDK or await _is_there(engine, workflow_id) is False):
            refused = StartRefused if status == "INVALID_ARGUMENT" else TryLater
            raise refused("engine_unavailable", f"It answered {status}.")
        await asyncio.sleep(START_RETRY_S)
    if not await _is_there(engine, workflow_id):
        raise Failed("start_outcome_unknown", f"Its workflow id is {workflow_id}.")


async def _start(engine: "Client", workflow_id: str, request: GenerationRequest, plan: Plan, task_queue: str) -> None:
    from temporalio.common import Priority, WorkflowIDReusePolicy
    from temporalio.exceptions import WorkflowAlreadyStartedError

    with suppress(WorkflowAlreadyStartedError):
        await engine.start_workflow(
            GENERATION_WORKFLOW,
            request,
            id=workflow_id,
            task_queue=task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            search_attributes=_search_attributes(request, plan),
            static_summary=summary_of(request, plan),
            static_details=details_of(workflow_id, request, plan),
            priority=Priority(fairness_key=fairness_key_of(request, plan)),
            rpc_timeout=RPC_LIMIT,
        )


async def _is_there(engine: "Client", workflow_id: str) -> bool | None:
    """Whether Temporal has a run of this id; None when it does not say."""
    from temporalio.service import RPCError, RPCStatusCode

    try:
        await engine.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_LIMIT)
    except RPCError as error:
        return False if error.status is RPCStatusCode.NOT_FOUND else None
    return True


def summary_of(request: GenerationRequest, plan: Plan) -> str:
    """One line for a list of runs: route, seconds, resolution, who pays, price; at most 200 bytes, never the prompt."""
    price = format_usd(plan.price.amount_micros)
    line = f"{plan.route} · {plan.duration_s} s · {plan.resolution} · {request.tenant} · {price}"
    return line.encode()[:SUMMARY_BYTES].decode(errors="ignore")


def fairness_key_of(request: GenerationRequest, plan: Plan) -> str:
    """Who takes turns with the others where tasks wait for workers: a tenant at a vendor; at most 64 bytes."""
    return f"{plan.vendor}/{request.tenant}".encode()[:FAIRNESS_BYTES].decode(errors="ignore")


def details_of(workflow_id: str, request: GenerationRequest, plan: Plan) -> str:
    """What an operator reads before anything has happened, as Markdown; never the prompt."""
    generation_id = workflow_id.rpartition("/")[2]
    price = f"{format_usd(plan.price.amount_micros)} ({plan.price.unit}, table {plan.price.table_version})"
    rows = {
        "Generation": f"`{generation_id}`",
        "Route": f"`{plan.route}`",
        "Clip": f"{plan.duration_s} s, {plan.resolution}",
        "Tenant": f"`{request.tenant}`",
        "Price": in_cell(price),
        "Deadline": f"{plan.deadline_s:g} s after the vendor accepted it",
    }
    return f"{table_of(rows.items())}\n\n`onetake get {generation_id}` · `onetake ledger {generation_id}`"


def _search_attributes(request: GenerationRequest, plan: Plan) -> "TypedSearchAttributes":
    from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

    values = {
        SearchAttribute.TENANT: request.tenant,
        SearchAttribute.VENDOR: plan.vendor,
        SearchAttribute.ROUTE: plan.route,
        SearchAttribute.DAY: datetime.now(UTC).date().isoformat(),
    }
    pairs = [SearchAttributePair(SearchAttributeKey.for_keyword(name), value) for name, value in values.items()]
    return TypedSearchAttributes(pairs)
