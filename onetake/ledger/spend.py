"""Reports of spend, from the rollup that every booking writes; no journal is read for them."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Final

from onetake.core.contracts import Value
from onetake.core.errors import Refused
from onetake.core.names import SpendDays, SpendGroup
from onetake.ledger.database import Database

_KEYS: Final[dict[SpendGroup, str]] = {
    "day": "{day}::text",
    "tenant": "tenant",
    "user": "tenant || '/' || user_key",
    "feature": "tenant || '/' || feature",
    "route": "route",
    "vendor": "vendor",
    "model": "model",
}
_DAYS: Final[dict[SpendDays, str]] = {"utc": "day", "tenant": "local_day"}
# A tenant's day is at most one day away from the day in UTC, by which rows are found.
_REPORT: Final = """
select {key} as key,
       sum(generations)::bigint as generations,
       coalesce(sum(generations) filter (where status_class = 'completed'), 0)::bigint as completed,
       coalesce(sum(generations) filter (where status_class = 'failed'), 0)::bigint as failed,
       coalesce(sum(generations) filter (where status_class = 'canceled'), 0)::bigint as canceled,
       sum(delivered_ms)::bigint as delivered_ms, sum(held_micros)::bigint as held_micros,
       sum(released_micros)::bigint as released_micros, sum(overrun_micros)::bigint as overrun_micros,
       sum(corrected_micros)::bigint as corrected_micros,
       sum(posted_micros + overrun_micros + decided_posted_micros + corrected_micros)::bigint as cost_micros,
       sum(suspended_micros - decided_micros)::bigint as suspense_micros
from onetake.spend
where day between $1::date - 1 and $2::date + 1 and {day} between $1::date and $2::date
  and ($3::text is null or tenant = $3) and ($4::text is null or user_key = $4)
  and ($5::text is null or feature = $5) and ($6::text is null or route = $6) and ($7::text is null or vendor = $7)
group by 1
"""


class SpendQuery(Value):
    """What a report is about: the days from `first` to `last`, both included, in UTC or in each tenant's calendar."""

    first: date
    last: date
    by: SpendGroup = "day"
    days: SpendDays = "utc"
    tenant: str | None = None
    user: str | None = None
    feature: str | None = None
    route: str | None = None
    vendor: str | None = None


class SpendRow(Value):
    """What was booked on the days of a report for one key, or in total.

    `generations` have ended: completed, failed and canceled ones together. The cost is what was charged: posted, above
    the hold, decided out of suspense, and corrected. `suspense_micros` is what went into suspense less what left it, so
    it is below zero when more was decided than suspended on these days. Users and features are `TENANT/NAME`, with an
    empty name for what named none.
    """

    key: str
    generations: int = 0
    completed: int = 0
    failed: int = 0
    canceled: int = 0
    delivered_ms: int = 0
    held_micros: int = 0
    released_micros: int = 0
    overrun_micros: int = 0
    corrected_micros: int = 0
    cost_micros: int = 0
    suspense_micros: int = 0

    @property
    def cost_per_second_micros(self) -> int | None:
        """What a delivered second cost, rounded to a micro; None when nothing was delivered."""
        return round(self.cost_micros * 1000 / self.delivered_ms) if self.delivered_ms > 0 else None

    @property
    def failed_share(self) -> float | None:
        """The share of failures in all that ended, from 0 to 1; None when nothing ended, and when more failures of
        earlier days were corrected than generations failed."""
        return self.failed / self.generations if self.generations > 0 and self.failed >= 0 else None


class SpendReport(Value):
    """The rows of a report, days in their order and all else by cost, and their total."""

    query: SpendQuery
    rows: tuple[SpendRow, ...]
    total: SpendRow


class Spend:
    """What the command line asks about spend."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, query: SpendQuery) -> SpendReport:
        """Count the days of a period by one column. Amounts in micros of a US dollar, delivered time in milliseconds.

        Raises Refused(`usage`) for a period that ends before it begins.
        """
        if query.first > query.last:
            raise Refused("usage", f"The period ends on {query.last}, before it begins on {query.first}.")
        day = _DAYS[query.days]
        filters = (query.tenant, query.user, query.feature, query.route, query.vendor)
        rows = await self._database.rows(
            _REPORT.format(key=_KEYS[query.by].format(day=day), day=day), query.first, query.last, *filters
        )
        found = [SpendRow.model_validate(dict(row)) for row in rows]
        found.sort(key=lambda row: row.key if query.by == "day" else (-row.cost_micros, row.key))
        return SpendReport(query=query, rows=tuple(found), total=total_of(found))


def total_of(rows: Iterable[SpendRow], key: str = "total") -> SpendRow:
    """The sums of all columns."""
    sums = dict.fromkeys(SpendRow.model_fields.keys() - {"key"}, 0)
    for row in rows:
        for name in sums:
            sums[name] += getattr(row, name)
    return SpendRow.model_validate({"key": key, **sums})


def every_day(report: SpendReport) -> Sequence[SpendRow]:
    """The rows of a report by day, with an empty one for each day on which nothing was booked."""
    known = {row.key: row for row in report.rows}
    first, last = report.query.first, report.query.last
    days = [str(first + timedelta(days=number)) for number in range((last - first).days + 1)]
    return [known.get(day, SpendRow(key=day)) for day in days]
