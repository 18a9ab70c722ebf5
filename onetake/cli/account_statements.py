"""`onetake statement`: a tenant's account in one month, on the screen, as CSV and as a page to print."""

# ruff: noqa: PLC0415 - `--help` stays fast

import csv
import re
import shutil
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from onetake.cli.answer import Answer, Problem, Stopped
from onetake.cli.database import with_database
from onetake.cli.options import register
from onetake.cli.sheets import cell, refuse_one_file
from onetake.core.money import MICROS_PER_USD, format_usd

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.account_statements import Account, Line, Period
    from onetake.ledger.database import Database

FIRST_MONTH: Final = "1970-01"
LAST_MONTH: Final = "9998-12"  # the next one is a date too
COLUMNS: Final = (
    "entry",
    "at",
    "generation",
    "attempt",
    "route",
    "user",
    "feature",
    "kind",
    "amount_usd",
    "held_usd",
    "in_suspense_usd",
    "charged_usd",
    "price_version",
    "price",
    "belongs_to",
    "who",
    "why",
)
_TITLES: Final = {
    "hold": "Held",
    "post": "Posted",
    "release": "Released",
    "overrun": "Charged beyond the hold",
    "suspense": "Put in suspense",
    "decided": "Taken out of suspense",
    "suspense_resolved": "Of it charged",
    "correction": "Charged by corrections",
}
_STYLE: Final = """
body { font: 13px/1.4 system-ui, sans-serif; color: #1a1a1a; margin: 2em auto; max-width: 78em; padding: 0 1em }
h1 { font-size: 1.5em; margin: 0 } p { color: #555; margin: .2em 0 1.2em }
table { border-collapse: collapse; width: 100%; margin-bottom: 2em }
th, td { padding: .25em .6em .25em 0; vertical-align: top; text-align: left } th { border-bottom: 2px solid #333 }
td { border-bottom: 1px solid #ddd } tr.sum td { font-weight: 600 } thead { display: table-header-group }
td.usd, th.usd { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.id { font-family: ui-monospace, monospace; font-size: 11px } tr { break-inside: avoid }
.other { color: #8a4b00 } @media print { body { margin: 0; max-width: none; font-size: 9px } }
"""


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(
        app,
        statement,
        "onetake statement acme 2026-10",
        "onetake statement acme 2026-10 --csv acme.csv --html acme.html",
    )


def statement(
    tenant: Annotated[str, typer.Argument(help="Which tenant.", metavar="TENANT")],
    month: Annotated[str, typer.Argument(help="Which month, such as 2026-10.", metavar="MONTH")],
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write every entry here; - for stdout.", metavar="FILE")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write a page to print here.", metavar="FILE")
    ] = None,
) -> Answer:
    """Show what a tenant was charged in a month, what was held and what is in suspense. Entries stand where booked.

    The month is one of the tenant's calendar. A file is replaced whole or not at all.
    """
    first_day = _first_day(month)
    refuse_one_file(csv_file, "--html", html_file)
    with ExitStack() as files:
        to_stdout = (
            files.enter_context(TemporaryFile("w+", encoding="utf-8", newline="")) if _is_dash(csv_file) else None
        )
        table = to_stdout or (csv_file and files.enter_context(_replacing(csv_file)))
        page = html_file and files.enter_context(_replacing(html_file))
        sheets: list[Sheet] = [*([CsvSheet(table)] if table else []), *([HtmlSheet(page)] if page else [])]

        async def work(database: "Database") -> "Statement":
            return await _write(database, tenant, first_day, sheets)

        made = with_database(work)
        written = [str(each) for each in (csv_file, html_file) if each is not None and not _is_dash(each)]
        if to_stdout is not None:
            kept = files.pop_all()
            return Answer(_document(made, written), lambda _: _copy_out(to_stdout, kept))
    return Answer(_document(made, written), lambda console: _show(console, made, written))


@dataclass(frozen=True)
class Statement:
    """A statement without its lines."""

    period: "Period"
    opening: "Account"
    closing: "Account"


class Sheet(Protocol):
    """Writes a statement as its lines come."""

    def begin(self, period: "Period", opening: "Account") -> None: ...
    def line(self, line: "Line") -> None: ...
    def end(self, closing: "Account") -> None: ...


