"""A tenant's account in one month of its calendar: every entry of the journal, and the balances before and after it.

The opening balances come from the rollup of spend. Those of a month that is over are compared with the rollup at its
end, so that a statement proves itself.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from difflib import get_close_matches
from typing import Any, Final, Literal

from onetake.core.contracts import Value
from onetake.core.errors import Failed, Refused
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import Database, Row

SPAN: Final = 20_000  # entries of all tenants that one query looks at
SETTLING: Final = timedelta(
    minutes=5
)  # entries of transactions that were under way at the month's end are there by then

Kind = Literal["hold", "post", "release", "overrun", "suspense", "review", "suspense_resolved", "correction"]

_PERIOD: Final = """
select onetake.zone_of($1, $2) as time_zone, onetake.month_start($1, $2) as starts_at,
       onetake.month_start($1, $3) as ends_at,
       greatest(onetake.month_start($1, $3), $3::timestamp at time zone 'UTC') as over_at, now() as at
"""
_BALANCES: Final = """
select coalesce(sum(held_micros - posted_micros - released_micros - suspended_micros), 0)::bigint as held_micros,
       coalesce(sum(suspended_micros - decided_micros), 0)::bigint as suspense_micros
from onetake.spend where tenant = $1 and local_day < $2
"""
# Fenced, or the planner would look for the first entry of the month by walking over all that are older.
_SPANNED: Final = """
select min(id) as first, max(id) as last
from (select id from onetake.event where at >= $1 and at < $2 offset 0) booked
"""
_LINES: Final = """
select e.id, e.at, e.at at time zone $4 - e.at at time zone 'UTC' as utc_offset, e.generation_id, e.attempt, g.route,
       g.user_key, g.feature, e.kind, e.amount_micros, h.amount_micros as held_micros, h.price_version, h.unit,
       date_trunc('month', onetake.day_of(g.tenant, h.created_at))::date as belongs_to,
       e.detail ->> 'who' as who, e.detail ->> 'why' as why
from onetake.event e join onetake.generation g on g.id = e.generation_id
join onetake.hold h on h.generation_id = e.generation_id and h.attempt = e.attempt
where e.id >= $5 and e.id < $6 and e.at >= $2 and e.at < $3 and g.tenant = $1 order by e.id
"""


@dataclass(frozen=True)
class Period:
    """One month of a tenant's calendar. `as_of` is the moment of the statement while the month is not over; None
    afterwards, when nothing of it changes any more."""

    tenant: str
    month: date
    time_zone: str
    starts_at: datetime
    ends_at: datetime
    as_of: datetime | None

    @property
    def until(self) -> datetime:
        """The moment before which the statement's entries were booked: never one of the next month."""
        return min(self.as_of or self.ends_at, self.ends_at)


class Line(Value):
    """One entry, with the balances after it. `charged_micros` counts from the month's first moment. `belongs_to` is the
    month in which its hold was made, where that is another one."""

    entry: int
    at: datetime
    generation_id: str
    attempt: int
    route: str
    user: str | None
    feature: str | None
    kind: Kind
    amount_micros: int
    price_version: str
    price: str
    belongs_to: date | None
    who: str | None
    why: str | None
    held_micros: int
    suspense_micros: int
    charged_micros: int


@dataclass
class Account:
    """The running balances: what is held, what is in suspense, and what was charged since the month began; and the sum
    of each kind of entry. `decided_micros` left suspense, `suspense_resolved` of it was charged."""

    held_micros: int
    suspense_micros: int
    charged_micros: int = 0
    entries: int = 0
    decided_micros: int = 0
    totals: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, kind: Kind, amount_micros: int, hold_micros: int) -> None:
        """Book one entry; `hold_micros` is its hold's amount, which a decision takes out of suspense."""
        self.entries += 1
        self.totals[kind] = self.totals.get(kind, 0) + amount_micros
        match kind:
            case "hold":
                self.held_micros += amount_micros
            case "post":
                self.held_micros -= amount_micros
                self.charged_micros += amount_micros
            case "release":
                self.held_micros -= amount_micros
            case "suspense":
                self.held_micros -= amount_micros
                self.suspense_micros += amount_micros
            case "suspense_resolved":
                self.suspense_micros -= hold_micros
                self.decided_micros += hold_micros
                self.charged_micros += amount_micros
            case "overrun" | "correction":
                self.charged_micros += amount_micros
            case "review":
                pass  # it records a figure and moves nothing


class AccountStatements:
    """Reads statements. It changes nothing, and no query of it reads more than some thousand entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def period(self, tenant: str, month: date) -> Period:
        """The month that begins with this day. Raises Refused(`usage`) for a tenant without generations and for a month
        that has not begun."""
        await self._require(tenant)
        row = await self._database.answer(_PERIOD, tenant, month, _next(month))
        if row["at"] < row["starts_at"]:
            raise Refused("usage", f"The month {month:%Y-%m} has not begun.")
        is_over = row["at"] > row["over_at"] + SETTLING
        return Period(tenant, month, row["time_zone"], row["starts_at"], row["ends_at"], None if is_over else row["at"])

    async def opening(self, period: Period) -> Account:
        """The balances just before the month."""
        return await self._balances(period.tenant, period.month)

    async def lines(self, period: Period, account: Account) -> AsyncIterator[Line]:
        """The month's entries in the order in which they were booked; `account` is moved from its opening along with
        them. Raises Failed(`internal_error`) at the end of a month that is over when they do not add up."""
        spanned = await self._database.answer(_SPANNED, period.starts_at, period.until)
        first, last = spanned["first"] or 0, spanned["last"] or -1
        for start in range(first, last + 1, SPAN):
            bounds = (period.starts_at, period.until, period.time_zone, start, min(start + SPAN, last + 1))
            for row in await self._database.rows(_LINES, period.tenant, *bounds):
                account.take(row["kind"], row["amount_micros"], row["held_micros"])
                yield _line(row, period, account)
        if period.as_of is None:
            await self._prove(period, account)

    async def _prove(self, period: Period, account: Account) -> None:
        closing = await self._balances(period.tenant, _next(period.month))
        if (closing.held_micros, closing.suspense_micros) != (account.held_micros, account.suspense_micros):
            raise Failed(
                "internal_error", f"The entries of {period.month:%Y-%m} do not add up to its closing balances."
            )

    async def _balances(self, tenant: str, before: date) -> Account:
        row = await self._database.answer(_BALANCES, tenant, before)
        return Account(row["held_micros"], row["suspense_micros"])

    async def _require(self, tenant: str) -> None:
        budgets = Budgets(self._database)
        if not await budgets.seen("tenant", tenant):
            near = get_close_matches(tenant, await budgets.recent_keys("tenant"), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise Refused("usage", f"There is no generation of a tenant {tenant!r}.{hint}")


def _next(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)


def _line(row: Row, period: Period, account: Account) -> Line:
    fields: Mapping[str, Any] = {
        name: row[name]
        for name in ("generation_id", "attempt", "route", "feature", "kind", "amount_micros", "who", "why")
    }
    return Line(
        entry=row["id"],
        at=row["at"].astimezone(timezone(row["utc_offset"])),
        user=row["user_key"],
        price_version=row["price_version"],
        price=row["unit"],
        belongs_to=row["belongs_to"] if row["belongs_to"] != period.month else None,
        held_micros=account.held_micros,
        suspense_micros=account.suspense_micros,
        charged_micros=account.charged_micros,
        **fields,
    )
