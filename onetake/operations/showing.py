"""What a pass of the reconciler shows of the books: it is their one writer, whatever number of workers there is."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from onetake.ledger.books import Books
from onetake.ledger.database import Database
from onetake.ledger.drift import Drift, Drifts
from onetake.metrics import instruments

DRIFT_WEEKS = 2  # this one and the last, as the alarm in the log


class Showing:
    """Sets the gauges of the books."""

    def __init__(self, database: Database, tolerance_percent: Decimal) -> None:
        self._books = Books(database)
        self._drifts = Drifts(database)
        self._tolerance_percent = tolerance_percent

    async def show(self) -> None:
        """Set them to what the books say now. Raises TryLater(`ledger_unavailable`)."""
        totals, shown = await self._books.totals(), instruments()
        shown.books(totals.held_micros, totals.suspense_micros, totals.suspended, totals.oldest_s)
        shown.open(totals.open_by_phase)
        shown.vendors(totals.paused, await self._drifted())
        shown.backups(totals.backups)

    async def _drifted(self) -> dict[str, int]:
        weeks = await self._drifts.weeks(DRIFT_WEEKS)
        return drift_by_vendor([each for each in weeks if each.is_beyond(self._tolerance_percent)])


def drift_by_vendor(beyond: Sequence[Drift]) -> dict[str, int]:
    """How far the reports of each vendor are from what was expected, up or down: two routes cannot make up for each
    other."""
    drifted: Counter[str] = Counter()
    for each in beyond:
        drifted[each.route.partition("/")[0]] += abs(each.reported_micros - each.expected_micros)
    return dict(drifted)
