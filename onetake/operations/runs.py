"""What Temporal says of runs: each is described, until there are many; then those that its list shows as running are
only described in turn, for a list is late and says nothing of a run that is stuck."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from onetake.core import logs
from onetake.core.errors import TryLater
from onetake.core.names import GENERATION_WORKFLOW
from onetake.engine.limits import RPC_LIMIT
from onetake.ledger.recoveries import OpenRow

MOST_AT_ONCE: Final = 16
MOST_LOOKS: Final = 200  # in a pass, at runs that the list shows as running
MOST_FAILURES: Final = 16  # in a row: then Temporal is away, and not one run hard to read
STUCK_S: Final = 300.0
STUCK_ATTEMPTS: Final = 5
LIST_PAGE: Final = 1000
RUNNING: Final = f'WorkflowType = "{GENERATION_WORKFLOW}" AND ExecutionStatus = "Running"'

_log = logs.logger(__name__)


@dataclass(frozen=True)
class Run:
    """A workflow as Temporal has it. `absent`: it has none of this id, or no longer. `canceling`: it was asked to
    end."""

    state: Literal["running", "terminated", "closed", "absent"]
    how: str = ""
    stuck: str = ""
    canceling: bool = False


class EngineAway(TryLater):
    """Temporal answers nobody: a pass ends here, instead of saying so of every row."""

    def __init__(self, status: str) -> None:
        super().__init__("engine_unavailable", f"It answered {status}.")


class Runs:
    """Asks Temporal about runs, some at a time. One for all passes of a reconciler: it knows whose turn it is."""

    def __init__(self, engine: Client, *, time_scale: float) -> None:
        self._engine = engine
        self._stuck_s = STUCK_S * time_scale
        self._gate = asyncio.Semaphore(MOST_AT_ONCE)
        self._failures = 0
        self._left = MOST_LOOKS
        self._looked_until: tuple[datetime, str] | None = None
        self._turn_begins_after: tuple[datetime, str] | None = None
        self._listed: frozenset[str] | None = None

    def begin_pass(self) -> None:
        """Whoever had no turn in the last pass is looked at in this one."""
        self._turn_begins_after = self._looked_until if not self._left else None
        self._left, self._looked_until, self._listed, self._failures = MOST_LOOKS, None, None, 0

    async def to_look_at(self, page: Sequence[OpenRow]) -> list[OpenRow]:
        """Of a page of open rows, the oldest first, those whose run has to be described: Temporal does not list it as
        running, it may have to be told something, or it is its turn. All of them, when Temporal gives no list."""
        if len(page) < self._left and self._turn_begins_after is None:
            self._left -= len(page)
            return list(page)
        listed = await self._running()
        return [
            row
            for row in page
            if row.cancel_requested or row.workflow_id not in listed or self._has_its_turn((row.created_at, row.id))
        ]

    def _has_its_turn(self, place: tuple[datetime, str]) -> bool:
        if not self._left or (self._turn_begins_after is not None and place <= self._turn_begins_after):
            return False
        self._left, self._looked_until = self._left - 1, place
        return True

    async def _running(self) -> frozenset[str]:
        """The workflow ids of all generations that Temporal lists as running, asked for once a pass."""
        if self._listed is None:
            try:
                listing = self._engine.list_workflows(RUNNING, page_size=LIST_PAGE, rpc_timeout=RPC_LIMIT)
                self._listed = frozenset([each.id async for each in listing])
            except RPCError as error:
                _log.warning("runs_not_listed", code="engine_unavailable", detail=error.status.name)
                self._listed = frozenset()
        return self._listed

    async def look(self, workflow_id: str) -> Run:
        """Describe one run. Raises TryLater(`engine_unavailable`), and EngineAway when nothing answers any more."""
        async with self._gate:
            try:
                description = await self._engine.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_LIMIT)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND and not _lacks_namespace(error):
                    self._failures = 0
                    return Run("absent", "unknown to Temporal")
                self._failures += 1
                if self._failures >= MOST_FAILURES or error.status is RPCStatusCode.NOT_FOUND:
                    raise EngineAway(error.status.name) from None
                raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None
        self._failures = 0
        return self._run_of(description)

    async def cancel(self, workflow_id: str) -> None:
        """Ask a run to end. Repeatable. Raises RPCError."""
        await self._engine.get_workflow_handle(workflow_id).cancel(rpc_timeout=RPC_LIMIT)

    def _run_of(self, description: WorkflowExecutionDescription) -> Run:
        match description.status:
            case None | WorkflowExecutionStatus.RUNNING | WorkflowExecutionStatus.CONTINUED_AS_NEW:
                canceling = description.raw_description.workflow_extended_info.cancel_requested
                return Run("running", stuck=self._stuck(description), canceling=canceling)
            case WorkflowExecutionStatus.TERMINATED:
                return Run("terminated", "terminated")
            case status:
                return Run("closed", status.name.lower())

    def _stuck(self, description: WorkflowExecutionDescription) -> str:
        task = description.raw_description.pending_workflow_task
        if task.attempt >= STUCK_ATTEMPTS:
            return f"its workflow task has failed {task.attempt - 1} times; its code and its history disagree, or a bug"
        for pending in description.raw_description.pending_activities:
            if pending.last_failure.application_failure_info.type == "asset_unverified":
                return f"its clip is stored, and {pending.attempt - 1} tries could not read it: media workers lack room"
        scheduled = task.original_scheduled_time.ToDatetime(UTC)
        if task.attempt and datetime.now(UTC) - scheduled > timedelta(seconds=self._stuck_s):
            return f"no worker has taken its workflow task since {scheduled:%Y-%m-%d %H:%M:%S} UTC"
        return ""


def _lacks_namespace(error: RPCError) -> bool:
    return any(each.Is(NamespaceNotFoundFailure.DESCRIPTOR) for each in error.grpc_status.details)
