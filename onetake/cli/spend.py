"""The verb that reports spend: a table, CSV, bars in the terminal, or a picture."""

# ruff: noqa: PLC0415 - `--help` stays fast

import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import OfTenant, one_of, register, vendor_of
from onetake.cli.sheets import cell, refuse_one_file
from onetake.core.errors import Refused
from onetake.core.names import SPEND_DAYS, SPEND_GROUPS, SpendDays

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.database import Database
    from onetake.ledger.spend import SpendQuery, SpendReport, SpendRow

BEHIND_UTC: Final = timedelta(hours=12)  # where a day begins last, and where first
AHEAD_OF_UTC: Final = timedelta(hours=14)


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(
        app,
        spend,
        "onetake spend",
        "onetake spend --from 2026-11-01 --to 2026-11-30 --by tenant",
        "onetake spend --tenant acme --days tenant --chart",
        "onetake spend --by route --csv november.csv --png november.png",
    )


def spend(  # noqa: PLR0917 - one parameter an option
    first: Annotated[
        str | None, typer.Option("--from", help="The first day; without it, the first of this month.", metavar="DAY")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="The last day, included; without it, today.", metavar="DAY")
    ] = None,
    by: Annotated[str, typer.Option(help=f"One row for each {', '.join(SPEND_GROUPS)}.", metavar="WHAT")] = "day",
    days: Annotated[
        str, typer.Option(help="utc, or tenant: the days of each tenant's time zone.", metavar="WHOSE")
    ] = "utc",
    tenant: OfTenant = None,
    user: Annotated[str | None, typer.Option(help="Only this user's.", metavar="U")] = None,
    feature: Annotated[str | None, typer.Option(help="Only this feature's.", metavar="F")] = None,
    route: Annotated[str | None, typer.Option(help="Only on this route.", metavar="R")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only at this vendor.", metavar="V")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV to this file; `-` is stdout.", metavar="FILE")] = None,
    chart: Annotated[bool, typer.Option("--chart", help="Draw the cost as bars.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the cost into this picture.", metavar="FILE")] = None,
) -> Answer:
    """Report what was spent. By day, tenant, user, feature, route, vendor or model, with the total.

    A booking counts on the day it was made: what is decided or corrected late counts on that day.
    """
    from onetake.ledger.spend import Spend, SpendQuery

    refuse_one_file(csv, "--png", png)
    chosen_days = one_of("--days", days, SPEND_DAYS)
    this_month = month_to_today(datetime.now(UTC), chosen_days)
    query = SpendQuery(
        first=_day("--from", first) if first is not None else this_month[0],
        last=_day("--to", last) if last is not None else this_month[1],
        by=one_of("--by", by, SPEND_GROUPS),
        days=chosen_days,
        tenant=tenant,
        user=user,
        feature=feature,
        route=route,
        vendor=vendor_of(vendor),
    )
    if png:
        from onetake.cli.charts import require_matplotlib

        require_matplotlib()

    async def work(database: "Database") -> "SpendReport":
        return await Spend(database).report(query)

    report = with_database(work)
    if csv is not None and str(csv) != "-":
        _write(csv, _csv_of(report))
    if png:
        from onetake.cli.charts import picture

        _write(png, picture(report))

    def show(console: "Console") -> None:
        if str(csv) == "-":
            sys.stdout.write(_csv_of(report))
        elif chart:
            from onetake.cli.charts import bars

            bars(console, report)
        else:
            _show_table(console, report)

    return Answer(_document_of(report), show)


def month_to_today(now: datetime, days: SpendDays) -> tuple[date, date]:
    """The first of this month and today; of tenants' days from where it is earliest to where it is latest."""
    earliest, latest = (now - BEHIND_UTC, now + AHEAD_OF_UTC) if days == "tenant" else (now, now)
    return earliest.date().replace(day=1), latest.date()


def _day(option: str, given: str) -> date:
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise typer.BadParameter(f"{option} {given!r} is not a day such as 2026-11-21.") from None


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise Refused("usage", f"{path} cannot be written: {error.strerror}.") from None
    say(f"Wrote {path}.")


def _document_of(report: "SpendReport") -> dict[str, Any]:
    query: SpendQuery = report.query
    asked = query.model_dump(mode="json", exclude={"version", "first", "last"})
    period = {"from": str(query.first), "to": str(query.last)}
    return {**period, **asked, "rows": [_figures(row) for row in report.rows], "total": _figures(report.total)}


def _figures(row: "SpendRow") -> dict[str, Any]:
    share = row.failed_share
    return {
        **row.model_dump(mode="json", exclude={"version"}),
        "cost_per_second_micros": row.cost_per_second_micros,
        "failed_share": None if share is None else round(share, 4),
    }


def _csv_of(report: "SpendReport") -> str:
    from csv import DictWriter
    from io import StringIO

    rows = [_figures(row) for row in (*report.rows, report.total)]
    text = StringIO()
    writer = DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "key": cell(row["key"])} for row in rows)
    return text.getvalue()


def _show_table(console: "Console", report: "SpendReport") -> None:
    from rich.table import Table

    if not report.rows:
        say(f"Nothing was booked from {report.query.first} to {report.query.last}.")
        return
    counts = ("generations", "completed", "failed", "canceled")
    numbers = ("seconds", "held", "cost", "in suspense", "cost a second", "failed share")
    table = Table(report.query.by, box=None, pad_edge=False, show_footer=True)
    table.columns[0].footer = "total"
    for title, sum_ in zip((*counts, *numbers), _cells(report.total), strict=True):
        table.add_column(title, footer=sum_, justify="right")
    for row in report.rows:
        table.add_row(row.key, *_cells(row))
    console.print(table)


def _cells(row: "SpendRow") -> tuple[str, ...]:
    from onetake.core.money import format_usd

    counts = (f"{number:,}" for number in (row.generations, row.completed, row.failed, row.canceled))
    per_second, share = row.cost_per_second_micros, row.failed_share
    return (
        *counts,
        f"{row.delivered_ms / 1000:,.1f}",
        *(format_usd(micros) for micros in (row.held_micros, row.cost_micros, row.suspense_micros)),
        "-" if per_second is None else format_usd(per_second),
        "-" if share is None else f"{share:.1%}",
    )
