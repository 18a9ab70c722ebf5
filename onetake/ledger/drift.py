"""Drift: what vendors report that jobs cost, against what was expected, by route and week. Read from the rollup."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Final

from onetake.core.contracts import Value
from onetake.ledger.database import Database

WEEKS: Final = 4  # this one and three before

_WEEKS: Final = """
select route, date_trunc('week', day)::date as week, sum(reported_count)::bigint as count,
       sum(reported_held_micros)::bigint as expected_micros, sum(reported_micros)::bigint as reported_micros
from onetake.spend
where day >= date_trunc('week', (onetake.clock() at time zone 'UTC')::date)::date - 7 * ($1::int - 1)
group by 1, 2 having sum(reported_count) > 0 order by 2 desc, 1
"""
_TAKE: Final = """
insert into onetake.drift_alarm (route, week, day) values ($1, $2, (onetake.clock() at time zone 'UTC')::date)
on conflict do nothing returning true
"""


class Drift(Value):
    """One route in one week that begins with `week`, a Monday in UTC: how many charges the vendor reported, what had
    been held for them, and what the reports came to."""

    route: str
    week: date
    count: int
    expected_micros: int
    reported_micros: int

    @property
    def percent(self) -> Decimal:
        """How much more than expected was reported, in percent of what was expected; below zero for less."""
        difference = Decimal(self.reported_micros - self.expected_micros)
        return (difference * 100 / self.expected_micros).quantize(Decimal("0.1"))

    def is_beyond(self, tolerance_percent: Decimal) -> bool:
        """Whether the difference is more than so many percent, in either direction."""
        difference = abs(self.reported_micros - self.expected_micros)
        return difference * 100 > tolerance_percent * self.expected_micros

    def __str__(self) -> str:
        return f"{self.route} in the week of {self.week}: {self.percent:+} % of {self.count}"


class Drifts:
    """What the command line, doctor and the reconciler ask about drift."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def weeks(self, number: int = WEEKS) -> Sequence[Drift]:
        """Every route and week with reports, the newest week first; this week counts as one."""
        return [Drift.model_validate(dict(row)) for row in await self._database.rows(_WEEKS, number)]

    async def take_alarms(self, tolerance_percent: Decimal) -> Sequence[Drift]:
        """What is beyond the tolerance in this week and the last one; each route and week once a day, whoever asks."""
        beyond = [each for each in await self.weeks(2) if each.is_beyond(tolerance_percent)]
        return [each for each in beyond if await self._database.row(_TAKE, each.route, each.week) is not None]
