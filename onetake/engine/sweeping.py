"""Starting the workflow that sweeps the bucket, once a day."""

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from onetake.core.contracts import SweepInput
from onetake.core.names import SWEEP_WORKFLOW
from onetake.engine.limits import RPC_LIMIT

RUN_LIMIT: Final = timedelta(hours=12)


async def begin_sweep(client: Client, *, task_queue: str) -> None:
    """Start the sweep of this day (UTC), unless somebody has. Repeatable: the workflow id holds the day. Raises
    RPCError."""
    try:
        await client.start_workflow(
            SWEEP_WORKFLOW,
            SweepInput(),
            id=f"sweep/{task_queue}/{datetime.now(UTC):%Y-%m-%d}",
            task_queue=task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            execution_timeout=RUN_LIMIT,
            static_summary="remove copies of clips that no manifest has named for two days",
            rpc_timeout=RPC_LIMIT,
        )
    except WorkflowAlreadyStartedError:
        return