async def _write(database: "Database", tenant: str, month: date, sheets: "list[Sheet]") -> Statement:
    from onetake.ledger.account_statements import AccountStatements

    statements = AccountStatements(database)
    period = await statements.period(tenant, month)
    opening = await statements.opening(period)
    account = deepcopy(opening)
    for sheet in sheets:
        sheet.begin(period, opening)
    async for line in statements.lines(period, account):
        for sheet in sheets:
            sheet.line(line)
    for sheet in sheets:
        sheet.end(account)
    return Statement(period, opening, account)


def _first_day(month: str) -> date:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}", month, re.ASCII):
        if not FIRST_MONTH <= month <= LAST_MONTH:
            raise typer.BadParameter(f"There are statements from {FIRST_MONTH} to {LAST_MONTH}.")
        try:
            return date.fromisoformat(f"{month}-01")
        except ValueError:
            pass
    raise typer.BadParameter(f"{month[:32]!r} is not a month such as 2026-10.")


# -- Files -------------------------------------------------------------------------------------------------------------


def _is_dash(path: Path | None) -> bool:
    return str(path) == "-"


@contextmanager
def _replacing(path: Path) -> Generator[IO[str]]:
    """A file that takes the place of `path` when all of it is written."""
    try:
        with NamedTemporaryFile("w", encoding="utf-8", newline="", dir=path.parent, prefix=".", delete=False) as file:
            draft = Path(file.name)
            try:
                yield file
                file.close()
                draft.chmod(0o644)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise Stopped(Problem("usage", f"{path} cannot be written: {error.strerror}.", "Name another file.")) from None


def _copy_out(file: IO[str], kept: ExitStack) -> None:
    with kept:
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout)


class CsvSheet:
    """Every entry, between a line with the opening balances and one with the closing balances."""

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")

    def begin(self, period: "Period", opening: "Account") -> None:
        self._writer.writerow(COLUMNS)
        self._balances("opening", period.starts_at, opening)
        self._last_moment = period.until

    def line(self, line: "Line") -> None:
        texts = (line.route, line.user, line.feature)
        amounts = (line.amount_micros, line.held_micros, line.suspense_micros, line.charged_micros)
        self._writer.writerow(
            (
                line.entry,
                line.at.isoformat(),
                line.generation_id,
                line.attempt,
                *map(cell, texts),
                line.kind,
                *map(_usd, amounts),
                cell(line.price_version),
                cell(line.price),
                f"{line.belongs_to:%Y-%m}" if line.belongs_to else "",
                cell(line.who),
                cell(line.why),
            )
        )

    def end(self, closing: "Account") -> None:
        self._balances("closing", self._last_moment, closing)

    def _balances(self, kind: str, at: datetime, account: "Account") -> None:
        amounts = (account.held_micros, account.suspense_micros, account.charged_micros)
        self._writer.writerow(
            ("", at.isoformat(), "", "", "", "", "", kind, "", *map(_usd, amounts), "", "", "", "", "")
        )


def _usd(micros: int) -> str:
    sign = "-" if micros < 0 else ""
    whole, rest = divmod(abs(micros), MICROS_PER_USD)
    return f"{sign}{whole}.{rest:06d}"


