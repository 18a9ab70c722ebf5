"""Budgets: policies that people set, and the balances of their open windows."""

from datetime import datetime

from onetake.core.contracts import Value
from onetake.core.errors import Refused
from onetake.core.names import Period, Scope
from onetake.ledger.database import Database


class BudgetBalance(Value):
    """One budget in its open window. `available_micros` is the limit less what is held and spent; below zero when a
    vendor charged more than was held or the limit was lowered, and `overrun_micros` says by how much."""

    scope: Scope
    key: str
    period: Period
    time_zone: str
    limit_micros: int
    held_micros: int
    spent_micros: int
    overrun_micros: int
    available_micros: int
    starts_at: datetime | None
    ends_at: datetime | None


class Budgets:
    """What the command line does with budgets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_budget(
        self, scope: Scope, key: str, period: Period, limit_micros: int, *, time_zone: str = "UTC"
    ) -> None:
        """Make or change a limit; holds and spending of the open window stay. Repeatable.

        The key of a user or a feature is `TENANT/NAME`. A new budget counts from now on. In another time zone a new
        window starts. Raises Refused(`usage`).
        """
        if scope in ("user", "feature") and "/" not in key.strip("/"):
            raise Refused("usage", f"The key of a {scope} budget is TENANT/{scope.upper()}.")
        if limit_micros < 0:
            raise Refused("usage", "A limit cannot be below zero.")
        known = await self._database.row("select from pg_timezone_names where name = $1", time_zone)
        if known is None:
            raise Refused("usage", f"There is no time zone {time_zone!r}.")
        await self._database.row(
            "select onetake.set_budget($1, $2, $3, $4, $5)", scope, key, period, limit_micros, time_zone
        )

    async def show_budgets(self) -> list[BudgetBalance]:
        """Every budget with the balances of its open window; zeros where nothing used it yet."""
        rows = await self._database.rows(
            "select to_jsonb(b)::text as balance from onetake.budget_balance b order by scope, key, period"
        )
        return [BudgetBalance.model_validate_json(row["balance"]) for row in rows]
