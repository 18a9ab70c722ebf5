"""One pass over the ledger, on behalf of the schedule."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import Reconciled, ReconcileInput

MOST_FINDINGS = 100  # in a history, which holds hundreds of passes; those that were acted on first


class Pass(Protocol):
    """What goes through the ledger."""

    def run_once(self, *, dry_run: bool = False, beat: Callable[[], None] = ...) -> Awaitable[Reconciled]: ...


class Reconciling:
    """Runs a pass. Repeatable: what an earlier attempt did is found done."""

    def __init__(self, reconciler: Pass, every_s: float) -> None:
        """`every_s` is how often a pass is made, which the run learns from each pass."""
        self._reconciler = reconciler
        self._every_s = every_s

    @activity.defn(name=names.RECONCILE)
    async def reconcile(self, order: ReconcileInput) -> Reconciled:
        """Close what is stale. Raises TryLater when the database or Temporal is away."""
        reconciled = await self._reconciler.run_once(dry_run=order.dry_run, beat=activity.heartbeat)
        telling = sorted(reconciled.findings, key=lambda finding: finding.action == "none")
        shown = {"findings": tuple(telling[:MOST_FINDINGS]), "found": len(telling), "every_s": self._every_s}
        return reconciled.model_copy(update=shown)
