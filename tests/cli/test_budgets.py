"""The verbs for budgets, on a database alone."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from onetake.core.contracts import ReserveInput
from onetake.ledger import PostgresLedger
from tests.cli.processes import Finished, bare_environment, run

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]


def test_budgets_are_set_with_a_warning_shown_and_removed(database_url: str, tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=database_url)

    def budget(*words: str) -> tuple[int, dict[str, object], str]:
        finished = run("budget", *words, "--json", env=env, cwd=tmp_path)
        return finished.code, finished.document, finished.stderr

    code, document, told = budget("set", "vendor", "apixoo", "day", "2.50", "--time-zone", "Asia/Tokyo")
    assert (code, document["time_zone"]) == (0, "Asia/Tokyo")
    assert "'apixo'" in str(document["warning"])
    assert str(document["warning"]) in told
    assert budget("set", "vendor", "apixo", "total", "1")[1]["warning"] is None
    assert "No generation" in str(budget("set", "tenant", "nobody", "total", "1")[1]["warning"])
    code, document, _ = budget("set", "vendor", "apixo", "total", "7", "--time-zone", "Asia/Tokio")
    assert code == 2
    assert "Asia/Tokyo" in str(document["error"])

    shown = run("budget", "show", env=env, cwd=tmp_path).stdout
    assert [line.split()[1] for line in shown.splitlines()] == ["key", "nobody", "apixo", "apixoo"]
    assert "Asia/Tokyo" in shown
    assert "$7.00" not in shown
    assert budget("remove", "vendor", "apixoo", "day")[0] == 0
    code, document, _ = budget("remove", "vendor", "apixoo", "day")
    assert code == 2
    assert "no day budget of vendor apixoo" in str(document["error"])


async def test_a_budget_that_is_made_after_money_was_held_says_what_is_used_and_left(
    database_url: str, tmp_path: Path, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await ledger.reserve(order(await accept(), amount_micros=500_000))
    words = ("budget", "set", "tenant", "acme", "total", "2")

    def told(*more: str) -> Finished:
        return run(*words, *more, env=bare_environment(ONETAKE_DATABASE_URL=database_url), cwd=tmp_path)

    balance = (await asyncio.to_thread(told, "--json")).document["balance"]
    assert (balance["held_micros"], balance["available_micros"]) == (500_000, 1_500_000)
    shown = (await asyncio.to_thread(told)).stdout
    assert "tenant acme: $2.00 in total; $0.50 of its window is held or spent, $1.50 is left" in " ".join(shown.split())
