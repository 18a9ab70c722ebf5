"""Budgets: policies that people set, and the balances of their open windows."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from onetake.core.contracts import Value
from onetake.core.errors import Refused
from onetake.core.names import Period, Scope
from onetake.ledger.database import STATEMENT_TIMEOUT_S, Database
from onetake.ledger.tenants import check_tenant_of, check_zone

DEFAULT_THRESHOLDS: Final = (50, 80, 100)
PAGE: Final = 5000
POLL_S: Final = 0.02
# The database ends every statement of ours at the timeout. A transaction that is open for longer reserves nothing.
LONGEST_RESERVATION_S: Final = STATEMENT_TIMEOUT_S + 1.0

# Every transaction holds the lock on its own virtual id from before its first snapshot until after its commit is seen.
_OPEN_TRANSACTIONS: Final = """
select l.virtualxid from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'virtualxid' and l.granted and a.datname = current_database() and l.pid <> pg_backend_pid()
  and a.backend_type is distinct from 'autovacuum worker'
"""
_COUNT: Final = "select * from onetake.count_holds($1, $2, $3, $4)"


class BudgetBalance(Value):
    """One budget in its open window. `available_micros` is the limit less what is held and spent; below zero when a
    vendor charged more than was held, the limit was lowered or more was in use when it was set, and `overrun_micros`
    says by how much. `reached_percent` is the highest threshold that the window has reached, 0 for none: once reached,
    it stays. `ends_at` is when the window starts again; None for a total."""

    scope: Scope
    key: str
    period: Period
    time_zone: str
    thresholds: tuple[int, ...]
    limit_micros: int
    held_micros: int
    spent_micros: int
    overrun_micros: int
    available_micros: int
    reached_percent: int
    starts_at: datetime | None
    ends_at: datetime | None


class Crossing(Value):
    """A threshold that a window has reached, with what was held and spent of which limit then. `starts_at` is when the
    window began; None for a total."""

    scope: Scope
    scope_key: str
    period: Period
    percent: int
    used_micros: int
    limit_micros: int
    starts_at: datetime | None
    reached_at: datetime


class Budgets:
    """What the command line does with budgets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_budget(
        self,
        scope: Scope,
        key: str,
        period: Period,
        limit_micros: int,
        *,
        time_zone: str = "UTC",
        thresholds: Sequence[int] = DEFAULT_THRESHOLDS,
    ) -> None:
        """Make or change a limit; holds and spending of the open window stay. Repeatable.

        The key of a user or a feature is `TENANT/NAME`. A new budget, and one in another time zone, counts the holds
        that were reserved since its open window began; the limit applies before they are counted. When this is cut off
        in between, a repeat counts the rest. Reservations never wait for it; it waits for those under way, up to 11 s.
        Crossings of
        the thresholds, percentages of the limit, are recorded once a window. Raises Refused(`usage`).
        """
        check_key(scope, key)
        if not all(1 <= percent <= 100 for percent in thresholds):
            raise Refused("usage", "A threshold is a whole number of percent, from 1 to 100.")
        if limit_micros < 0:
            raise Refused("usage", "A limit cannot be below zero.")
        await check_zone(self._database, time_zone)
        row = await self._database.answer(
            "select onetake.set_budget($1, $2, $3, $4, $5, $6) as uncounted",
            scope,
            key,
            period,
            limit_micros,
            time_zone,
            sorted(set(thresholds)),
        )
        if row["uncounted"]:
            await self._wait_for_earlier()
        for window_id in row["uncounted"]:
            await self._count(window_id)

    async def remove_budget(self, scope: Scope, key: str, period: Period) -> None:
        """Remove a limit. Holds, the journal and the balances of its windows stay. Raises Refused(`usage`) when there
        is none."""
        removed = await self._database.row(
            """update onetake.budget set removed_at = now()
            where scope = $1 and scope_key = $2 and period = $3 and removed_at is null returning id""",
            scope,
            key,
            period,
        )
        if removed is None:
            raise Refused("usage", f"There is no {period} budget of {scope} {key}; `onetake budget show` lists all.")

    async def show_budgets(self) -> list[BudgetBalance]:
        """Every budget with the balances of its open window; zeros where nothing used it yet."""
        rows = await self._database.rows(
            "select to_jsonb(b)::text as balance from onetake.budget_balance b order by scope, key, period"
        )
        return [BudgetBalance.model_validate_json(row["balance"]) for row in rows]

    async def take_crossings(self, limit: int) -> list[Crossing]:
        """The oldest crossings that nobody has taken yet, each once. Whoever takes them logs them."""
        rows = await self._database.rows("select * from onetake.take_thresholds($1)", limit)
        return [Crossing.model_validate(dict(row)) for row in rows]

    async def seen(self, scope: Scope, key: str) -> bool:
        """Whether a generation has this key."""
        row = await self._database.answer(
            """select exists (select from onetake.generation g where onetake.key_of($1, g) = $2
            and ($1 in ('route', 'vendor') or g.tenant = split_part($2, '/', 1))) as seen""",
            scope,
            key,
        )
        return row["seen"]

    async def recent_keys(self, scope: Scope) -> Sequence[str]:
        """The keys of the ten thousand newest generations, without repeats."""
        rows = await self._database.rows(
            """select distinct onetake.key_of($1, g) as key
            from (select * from onetake.generation order by created_at desc, id desc limit 10000) g
            where onetake.key_of($1, g) is not null order by key""",
            scope,
        )
        return [row["key"] for row in rows]

    async def _wait_for_earlier(self) -> None:
        """Return when every transaction that may have read the budgets before now has ended."""
        earlier = [row["virtualxid"] for row in await self._database.rows(_OPEN_TRANSACTIONS)]
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_RESERVATION_S):
                while earlier:
                    await asyncio.sleep(POLL_S)
                    rows = await self._database.rows(f"{_OPEN_TRANSACTIONS} and l.virtualxid = any ($1)", earlier)
                    earlier = [row["virtualxid"] for row in rows]

    async def _count(self, window_id: int) -> None:
        after: tuple[str, int] = ("", 0)
        while True:
            row = await self._database.answer(_COUNT, window_id, *after, PAGE)
            if row["last_id"] is None:
                return
            after = (row["last_id"], row["last_attempt"])


def check_key(scope: Scope, key: str) -> None:
    """Raises Refused(`usage`) for a key that cannot belong to the scope."""
    tenant, slash, name = key.partition("/")
    if scope in ("user", "feature") and not (tenant and slash and name):
        raise Refused("usage", f"The key of a {scope} budget is TENANT/{scope.upper()}.")
    if not key.strip():
        raise Refused("usage", "A budget needs a key.")
    check_tenant_of(scope, key)
