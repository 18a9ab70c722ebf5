"""What the books hold now, in one statement: the reconciler's pass shows it as gauges."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from onetake.ledger.database import Database

_TOTALS: Final = """
with kept as (
    select coalesce(sum(amount_micros) filter (where state = 'held'), 0)::bigint as held_micros,
        coalesce(sum(amount_micros) filter (where state = 'suspended'), 0)::bigint as suspense_micros,
        count(*) filter (where state = 'suspended') as suspended,
        coalesce(extract(epoch from clock_timestamp() - min(resolved_at) filter (where state = 'suspended')),
            0)::float8 as oldest_s
    from onetake.hold where state in ('held', 'suspended')
), open as (
    select phase::text, count(*) as number, extract(epoch from clock_timestamp() - min(updated_at))::float8 as age_s
    from onetake.generation where status in ('queued', 'in_progress') group by phase
)
select kept.*,
    (select coalesce(array_agg(phase order by phase), '{}') from open) as phases,
    (select coalesce(array_agg(number order by phase), '{}') from open) as numbers,
    (select coalesce(array_agg(age_s order by phase), '{}') from open) as ages_s,
    array(select distinct vendor from onetake.circuit where paused_code is not null order by vendor) as paused,
    (select coalesce(array_agg(kind order by kind), '{}') from onetake.backup) as backups,
    (select coalesce(array_agg(extract(epoch from ended_at)::float8 order by kind), '{}')
        from onetake.backup) as backups_ended_at
from kept
"""


@dataclass(frozen=True)
class Totals:
    """Micro-USD held and in suspense, open generations by phase with the age of the longest unchanged one in seconds,
    the paused vendors, and when backups ended in Unix seconds."""

    held_micros: int
    suspense_micros: int
    suspended: int
    oldest_s: float
    open_by_phase: Mapping[str, tuple[int, float]]
    paused: frozenset[str]
    backups: Mapping[str, float]


class Books:
    """Reads the totals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def totals(self) -> Totals:
        """All of them at one moment. Raises TryLater(`ledger_unavailable`)."""
        row = await self._database.answer(_TOTALS)
        return Totals(
            held_micros=row["held_micros"],
            suspense_micros=row["suspense_micros"],
            suspended=row["suspended"],
            oldest_s=row["oldest_s"],
            open_by_phase=dict(zip(row["phases"], zip(row["numbers"], row["ages_s"], strict=True), strict=True)),
            paused=frozenset(row["paused"]),
            backups=dict(zip(row["backups"], row["backups_ended_at"], strict=True)),
        )