class HtmlSheet:
    """One page that needs nothing from outside and runs nothing."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def begin(self, period: "Period", opening: "Account") -> None:
        self._opening = opening
        title = f"{escape(period.tenant)}, {period.month:%B %Y}"
        self._file.write(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f"<title>Statement: {title}</title><style>{_STYLE}</style></head><body>\n"
            f"<h1>Statement: {title}</h1>\n<p>{escape(_about(period))}</p>\n"
            "<table><thead><tr><th>Booked</th><th>Generation</th><th>Route, user, feature</th><th>Entry</th>"
            '<th class="usd">Amount</th><th class="usd">Held</th><th class="usd">In suspense</th>'
            '<th class="usd">Charged</th><th>Price</th></tr></thead><tbody>\n'
        )
        self._balances("Opening balances", opening)

    def line(self, line: "Line") -> None:
        whose = " · ".join(escape(each) for each in (line.route, line.user, line.feature) if each)
        notes = [f"{escape(line.who)}: {escape(line.why or '')}"] if line.who else []
        if line.belongs_to:
            notes.append(f'<span class="other">belongs to {line.belongs_to:%B %Y}</span>')
        kind = "<br>".join([line.kind.replace("_", " "), *notes])
        price = f"{escape(line.price)}<br>{escape(line.price_version)}"
        attempt = f" #{line.attempt}" if line.attempt > 1 else ""
        amounts = (line.amount_micros, line.held_micros, line.suspense_micros, line.charged_micros)
        self._file.write(
            f'<tr><td>{line.at:%Y-%m-%d %H:%M:%S}</td><td class="id">{escape(line.generation_id)}{attempt}</td>'
            f"<td>{whose}</td><td>{kind}</td>{_money_cells(*amounts)}<td>{price}</td></tr>\n"
        )

    def end(self, closing: "Account") -> None:
        self._balances("Closing balances", closing)
        self._file.write('</tbody></table>\n<table style="width:auto"><tbody>\n')
        for title, micros in _summary(self._opening, closing):
            self._file.write(f"<tr><td>{title}</td>{_money_cells(micros)}</tr>\n")
        self._file.write("</tbody></table></body></html>\n")

    def _balances(self, title: str, account: "Account") -> None:
        amounts = (account.held_micros, account.suspense_micros, account.charged_micros)
        self._file.write(
            f'<tr class="sum"><td colspan="4">{title}</td><td></td>{_money_cells(*amounts)}<td></td></tr>\n'
        )


def _money_cells(*amounts: int) -> str:
    return "".join(f'<td class="usd">{format_usd(micros)}</td>' for micros in amounts)


# -- The summary -------------------------------------------------------------------------------------------------------


def _about(period: "Period") -> str:
    span = f"{period.starts_at:%Y-%m-%d %H:%M} to {period.ends_at:%Y-%m-%d %H:%M} UTC"
    zone = "" if period.time_zone == "UTC" else f", a month in {period.time_zone}"
    state = f"; not over, as of {period.as_of:%Y-%m-%d %H:%M:%S} UTC" if period.as_of else ""
    return f"{span}{zone}{state}. Amounts in USD; an entry stands in the month in which it was booked."


def _summary(opening: "Account", closing: "Account") -> list[tuple[str, int]]:
    amounts = closing.totals | {"decided": closing.decided_micros}
    return [
        ("Held at the opening", opening.held_micros),
        ("In suspense at the opening", opening.suspense_micros),
        *((title, amounts.get(kind, 0)) for kind, title in _TITLES.items()),
        ("Held at the closing", closing.held_micros),
        ("In suspense at the closing", closing.suspense_micros),
        ("Charged in the month", closing.charged_micros),
    ]


def _document(made: Statement, written: list[str]) -> dict[str, Any]:
    period, closing = made.period, made.closing
    return {
        "tenant": period.tenant,
        "month": f"{period.month:%Y-%m}",
        "time_zone": period.time_zone,
        "starts_at": period.starts_at.isoformat(),
        "ends_at": period.ends_at.isoformat(),
        "as_of": period.as_of.isoformat() if period.as_of else None,
        "entries": closing.entries,
        "opening": {"held_micros": made.opening.held_micros, "suspense_micros": made.opening.suspense_micros},
        "totals": {kind: closing.totals.get(kind, 0) for kind in _TITLES if kind != "decided"}
        | {"decided": closing.decided_micros},
        "closing": {"held_micros": closing.held_micros, "suspense_micros": closing.suspense_micros},
        "charged_micros": closing.charged_micros,
        "files": written,
    }


def _show(console: "Console", made: Statement, written: list[str]) -> None:
    from rich.table import Table

    console.print(f"{made.period.tenant}, {made.period.month:%B %Y}: {made.closing.entries} entries", soft_wrap=True)
    console.print(_about(made.period), soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for title, micros in _summary(made.opening, made.closing):
        table.add_row(title, format_usd(micros))
    console.print(table)
    for each in written:
        console.print(f"written: {each}", soft_wrap=True)
