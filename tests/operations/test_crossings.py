"""The reconciler logs each crossing of a threshold once."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

from structlog.testing import capture_logs
from temporalio.client import Client

from onetake.core.contracts import ReserveInput
from onetake.core.logs import FIELDS
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.operations.reconciler import Reconciler


def said(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "budget.threshold"]


async def test_each_crossing_is_logged_by_one_pass_and_by_no_trial(
    database: Database,
    budgets: Budgets,
    ledger: PostgresLedger,
    accept: Callable[..., Awaitable[str]],
    order: Callable[..., ReserveInput],
) -> None:
    await budgets.set_budget("tenant", "acme", "month", 1000, thresholds=(50, 80))
    await ledger.reserve(order(await accept(), 850))
    await database.rows("update onetake.generation set created_at = now()")  # too young for the pass
    reconciler = Reconciler(cast("Client", SimpleNamespace()), database)
    with capture_logs() as lines:
        await reconciler.run_once(dry_run=True)
    assert said(lines) == []
    with capture_logs() as lines:
        await reconciler.run_once()
        await reconciler.run_once()
    assert [(line["percent"], line["log_level"]) for line in said(lines)] == [(50, "warning"), (80, "warning")]
    first = said(lines)[0]
    assert set(first) - {"log_level"} <= FIELDS
    assert {name: first[name] for name in ("scope", "scope_key", "period", "limit_micros", "amount_micros")} == {
        "scope": "tenant",
        "scope_key": "acme",
        "period": "month",
        "limit_micros": 1000,
        "amount_micros": 850,
    }
    assert first["starts_at"]
