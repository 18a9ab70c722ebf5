"""After a failover of the database: every run of Temporal is held against its row; what is missing is written again.

The end of one run alone is written by `Ends`. A run that is under way writes what it needs by itself, when it needs it.
Until then its generation cannot be found, and one that had ended is never looked at again by its run: both are mended
from their histories. It asks no vendor.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError

from onetake.core import logs
from onetake.core.contracts import Finding, GenerationResult, Reconciled, RestoreInput, SettleInput
from onetake.core.errors import OnetakeError, TryLater
from onetake.core.names import FIRST_ATTEMPT, GENERATION_WORKFLOW, Resolution
from onetake.engine.told import Told, told_by
from onetake.ledger.database import Database, Row
from onetake.ledger.epochs import Epochs
from onetake.ledger.holds import PostgresLedger

PAGE: Final = 500
LOOK_BACK: Final = timedelta(days=7)  # runs that ended before had their end recorded long before any failover

_ROWS: Final = """
select g.workflow_id, g.phase = 'done' as ended,
       exists (select from onetake.hold h where h.generation_id = g.id) as held
from onetake.generation g where g.workflow_id = any($1)
"""

_log = logs.logger(__name__)


@dataclass(frozen=True)
class _Run:
    workflow_id: str
    is_open: bool
    is_known: bool = False
    is_held: bool = False

    def lacks_anything(self, order: RestoreInput, told: Told) -> bool:
        """Whoever waits for its reservation has a row, and no hold yet."""
        return (
            not self.is_known
            or (order.epoch is not None and not self.is_held)
            or (not self.is_open and told.result is not None)
        )


class Ends:
    """Writes the ends of runs that have closed, as their histories tell them."""

    def __init__(self, engine: Client, database: Database) -> None:
        self._engine = engine
        self._epochs = Epochs(database)
        self._ledger = PostgresLedger(database)

    async def settle(self, workflow_id: str) -> bool:
        """Settle one as its run was answered; False when its history tells of no settlement. Repeatable.

        Raises RPCError, and OnetakeError (`settings_invalid` without the codec's key, `ledger_unavailable`)."""
        told = await told_by(self._engine, workflow_id)
        order = known_by(workflow_id, told)
        if order is None or told.result is None:
            return False
        await self.write(order, told.result)
        return True

    async def write(self, order: RestoreInput, result: GenerationResult | None) -> tuple[str, ...]:
        """Write what is missing, and the end where there is one; the names of what was missing."""
        was_lost = (await self._epochs.restore(order)).was_lost
        if result is None:
            return was_lost
        await self._ledger.settle(_settlement(order, result))
        return (*was_lost, "end")


class AfterFailover:
    """Goes through the runs of generations that are open, or have ended since then."""

    def __init__(self, engine: Client, database: Database, look_back: timedelta = LOOK_BACK) -> None:
        self._engine = engine
        self._database = database
        self._ends = Ends(engine, database)
        self._look_back = look_back

    async def run_once(self, *, dry_run: bool = False) -> Reconciled:
        """One pass. With `dry_run` it only says what is missing. A second pass finds nothing more to do.

        Raises TryLater (`engine_unavailable`, `ledger_unavailable`); what was done until then stays done.
        """
        looked_at, findings = 0, list[Finding]()
        async for page in self._pages():
            looked_at += len(page)
            for run in await self._doubtful(page):
                findings += [finding] if (finding := await self._mended(run, dry_run=dry_run)) else []
        return Reconciled(looked_at=looked_at, findings=tuple(findings))

    async def _pages(self) -> AsyncIterator[list[_Run]]:
        since = (datetime.now(UTC) - self._look_back).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = f"WorkflowType = '{GENERATION_WORKFLOW}' AND (ExecutionStatus = 'Running' OR CloseTime >= '{since}')"
        listed = self._engine.list_workflows(query, page_size=PAGE)
        try:
            while True:
                await listed.fetch_next_page(page_size=PAGE)
                if listed.current_page:
                    yield [_run_of(each) for each in listed.current_page]
                if not listed.next_page_token:
                    return
        except RPCError as error:
            raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None

    async def _doubtful(self, page: Sequence[_Run]) -> list[_Run]:
        """The runs whose row or hold is missing, and those that have ended while their row has not."""
        rows = await self._database.rows(_ROWS, [run.workflow_id for run in page])
        known: dict[str, Row] = {row["workflow_id"]: row for row in rows}
        return [_beside(run, row) for run in page if _is_doubtful(run, row := known.get(run.workflow_id))]

    async def _mended(self, run: _Run, *, dry_run: bool) -> Finding | None:
        """None when nothing was missing. One run's trouble is not the others'."""
        try:
            return await self._written(run, await told_by(self._engine, run.workflow_id), dry_run=dry_run)
        except (OnetakeError, RPCError) as error:
            reason = error.code if isinstance(error, OnetakeError) else error.status.name
            _log.warning("reconciled", state="lost", workflow_id=run.workflow_id, code=reason)
            found = f"{run.workflow_id}: what its history tells cannot be read or written ({reason})"
            return Finding(kind="lost", found=found, action="none")

    async def _written(self, run: _Run, told: Told, *, dry_run: bool) -> Finding | None:
        order = known_by(run.workflow_id, told)
        if order is None or not run.lacks_anything(order, told):
            return None
        if dry_run:
            return _finding(order, "its records are incomplete", "restored")
        was_lost = await self._ends.write(order, None if run.is_open else told.result)
        if not was_lost:
            return None
        _log.warning("reconciled", generation_id=order.generation_id, state="lost", detail=", ".join(was_lost))
        return _finding(order, f"lost: {', '.join(was_lost)}", "restored")


def _beside(run: _Run, row: Row | None) -> _Run:
    return replace(run, is_known=row is not None, is_held=row is not None and row["held"])


def _run_of(execution: WorkflowExecution) -> _Run:
    return _Run(execution.id, execution.status is WorkflowExecutionStatus.RUNNING)


def _is_doubtful(run: _Run, row: Row | None) -> bool:
    return row is None or (not row["ended"] and (not run.is_open or not row["held"]))


def known_by(workflow_id: str, told: Told) -> RestoreInput | None:
    """What is to be written; None of a run that has no plan yet, or was refused before it had one."""
    if told.request is None or told.validated is None or told.validated.plan is None:
        return None
    return RestoreInput(
        generation_id=told.validated.generation_id,
        attempt=FIRST_ATTEMPT,
        workflow_id=workflow_id,
        plan=told.validated.plan,
        request=told.request,
        epoch=told.reserved.epoch if told.reserved else None,
        submission=told.submission,
        vendor_task_id=told.vendor_task_id,
    )


def _settlement(order: RestoreInput, result: GenerationResult) -> SettleInput:
    resolution = _resolution_of(order, result)
    return SettleInput.model_validate(
        {
            "generation_id": order.generation_id,
            "attempt": order.attempt,
            "tenant": order.request.tenant,
            "status": result.status,
            "resolution": resolution,
            "actual_micros": result.cost.settled_micros if resolution == "post" else None,
            "basis": result.cost.basis,
            "error": result.error,
            "assets": result.assets,
            "warnings": result.warnings,
            "vendor_task_id": result.vendor_task_id,
            "epoch": order.epoch,
            "submission": order.submission,
        }
    )


def _resolution_of(order: RestoreInput, result: GenerationResult) -> Resolution:
    if order.epoch is None:
        return "none"
    if result.cost.suspense_micros:
        return "suspend"
    return "post" if result.cost.settled_micros or result.status == "completed" else "release"


def _finding(order: RestoreInput, found: str, action: str) -> Finding:
    given = {"kind": "lost", "generation_id": order.generation_id, "found": found, "action": action}
    return Finding.model_validate(given)
