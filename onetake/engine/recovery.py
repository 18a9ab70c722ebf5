"""Starting the second, small workflow that looks again for the job of a generation that has ended."""

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from onetake.core.contracts import Recovered, RecoveryRequest, WakeSignal
from onetake.core.ids import recovery_id_of
from onetake.core.names import RECOVERY_WORKFLOW, WAKE_SIGNAL
from onetake.engine.limits import RPC_LIMIT


async def begin_recovery(
    client: Client, request: RecoveryRequest, *, task_queue: str, wake: WakeSignal | None = None
) -> WorkflowHandle[object, Recovered]:
    """Start the recovery of a generation, or join the one that runs; a `wake` makes it look at once.

    One at a time: the workflow id is the generation's. Repeatable. Raises RPCError.
    """
    return await client.start_workflow(
        RECOVERY_WORKFLOW,
        request,
        id=recovery_id_of(request.tenant, request.generation_id),
        task_queue=task_queue,
        result_type=Recovered,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"look again for the job of {request.generation_id}: {request.why}"[:200],
        start_signal=WAKE_SIGNAL if wake else None,
        start_signal_args=[wake] if wake else [],
        rpc_timeout=RPC_LIMIT,
    )
