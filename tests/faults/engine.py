"""What an operator does and sees in Temporal: a run's failing activity, and its reset."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    ResetWorkflowExecutionRequest,
)

from onetake.core.contracts import GenerationResult
from tests.replay.commands import local_step
from tests.system.harness import LIMIT_S, Stack


async def described(stack: Stack, workflow_id: str) -> DescribeWorkflowExecutionResponse:
    engine = await stack.temporal()
    asked = DescribeWorkflowExecutionRequest(
        namespace=engine.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    return await engine.workflow_service.describe_workflow_execution(asked, retry=True)


async def pending(stack: Stack, workflow_id: str, name: str) -> None:
    """Wait until an activity of this name is scheduled and has not ended."""
    async with asyncio.timeout(LIMIT_S):
        while name not in [each.activity_type.name for each in await _pending(stack, workflow_id)]:
            await asyncio.sleep(0.1)


async def _pending(stack: Stack, workflow_id: str) -> Sequence[PendingActivityInfo]:
    return (await described(stack, workflow_id)).pending_activities


async def failing_with(stack: Stack, workflow_id: str, code: str, times: int) -> None:
    """Wait until the running activity has failed with this code, so many times."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for each in await _pending(stack, workflow_id):
                if each.attempt > times and each.last_failure.application_failure_info.type == code:
                    return
            await asyncio.sleep(0.1)


async def reset_to_before(stack: Stack, workflow_id: str, step: str) -> None:
    """Reset a run, as the Temporal UI does, to the task of its workflow that scheduled this activity or did this step;
    one that did not succeed in its own task stands in the history twice."""
    engine = await stack.temporal()
    task = next(task for event in await stack.history(workflow_id) if (task := _task_of(event, step)))
    await engine.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=engine.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            reason="a test",
            request_id=str(uuid4()),
            workflow_task_finish_event_id=task,
        ),
        retry=True,
    )


def _task_of(event: HistoryEvent, step: str) -> int:
    if local_step(event) == step:
        return event.marker_recorded_event_attributes.workflow_task_completed_event_id
    scheduled = event.activity_task_scheduled_event_attributes
    return scheduled.workflow_task_completed_event_id if scheduled.activity_id == step else 0


async def result_of_run(stack: Stack, workflow_id: str) -> GenerationResult:
    """What the newest run of a workflow that completes gives back."""
    engine = await stack.temporal()
    handle = engine.get_workflow_handle(workflow_id, result_type=GenerationResult)
    async with asyncio.timeout(LIMIT_S):
        return await handle.result()
