"""One pass over the ledger: what nobody serves any more is started, ended, or looked for again.

Every action is safe to repeat and to do twice at once: starts are refused by Temporal's workflow id, ends and
corrections are decided once in the database. It submits nothing and asks no vendor itself: recoveries do.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Final, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from onetake.core import logs
from onetake.core.contracts import AgedSuspense, ErrorInfo, Finding, Reconciled, RecoveryRequest, SettleInput
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import OnetakeError
from onetake.core.ids import recovery_id_of
from onetake.core.money import format_usd
from onetake.core.names import FIRST_ATTEMPT, FindingKind, ReconcileAction
from onetake.engine.measuring import count_end
from onetake.engine.recovery import begin_recovery
from onetake.engine.starting import StartRefused, start_run
from onetake.engine.sweeping import begin_sweep
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import Database
from onetake.ledger.drift import Drifts
from onetake.ledger.holds import PostgresLedger
from onetake.ledger.passes import Passes
from onetake.ledger.quotes import PostgresQuotes
from onetake.ledger.recoveries import OpenRow, Recoveries, SuspendedRow
from onetake.metrics import instruments
from onetake.operations.failover import Ends
from onetake.operations.runs import MOST_AT_ONCE, MOST_LOOKS, EngineAway, Run, Runs
from onetake.operations.showing import Showing
from workflows.options import LATE_WINDOW_S

STALE_START_S: Final = 45.0  # a client's own tries to start take 43 s; with a pass a minute a row is served within two
LEAST_STALE_S: Final = 15.0
UNSTARTABLE_S: Final = 3600.0  # what Temporal, or today's program, refuses for so long is never going to start
MOST_KNOWN_RUNS: Final = 16

WRONG_TEMPORAL: Final = (
    "unknown to Temporal, as is all else that is open or ended lately: is TEMPORAL_NAMESPACE the right one?"
)

MOST_CROSSINGS: Final = 500  # a page
DRIFT_TOLERANCE_PERCENT: Final = Decimal(5)
CROSSING_FIELDS: Final = {"scope", "scope_key", "period", "percent", "limit_micros", "starts_at"}

Found = TypeVar("Found", bound=Finding | SuspendedRow | None)
REPLACED_ACTIONS: Final = frozenset[ReconcileAction]({"started", "expired"})

_log = logs.logger(__name__)


class Reconciler:
    """Goes through all that is open or in suspense. `beat` is called for every page."""

    def __init__(
        self,
        engine: Client,
        database: Database,
        *,
        sweep_from: str | None = None,
        time_scale: float = 1.0,
        drift_tolerance_percent: Decimal = DRIFT_TOLERANCE_PERCENT,
    ) -> None:
        self._engine = engine
        self._records = Recoveries(database)
        self._ledger = PostgresLedger(database)
        self._ends = Ends(engine, database)
        self._budgets = Budgets(database)
        self._quotes = PostgresQuotes(database)
        self._drifts = Drifts(database)
        self._drift_tolerance_percent = drift_tolerance_percent
        self._showing = Showing(database, drift_tolerance_percent)
        self._scale = time_scale
        self._passes = Passes(database)
        self._runs = Runs(engine, time_scale=time_scale)
        self._sweep_from = sweep_from
        self._sweep_begun: date | None = None
        self._gate = asyncio.Semaphore(MOST_AT_ONCE)
        self._asking = asyncio.Lock()
        self._knows: bool | OnetakeError | None = None

    async def run_once(self, *, dry_run: bool = False, beat: Callable[[], None] = lambda: None) -> Reconciled:
        """One pass. With `dry_run` it only says what it would do. A second pass finds nothing more to do.

        What fails costs its own row, or its own part of the pass: the others are done. Then it raises the first
        failure of a part, TryLater (`engine_unavailable`, `ledger_unavailable`), and notes it for `onetake doctor`.
        """
        self._knows = None
        self._runs.begin_pass()
        told, failures = _Told(), list[OnetakeError]()
        parts: list[Callable[[], Awaitable[None]]] = [
            partial(self._go_through_open, told, dry_run, beat),
            partial(self._go_through_suspense, told, dry_run, beat),
        ]
        if not dry_run:
            parts += [self._log_crossings, self._log_drift, self._forget_quotes, self._begin_sweep, self._show]
        for part in parts:
            try:
                await part()
            except OnetakeError as error:
                failures.append(error)
            beat()
        findings = (*told.findings, *_aged(told.aged))
        for finding in findings:
            if finding.action != "none":
                _log.info("reconciled", generation_id=finding.generation_id, state=finding.kind, detail=finding.action)
        if not dry_run:
            await self._passes.note(looked_at=told.looked_at, found=len(findings), error=_worst(failures))
        if failures:
            raise failures[0]
        if not dry_run:
            instruments().passed(time.time(), [finding.kind for finding in findings])
        return Reconciled(looked_at=told.looked_at, findings=findings)

    async def _go_through_open(self, told: "_Told", dry_run: bool, beat: Callable[[], None]) -> None:
        async for page in self._records.open_rows(max(STALE_START_S * self._scale, LEAST_STALE_S)):
            rows = await self._runs.to_look_at(page)
            works = (_of_its_own(row, self._open(row, dry_run), beat) for row in rows)
            told.take(len(page), await asyncio.gather(*works))
            beat()

    async def _go_through_suspense(self, told: "_Told", dry_run: bool, beat: Callable[[], None]) -> None:
        async for page in self._records.suspended_rows():
            works = (_of_its_own(row, self._suspended(row, dry_run), beat) for row in page)
            told.take(len(page), await asyncio.gather(*works))
            beat()

    async def _forget_quotes(self) -> None:
        await self._quotes.forget()

    async def _log_crossings(self) -> None:
        """Say of each threshold once that a budget has reached it."""
        while crossings := await self._budgets.take_crossings(MOST_CROSSINGS):
            for each in crossings:
                _log.warning(
                    "budget.threshold",
                    **each.model_dump(mode="json", include=CROSSING_FIELDS),
                    amount_micros=each.used_micros,
                )

    async def _log_drift(self) -> None:
        """Say once a day of each route that its vendor's reports have left what was expected."""
        for each in await self._drifts.take_alarms(self._drift_tolerance_percent):
            _log.warning("price.drift", route=each.route, detail=str(each), count=each.count)

    async def _begin_sweep(self) -> None:
        """Begin the sweep of the bucket once a day, where this pass serves a queue. What fails is tried next time."""
        today = datetime.now(UTC).date()
        if self._sweep_from is None or self._sweep_begun == today:
            return
        try:
            await begin_sweep(self._engine, task_queue=self._sweep_from)
            self._sweep_begun = today
        except RPCError as error:
            _log.warning("sweep_not_begun", code="engine_unavailable", detail=error.status.name)

    async def _show(self) -> None:
        """What fails here has moved no money: it fails no pass."""
        try:
            await self._showing.show()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the gauges, the pass has done its work
            _log.warning("books_not_shown", error_type=type(error).__name__, detail=str(error))

    async def stuck(self) -> list[Finding]:
        """Of the oldest generations that are open, the runs whose workflow task fails or is taken by nobody."""
        async for page in self._records.open_rows(0):
            rows = page[:MOST_LOOKS]
            runs = await asyncio.gather(*(self._runs.look(row.workflow_id) for row in rows))
            return [_stuck(row.id, run) for row, run in zip(rows, runs, strict=True) if run.stuck]
        return []

    async def _open(self, row: OpenRow, dry_run: bool) -> Finding | None:
        run = await self._runs.look(row.workflow_id)
        if run.state == "running":
            if row.cancel_requested and not run.canceling:
                return await self._undelivered(row, dry_run)
            return _stuck(row.id, run) if run.stuck else None
        if run.state == "absent" and not await self._knows_our_runs():
            kind: FindingKind = "run_closed" if row.started else "never_started"
            return Finding(kind=kind, generation_id=row.id, found=WRONG_TEMPORAL, action="none")
        if run.state == "absent" and not row.started:
            return await self._never_started(row, dry_run)
        code = "terminated_by_operator" if run.state == "terminated" else "run_lost"
        return await self._act(
            "run_closed", row.id, f"its run is {run.how}", "settled", dry_run, lambda: self._end(row, run, code)
        )

    async def _undelivered(self, row: OpenRow, dry_run: bool) -> Finding:
        """Who asked for its end died, or Temporal refused, before the run was told."""
        found = "its cancellation was noted and has not reached its run"
        cancel = partial(self._runs.cancel, row.workflow_id)
        return await self._act("cancel_undelivered", row.id, found, "canceled", dry_run, cancel)

    async def _never_started(self, row: OpenRow, dry_run: bool) -> Finding | None:
        """A caller with a key may repeat it and means this row; one without a key was told that nothing started."""
        found = f"accepted at {row.created_at:%Y-%m-%d %H:%M:%S} UTC, never started"
        if row.request is None and not self._is_hopeless(row):
            return Finding(kind="never_started", generation_id=row.id, found=f"{found}; unreadable", action="none")
        if row.has_key and row.request is not None and row.plan is not None and not row.cancel_requested:
            return await self._act("never_started", row.id, found, "started", dry_run, lambda: self._start(row))
        return await self._act("never_started", row.id, found, "expired", dry_run, lambda: self._records.expire(row.id))

    async def _start(self, row: OpenRow) -> ReconcileAction | bool:
        """Start it; a start that Temporal has refused for long, as it stands, is given up."""
        assert row.request is not None
        assert row.plan is not None
        queue = row.plan.queues.base
        try:
            await start_run(self._engine, row.workflow_id, row.request, row.plan, task_queue=queue)
        except StartRefused:
            if not self._is_hopeless(row):
                raise
            return "expired" if await self._records.expire(row.id) else False
        return "started"

    def _is_hopeless(self, row: OpenRow) -> bool:
        return row.age_s > max(UNSTARTABLE_S * self._scale, LEAST_STALE_S)

    async def _end(self, row: OpenRow, run: Run, code: str) -> None:
        """A run that has closed by itself was answered by its settlement, whose commit a failover lost."""
        if run.state == "closed" and await self._ends.settle(row.workflow_id):
            return
        await self._settle(row, code)

    async def _settle(self, row: OpenRow, code: str) -> None:
        """The ledger decides about the hold: what was provably never sent is released, the rest is suspended."""
        order = SettleInput(
            generation_id=row.id,
            attempt=FIRST_ATTEMPT,
            tenant=row.tenant,
            status="failed",
            resolution="none",
            error=ErrorInfo.of(code),
        )
        count_end(await self._ledger.settle(order))

    async def _suspended(self, row: SuspendedRow, dry_run: bool) -> Finding | SuspendedRow | None:
        """What is done about it. The row itself comes back when it is left to people and old."""
        amount = f"{format_usd(row.amount_micros)} in suspense since {row.resolved_at:%Y-%m-%d %H:%M:%S} UTC"
        if row.was_turned_away and not row.is_claimed:
            return await self._act("suspense", row.id, amount, "settled", dry_run, lambda: self._release(row))
        if reason := _for_people(row):
            return row if self._is_aged(row) else _left(row, f"{amount}; {reason}")
        run = await self._runs.look(recovery_id_of(row.tenant, row.id))
        if run.state == "running":
            return None
        if self._is_aged(row):
            return row
        if run.state != "absent":
            return _left(row, f"{amount}; its recovery has ended ({run.how})")
        return await self._act("suspense", row.id, amount, "recovery_started", dry_run, lambda: self._recover(row))

    def _is_aged(self, row: SuspendedRow) -> bool:
        return row.age_s > LATE_WINDOW_S * self._scale

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
        action: ReconcileAction,
        dry_run: bool,
        act: Callable[[], Awaitable[object]],
    ) -> Finding:
        """Do it, or say why it could not be done now: one generation's trouble is not the others'. An act that answers
        False found nothing left to do; one that answers an action did that one instead."""
        if not dry_run:
            crashpoint("reconcile.before_act")
            try:
                async with self._gate:
                    done = await act()
            except (OnetakeError, RPCError) as error:
                reason = error.code if isinstance(error, OnetakeError) else error.status.name
                return Finding(kind=kind, generation_id=generation_id, found=f"{found} ({reason})", action="none")
            crashpoint("reconcile.after_act")
            if done is False:
                return Finding(kind=kind, generation_id=generation_id, found=f"{found} until now", action="none")
            action = done if done in REPLACED_ACTIONS else action
        return Finding(kind=kind, generation_id=generation_id, found=found, action=action)

    async def _knows_our_runs(self) -> bool:
        """Whether this Temporal can be the one that runs what this ledger records. Pointed at another one, where every
        run is unknown, a pass would end all that is healthy; so an absent run counts only beside one that is there."""
        async with self._asking:
            if self._knows is None:
                try:
                    self._knows = await self._knows_any()
                except OnetakeError as error:  # it is as true for the next row, and took its time to say so
                    self._knows = error
            if isinstance(self._knows, OnetakeError):
                raise self._knows
            return self._knows

    async def _knows_any(self) -> bool:
        known = await self._records.known_runs(MOST_KNOWN_RUNS)
        runs = await asyncio.gather(*(self._runs.look(each) for each in known))
        return not runs or any(run.state != "absent" for run in runs)


