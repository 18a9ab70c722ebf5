"""The verb that compares what vendors report with what was expected."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import register

if TYPE_CHECKING:
    from decimal import Decimal

    from rich.console import Console

    from onetake.ledger.database import Database
    from onetake.ledger.drift import Drift


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(app, drift, "onetake drift", "onetake drift --weeks 12 --json")


def drift(
    weeks: Annotated[int, typer.Option(min=1, max=520, help="How many weeks, with this one.", metavar="N")] = 4,
) -> Answer:
    """Compare the costs that vendors report with what was held. One line a route and week, in UTC."""
    settings = environment.settings()
    tolerance = settings.drift_tolerance_percent

    async def work(database: "Database") -> "Sequence[Drift]":
        from onetake.ledger.drift import Drifts

        return await Drifts(database).weeks(weeks)

    found = with_database(work, settings)
    document = {
        "tolerance_percent": str(tolerance),
        "weeks": [
            {**each.model_dump(mode="json"), "percent": str(each.percent), "beyond": each.is_beyond(tolerance)}
            for each in found
        ],
    }
    return Answer(document, lambda console: _show(console, found, tolerance))


def _show(console: "Console", found: "Sequence[Drift]", tolerance: "Decimal") -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not found:
        say("No vendor has reported a cost in these weeks.")
        return
    table = Table("week of", "route", "reports", "expected", "reported", "drift", "", box=None, pad_edge=False)
    for each in found:
        amounts = (format_usd(each.expected_micros), format_usd(each.reported_micros))
        verdict = f"more than {tolerance.normalize():f} %" if each.is_beyond(tolerance) else ""
        table.add_row(str(each.week), each.route, str(each.count), *amounts, f"{each.percent:+} %", verdict)
    console.print(table)
