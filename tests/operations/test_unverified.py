"""A clip that is stored and cannot be read is shown to operators while it waits."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowExecutionStatus

from onetake.ledger import Database
from onetake.operations.reconciler import Reconciler

Accept = Callable[..., Awaitable[str]]


class Waiting:
    """A Temporal where every run has an activity that failed three times with this code."""

    def __init__(self, code: str) -> None:
        pending = PendingActivityInfo(activity_id="persist-1", attempt=4)
        pending.last_failure.application_failure_info.type = code
        raw = DescribeWorkflowExecutionResponse(pending_activities=[pending])
        self._description = SimpleNamespace(status=WorkflowExecutionStatus.RUNNING, raw_description=raw)

    def get_workflow_handle(self, _: str) -> "Waiting":
        return self

    async def describe(self, **_: object) -> SimpleNamespace:
        return self._description


async def test_a_clip_that_cannot_be_read_is_told_with_its_tries(database: Database, accept: Accept) -> None:
    generation_id = await accept()
    (finding,) = await Reconciler(cast("Client", Waiting("asset_unverified")), database).stuck()
    assert (finding.generation_id, finding.kind, finding.action) == (generation_id, "stuck", "none")
    assert "3 tries could not read it" in finding.found


async def test_another_failure_is_not(database: Database, accept: Accept) -> None:
    await accept()
    assert await Reconciler(cast("Client", Waiting("storage_unavailable")), database).stuck() == []