@dataclass
class _Told:
    """What the parts of a pass have found so far."""

    looked_at: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    aged: list[SuspendedRow] = field(default_factory=list[SuspendedRow])

    def take(self, looked_at: int, found: Sequence[Finding | SuspendedRow | None]) -> None:
        self.looked_at += looked_at
        self.findings += [each for each in found if isinstance(each, Finding)]
        self.aged += [each for each in found if isinstance(each, SuspendedRow)]


async def _of_its_own(row: OpenRow | SuspendedRow, work: Awaitable[Found], beat: Callable[[], None]) -> Found | Finding:
    """One row's trouble is a finding about that row; only when Temporal answers nobody, the part ends."""
    try:
        return await work
    except EngineAway:
        raise
    except OnetakeError as error:
        found = f"it could not be looked at: {error}"
        return Finding(kind="not_looked_at", generation_id=row.id, found=found, action="none")
    finally:
        beat()


def _worst(failures: Sequence[OnetakeError]) -> str | None:
    return f"{failures[0].code}: {failures[0]}" if failures else None


def _stuck(generation_id: str, run: Run) -> Finding:
    return Finding(kind="stuck", generation_id=generation_id, found=run.stuck, action="none")


def _for_people(row: SuspendedRow) -> str:
    """Why no recovery can help; empty when one may."""
    if row.reported_micros is not None:
        return f"the vendor reports {format_usd(row.reported_micros)}; onetake suspense resolve decides"
    if row.task_id or row.is_claimed or row.lists_jobs:
        return ""
    return f"{row.vendor} offers nothing to find its job by"


def _left(row: SuspendedRow, found: str) -> Finding:
    return Finding(kind="suspense", generation_id=row.id, found=found, action="none")


def _aged(rows: Sequence[SuspendedRow]) -> list[Finding]:
    """One finding a vendor: what is old would otherwise hide what is new, pass after pass."""
    return [
        _aged_at(vendor, [row for row in rows if row.vendor == vendor])
        for vendor in sorted({row.vendor for row in rows})
    ]


def _aged_at(vendor: str, rows: Sequence[SuspendedRow]) -> Finding:
    oldest, total = max(rows, key=lambda row: row.age_s), sum(row.amount_micros for row in rows)
    many = "amount" if len(rows) == 1 else "amounts"
    return Finding(
        kind="suspense",
        aged=AgedSuspense(vendor=vendor, count=len(rows), amount_micros=total, oldest_at=oldest.resolved_at),
        found=f"{len(rows)} {many} too old for a recovery, {format_usd(total)} in all, the oldest in suspense for "
        f"{oldest.age}; onetake suspense list --vendor {vendor} names them",
        action="none",
    )
