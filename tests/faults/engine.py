"""What an operator does and sees in Temporal: a run's failing activity, and its reset."""

import asyncio
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    ResetWorkflowExecutionRequest,
)

from onetake.core.contracts import GenerationResult
from tests.system.harness import LIMIT_S, Stack


async def described(stack: Stack, workflow_id: str) -> DescribeWorkflowExecutionResponse:
    engine = await stack.temporal()
    asked = DescribeWorkflowExecutionRequest(
        namespace=engine.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    return await engine.workflow_service.describe_workflow_execution(asked)


async def failing_with(stack: Stack, workflow_id: str, code: str, times: int) -> None:
    """Wait until the running activity has failed with this code, so many times."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            for each in (await described(stack, workflow_id)).pending_activities:
                if each.attempt > times and each.last_failure.application_failure_info.type == code:
                    return
            await asyncio.sleep(0.1)


async def reset_to_before(stack: Stack, workflow_id: str, activity_id: str) -> None:
    """Reset a run, as the Temporal UI does, to the workflow task that scheduled this activity."""
    engine = await stack.temporal()
    scheduled = [event.activity_task_scheduled_event_attributes for event in await stack.history(workflow_id)]
    (task,) = [each.workflow_task_completed_event_id for each in scheduled if each.activity_id == activity_id]
    await engine.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=engine.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id),
            reason="a test",
            request_id=str(uuid4()),
            workflow_task_finish_event_id=task,
        )
    )


async def result_of_run(stack: Stack, workflow_id: str) -> GenerationResult:
    """What the newest run of a workflow that completes gives back."""
    engine = await stack.temporal()
    handle = engine.get_workflow_handle(workflow_id, result_type=GenerationResult)
    async with asyncio.timeout(LIMIT_S):
        return await handle.result()
