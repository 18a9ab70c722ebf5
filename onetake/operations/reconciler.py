"""One pass over the ledger: what nobody serves any more is started, ended, or looked for again.

Every action is safe to repeat and to do twice at once: starts are refused by Temporal's workflow id, ends and
corrections are decided once in the database. It submits nothing and asks no vendor itself: recoveries do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from onetake.core import logs
from onetake.core.contracts import ErrorInfo, Finding, Reconciled, RecoveryRequest, SettleInput
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import OnetakeError, TryLater
from onetake.core.ids import recovery_id_of
from onetake.core.money import format_usd
from onetake.core.names import FIRST_ATTEMPT, FindingKind
from onetake.engine.limits import RPC_LIMIT
from onetake.engine.recovery import begin_recovery
from onetake.engine.starting import start_run
from onetake.ledger.database import Database
from onetake.ledger.holds import PostgresLedger
from onetake.ledger.recoveries import OpenRow, Recoveries, SuspendedRow
from workflows.options import LATE_WINDOW_S

STALE_START_S: Final = 45.0  # a client's own tries to start take 33 s; with a pass a minute a row is served within two
LEAST_STALE_S: Final = 15.0
STUCK_S: Final = 300.0
STUCK_ATTEMPTS: Final = 5
MOST_AT_ONCE: Final = 16
MOST_KNOWN_RUNS: Final = 16

WRONG_TEMPORAL: Final = (
    "unknown to Temporal, as is all else that is open or ended lately: is TEMPORAL_NAMESPACE the right one?"
)

Action = Literal["started", "expired", "settled", "recovery_started", "none"]

_log = logs.logger(__name__)


@dataclass(frozen=True)
class Run:
    """A workflow as Temporal has it. `absent`: it has none of this id, or no longer."""

    state: Literal["running", "terminated", "closed", "absent"]
    how: str = ""
    stuck: str = ""


class Reconciler:
    """Goes through all that is open or in suspense. `beat` is called for every page."""

    def __init__(self, engine: Client, database: Database, *, time_scale: float = 1.0) -> None:
        self._engine = engine
        self._records = Recoveries(database)
        self._ledger = PostgresLedger(database)
        self._scale = time_scale
        self._gate = asyncio.Semaphore(MOST_AT_ONCE)
        self._asking = asyncio.Lock()
        self._knows: bool | None = None

    async def run_once(self, *, dry_run: bool = False, beat: Callable[[], None] = lambda: None) -> Reconciled:
        """One pass. With `dry_run` it only says what it would do. A second pass finds nothing more to do.

        Raises TryLater (`engine_unavailable`, `ledger_unavailable`); what was done until then stays done.
        """
        looked_at, findings, self._knows = 0, list[Finding](), None
        stale_s = max(STALE_START_S * self._scale, LEAST_STALE_S)
        async for page in self._records.open_rows(stale_s):
            found = await asyncio.gather(*(_beating(self._open(row, dry_run), beat) for row in page))
            looked_at, findings = looked_at + len(page), findings + [each for each in found if each]
            beat()
        async for page in self._records.suspended_rows():
            found = await asyncio.gather(*(_beating(self._suspended(row, dry_run), beat) for row in page))
            looked_at, findings = looked_at + len(page), findings + [each for each in found if each]
            beat()
        for finding in findings:
            if finding.action != "none":
                _log.info("reconciled", generation_id=finding.generation_id, state=finding.kind, detail=finding.action)
        return Reconciled(looked_at=looked_at, findings=tuple(findings))

    async def stuck(self) -> list[Finding]:
        """Of the oldest generations that are open, the runs whose workflow task fails or is taken by nobody."""
        async for page in self._records.open_rows(0):
            runs = await asyncio.gather(*(self._run(row.workflow_id) for row in page))
            return [_stuck(row.id, run) for row, run in zip(page, runs, strict=True) if run.stuck]
        return []

    async def _open(self, row: OpenRow, dry_run: bool) -> Finding | None:
        run = await self._run(row.workflow_id)
        if run.state == "running":
            return _stuck(row.id, run) if run.stuck else None
        if run.state == "absent" and not await self._knows_our_runs():
            kind: FindingKind = "run_closed" if row.started else "never_started"
            return Finding(kind=kind, generation_id=row.id, found=WRONG_TEMPORAL, action="none")
        if run.state == "absent" and not row.started:
            return await self._never_started(row, dry_run)
        code = "terminated_by_operator" if run.state == "terminated" else "run_lost"
        return await self._act(
            "run_closed", row.id, f"its run is {run.how}", "settled", dry_run, lambda: self._settle(row.id, code)
        )

    async def _never_started(self, row: OpenRow, dry_run: bool) -> Finding | None:
        """A caller with a key may repeat it and means this row; one without a key was told that nothing started."""
        found = f"accepted at {row.created_at:%Y-%m-%d %H:%M:%S} UTC, never started"
        if row.request is None:
            return Finding(kind="never_started", generation_id=row.id, found=f"{found}; unreadable", action="none")
        if row.has_key and row.plan is not None and not row.cancel_requested:
            return await self._act("never_started", row.id, found, "started", dry_run, lambda: self._start(row))
        return await self._act("never_started", row.id, found, "expired", dry_run, lambda: self._records.expire(row.id))

    async def _start(self, row: OpenRow) -> None:
        assert row.request is not None
        assert row.plan is not None
        queue = row.plan.queues.base
        await start_run(self._engine, row.workflow_id, row.request, row.plan, task_queue=queue)

    async def _settle(self, generation_id: str, code: str) -> None:
        """The ledger decides about the hold: what was provably never sent is released, the rest is suspended."""
        order = SettleInput(
            generation_id=generation_id,
            attempt=FIRST_ATTEMPT,
            status="failed",
            resolution="none",
            error=ErrorInfo.of(code),
        )
        await self._ledger.settle(order)

    async def _suspended(self, row: SuspendedRow, dry_run: bool) -> Finding | None:
        amount = f"{format_usd(row.amount_micros)} in suspense since {row.resolved_at:%Y-%m-%d %H:%M:%S} UTC"
        if row.was_turned_away and not row.is_claimed:
            return await self._act("suspense", row.id, amount, "settled", dry_run, lambda: self._release(row))
        if not (row.has_task_id or row.is_claimed or row.lists_jobs):
            return _left(row, f"{amount}; {row.vendor} offers nothing to find its job by")
        run = await self._run(recovery_id_of(row.tenant, row.id))
        if run.state == "running":
            return None
        if run.state != "absent" or row.age_s > LATE_WINDOW_S * self._scale:
            return _left(row, f"{amount}; its recovery has ended ({run.how or 'too long ago'})")
        return await self._act("suspense", row.id, amount, "recovery_started", dry_run, lambda: self._recover(row))

    async def _release(self, row: SuspendedRow) -> None:
        why = "an attempt recorded after the end that the vendor took nothing"
        await self._ledger.resolve_suspense(row.id, row.attempt, to="released", who="reconciler", why=why)

    async def _recover(self, row: SuspendedRow) -> None:
        request = RecoveryRequest(
            generation_id=row.id, tenant=row.tenant, who="reconciler", why="its amount is in suspense"
        )
        await begin_recovery(self._engine, request, task_queue=row.base_queue or "")

    async def _act(
        self,
        kind: FindingKind,
        generation_id: str,
        found: str,
        action: Action,
        dry_run: bool,
        act: Callable[[], Awaitable[object]],
    ) -> Finding:
        """Do it, or say why it could not be done now: one generation's trouble is not the others'. An act that answers
        False found nothing left to do."""
        if not dry_run:
            crashpoint("reconcile.before_act")
            try:
                async with self._gate:
                    if await act() is False:
                        return Finding(
                            kind=kind, generation_id=generation_id, found=f"{found} until now", action="none"
                        )
            except (OnetakeError, RPCError) as error:
                reason = error.code if isinstance(error, OnetakeError) else error.status.name
                return Finding(kind=kind, generation_id=generation_id, found=f"{found} ({reason})", action="none")
            crashpoint("reconcile.after_act")
        return Finding(kind=kind, generation_id=generation_id, found=found, action=action)

    async def _knows_our_runs(self) -> bool:
        """Whether this Temporal can be the one that runs what this ledger records. Pointed at another one, where every
        run is unknown, a pass would end all that is healthy; so an absent run counts only beside one that is there."""
        async with self._asking:
            if self._knows is None:
                known = await self._records.known_runs(MOST_KNOWN_RUNS)
                runs = await asyncio.gather(*(self._run(each) for each in known))
                self._knows = not runs or any(run.state != "absent" for run in runs)
            return self._knows

    async def _run(self, workflow_id: str) -> Run:
        async with self._gate:
            try:
                description = await self._engine.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_LIMIT)
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND and not _lacks_namespace(error):
                    return Run("absent", "unknown to Temporal")
                raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None
        match description.status:
            case None | WorkflowExecutionStatus.RUNNING | WorkflowExecutionStatus.CONTINUED_AS_NEW:
                return Run("running", stuck=self._stuck(description))
            case WorkflowExecutionStatus.TERMINATED:
                return Run("terminated", "terminated")
            case status:
                return Run("closed", status.name.lower())

    def _stuck(self, description: WorkflowExecutionDescription) -> str:
        task = description.raw_description.pending_workflow_task
        if task.attempt >= STUCK_ATTEMPTS:
            return f"its workflow task has failed {task.attempt - 1} times; its code and its history disagree, or a bug"
        scheduled = task.original_scheduled_time.ToDatetime(UTC)
        if task.attempt and datetime.now(UTC) - scheduled > timedelta(seconds=STUCK_S * self._scale):
            return f"no worker has taken its workflow task since {scheduled:%Y-%m-%d %H:%M:%S} UTC"
        return ""


async def _beating(work: Awaitable[Finding | None], beat: Callable[[], None]) -> Finding | None:
    finding = await work
    beat()
    return finding


def _lacks_namespace(error: RPCError) -> bool:
    return any(each.Is(NamespaceNotFoundFailure.DESCRIPTOR) for each in error.grpc_status.details)


def _stuck(generation_id: str, run: Run) -> Finding:
    return Finding(kind="stuck", generation_id=generation_id, found=run.stuck, action="none")


def _left(row: SuspendedRow, found: str) -> Finding:
    return Finding(kind="suspense", generation_id=row.id, found=found, action="none")
