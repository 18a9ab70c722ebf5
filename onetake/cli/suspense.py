"""Verbs for what is left open: amounts in suspense, and a pass of the reconciler by hand."""

# ruff: noqa: PLC0415 - `--help` stays fast

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import OfTenant, group_of_verbs, moment, one_of, register, vendor_of
from onetake.cli.statements import Terms, document_of, resolve_failed_jobs, resolve_from
from onetake.core.errors import Refused
from onetake.core.money import LARGEST_CHARGE_MICROS, format_usd, parse_usd
from onetake.core.names import DECISIONS, VENDOR_NAMES

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.core.contracts import GenerationRecord, Reconciled
    from onetake.core.names import Decision
    from onetake.ledger.database import Database
    from onetake.ledger.recoveries import SuspendedRow

STATEMENT_UNITS: Final[tuple[Literal["usd", "credits"], ...]] = ("usd", "credits")


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(
        app,
        reconcile,
        "onetake reconcile",
        "onetake reconcile --dry-run --json",
        "onetake reconcile --after-failover",
    )
    suspense = group_of_verbs(app, "suspense", "Amounts whose outcome is not known.")
    register(suspense, list_, "onetake suspense list", "onetake suspense list --vendor apixo --json")
    register(
        suspense,
        resolve,
        'onetake suspense resolve gen_0199... posted --why "on the vendor\'s invoice of November"',
        'onetake suspense resolve gen_0199... released --why "the vendor knows no such job" --json',
        "onetake suspense resolve --vendor apixo --since 30d --from-statement november.csv --dry-run",
        "onetake suspense resolve --vendor apixo --failed-jobs --dry-run",
    )


def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; change nothing.")] = False,
    after_failover: Annotated[
        bool, typer.Option("--after-failover", help="First write again what the database lost of Temporal's runs.")
    ] = False,
) -> Answer:
    """Go through the ledger once. What nobody serves is started, ended, or looked for; workers do it every minute."""
    settings = environment.settings()

    async def work(database: "Database") -> "Reconciled":
        from onetake.engine.temporal import connect
        from onetake.operations.failover import AfterFailover
        from onetake.operations.reconciler import Reconciler

        engine = await connect(settings)
        reconciler = Reconciler(
            engine,
            database,
            time_scale=settings.time_scale,
            drift_tolerance_percent=settings.drift_tolerance_percent,
        )
        if not after_failover:
            return await reconciler.run_once(dry_run=dry_run)
        mended = await AfterFailover(engine, database).run_once(dry_run=dry_run)
        passed = await reconciler.run_once(dry_run=dry_run)
        findings = (*mended.findings, *passed.findings)
        return passed.model_copy(update={"looked_at": mended.looked_at + passed.looked_at, "findings": findings})

    reconciled = with_database(work, settings, connections=2)
    document = {"dry_run": dry_run, **reconciled.model_dump(mode="json", exclude={"version", "found"})}
    return Answer(document, lambda console: _show_reconciled(console, reconciled, dry_run=dry_run))


def list_(
    tenant: OfTenant = None,
    vendor: Annotated[str | None, typer.Option(help="Only this vendor's.", metavar="V")] = None,
) -> Answer:
    """Show every amount in suspense, the oldest first: held, reported, why, its job's id, and the totals by vendor."""
    chosen = vendor_of(vendor)

    async def work(database: "Database") -> "list[SuspendedRow]":
        from onetake.ledger.recoveries import Recoveries

        return [row for row in await Recoveries(database).suspended(chosen) if tenant in (None, row.tenant)]

    rows = with_database(work)
    totals = _totals_of(rows)
    document = {"suspense": [document_of(row) for row in rows], "vendors": totals}
    return Answer(document, lambda console: _show_suspense(console, rows, totals))


def resolve(  # noqa: PLR0917 - one parameter an option
    generation_id: Annotated[
        str | None, typer.Argument(help="The generation, gen_...", metavar="ID", show_default=False)
    ] = None,
    to: Annotated[
        str | None,
        typer.Argument(
            help="posted (the vendor charged it) or released (it did not).", metavar="HOW", show_default=False
        ),
    ] = None,
    why: Annotated[
        str | None, typer.Option(help="What shows it: an invoice, the vendor's answer.", metavar="TEXT")
    ] = None,
    amount: Annotated[
        str | None, typer.Option(help="What the vendor charged, where it is not what was held.", metavar="USD")
    ] = None,
    from_statement: Annotated[
        Path | None, typer.Option(help="A CSV file of the vendor's: decides all that it names.", metavar="FILE")
    ] = None,
    failed_jobs: Annotated[
        bool, typer.Option("--failed-jobs", help="Decide jobs that have failed, by the vendor's contract.")
    ] = False,
    vendor: Annotated[str | None, typer.Option(help="Whose statement or contract it is.", metavar="V")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was accepted since: 2h, 30d, or 2026-11-01.", metavar="WHEN")
    ] = None,
    task_id_column: Annotated[str, typer.Option(help="Names the job by the vendor's id.", metavar="C")] = "task_id",
    amount_column: Annotated[str, typer.Option(help="What was charged for it.", metavar="C")] = "amount",
    state_column: Annotated[
        str | None, typer.Option(help="Whether it was charged; `state` if there is one, '' for none.", metavar="C")
    ] = None,
    currency_column: Annotated[
        str | None, typer.Option(help="Must say USD; `currency` if there is one, '' for none.", metavar="C")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="What separates fields, or `tab`; found in the header by default.", metavar="X")
    ] = None,
    unit: Annotated[str, typer.Option(help="Of the amounts: usd or credits.", metavar="U")] = "usd",
    charged_state: Annotated[
        list[str] | None, typer.Option(help="A state of what was charged; repeat.", metavar="WORD")
    ] = None,
    not_charged_state: Annotated[
        list[str] | None, typer.Option(help="A state of what was not charged; repeat.", metavar="WORD")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be decided; change nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before many are decided, or much is posted.")
    ] = False,
) -> Answer:
    """Decide an amount in suspense, or all that a vendor's statement names or its contract covers, once.

    Who decided and why stays in the ledger. What many decisions would be is shown first. Without a column of states
    an amount above zero was charged, and zero was not.
    """
    if failed_jobs:
        if generation_id or why or amount or since or from_statement or vendor is None:
            raise typer.BadParameter("--failed-jobs goes with --vendor, --dry-run and --yes alone.")
        chosen = one_of("--vendor", vendor, VENDOR_NAMES)
        return resolve_failed_jobs(Terms(chosen, since=None, dry_run=dry_run, yes=yes))
    if from_statement is None:
        if vendor or since or dry_run:
            raise typer.BadParameter("--vendor, --since and --dry-run go with --from-statement or --failed-jobs.")
        return _resolve_one(generation_id, to, why, amount, sure=yes)
    if generation_id or why or amount or vendor is None:
        raise typer.BadParameter("--from-statement goes with --vendor, and without ID, HOW, --why and --amount.")
    from onetake.operations.statements import Form

    form = Form(
        task_id_column=task_id_column,
        amount_column=amount_column,
        state_column=state_column,
        currency_column=currency_column,
        delimiter=_separator(delimiter),
        unit=one_of("--unit", unit, STATEMENT_UNITS),
        charged_states=frozenset(each.strip().casefold() for each in charged_state or ()),
        not_charged_states=frozenset(each.strip().casefold() for each in not_charged_state or ()),
    )
    if both := form.charged_states & form.not_charged_states:
        raise typer.BadParameter(f"{', '.join(sorted(both))} cannot mean both charged and not charged.")
    chosen = one_of("--vendor", vendor, VENDOR_NAMES)
    terms = Terms(chosen, since=None if since is None else moment(since), dry_run=dry_run, yes=yes)
    return resolve_from(from_statement, form, terms)


def _resolve_one(
    generation_id: str | None, to: str | None, why: str | None, amount: str | None, *, sure: bool
) -> Answer:
    if generation_id is None or to is None:
        raise typer.BadParameter("give ID and HOW, --from-statement or --failed-jobs.")
    chosen = one_of("HOW", to, DECISIONS)
    if why is None or not why.strip():
        raise typer.BadParameter("--why says what shows it.")
    charged = None if amount is None else _charged(amount, chosen)
    settings = environment.settings()

    async def work(database: "Database") -> "tuple[GenerationRecord, int | None]":
        if charged is not None and not sure:
            await _require_plausible(database, generation_id, charged, settings.reported_cost_most)
        return await _decide(database, generation_id, chosen, why.strip(), charged)

    record, reported = with_database(work, settings)
    line = f"{record.id}: {chosen}, settled {format_usd(record.cost.settled_micros)}"
    if chosen == "posted" and charged is None:
        line += ": what was held, as no --amount was given"
    if reported is not None:
        line += f"; the vendor reports {format_usd(reported)}"
    document = record.model_dump(mode="json") | {"reported_micros": reported}
    return Answer(document, lambda console: console.print(line, soft_wrap=True))


async def _require_plausible(database: "Database", generation_id: str, charged: int, most: Decimal) -> None:
    """Refuse an amount far above what was held and what the vendor reports: a decision cannot be taken back."""
    from onetake.ledger.holds import PostgresLedger

    entries = {each.kind: each for each in await PostgresLedger(database).entries(generation_id)}
    if "hold" not in entries:
        return  # the decision says what is wrong
    held = entries["hold"].amount_micros
    reported = int(((entries["review"].detail or {}).get("reported_micros") or 0) if "review" in entries else 0)
    if charged > most * held and charged > reported:
        raise Refused(
            "usage",
            f"{format_usd(charged)} is more than {most} times the {format_usd(held)} that were held, and a decision"
            " cannot be taken back. Give --yes when it is what the vendor charged.",
        )


async def _decide(
    database: "Database", generation_id: str, to: "Decision", why: str, charged: int | None
) -> "tuple[GenerationRecord, int | None]":
    """The generation as it stands, and what its vendor reports where that was left to a person."""
    from onetake.ledger.holds import PostgresLedger

    ledger, who = PostgresLedger(database), environment.operator()
    decided = await ledger.resolve_suspense(generation_id, 1, to=to, who=who, why=why, actual_micros=charged)
    entries = {each.kind: each for each in await ledger.entries(generation_id)}
    corrected, review = entries.get("correction"), entries.get("review")
    entry = corrected or entries["suspense_resolved"]
    detail = entry.detail or {}
    stands_as = "posted" if corrected else detail.get("to")
    whole = entries["hold"].amount_micros if to == "posted" else 0
    if (stands_as, entry.amount_micros) != (to, whole if charged is None else charged):
        stands = f"{stands_as} {format_usd(entry.amount_micros)}, by {detail.get('who')}"
        raise Refused("usage", f"It was decided before: {stands}.")
    reported = (review.detail or {}).get("reported_micros") if review else None
    return decided, None if reported is None else int(reported)


def _charged(amount: str, to: str) -> int:
    if to == "released":
        raise typer.BadParameter("--amount goes with posted: what is released costs nothing.")
    try:
        charged = parse_usd(amount)
    except ValueError as error:
        raise typer.BadParameter(f"--amount {error}.") from None
    if charged < 0:
        raise typer.BadParameter("--amount is not below zero.")
    if charged > LARGEST_CHARGE_MICROS:
        raise typer.BadParameter(f"--amount is at most {format_usd(LARGEST_CHARGE_MICROS)}.")
    return charged


def _separator(given: str | None) -> str | None:
    separator = "\t" if given == "tab" else given
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise typer.BadParameter("--delimiter is one character, or `tab`.")
    return separator


def _totals_of(rows: "list[SuspendedRow]") -> list[dict[str, Any]]:
    """By vendor, whose oldest amount is the oldest first; the rows are in that order."""
    by_vendor = {row.vendor: [each for each in rows if each.vendor == row.vendor] for row in rows}
    return [
        {
            "vendor": vendor,
            "count": len(of_vendor),
            "amount_micros": sum(row.amount_micros for row in of_vendor),
            "oldest_since": of_vendor[0].resolved_at.isoformat(),
            "oldest_age_s": int(of_vendor[0].age_s),
        }
        for vendor, of_vendor in by_vendor.items()
    ]


def _show_reconciled(console: "Console", reconciled: "Reconciled", *, dry_run: bool) -> None:
    from rich.table import Table

    done = "would be done" if dry_run else "done"
    console.print(f"Looked at {reconciled.looked_at} generations: {len(reconciled.findings)} findings.")
    if not reconciled.findings:
        return
    table = Table("generation or vendor", "what", "found", done, box=None, pad_edge=False)
    for finding in reconciled.findings:
        table.add_row(finding.subject, finding.kind, finding.found, finding.action)
    console.print(table)


def _show_suspense(console: "Console", rows: "list[SuspendedRow]", totals: list[dict[str, Any]]) -> None:
    from rich.table import Table

    if not rows:
        say("Nothing is in suspense.")
        return
    heads = ("id", "tenant", "vendor", "held", "reported", "why", "since (UTC)", "age", "job")
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        since, why = f"{row.resolved_at:%Y-%m-%d %H:%M:%S}", row.why or "-"
        held, reported = format_usd(row.amount_micros), "-"
        if row.reported_micros is not None:
            reported = format_usd(row.reported_micros)
        table.add_row(row.id, row.tenant, row.vendor, held, reported, why, since, row.age, row.task_id or "-")
    console.print(table)
    for each in totals:
        oldest = next(row.age for row in rows if row.vendor == each["vendor"])
        console.print(f"{each['vendor']}: {each['count']}, {format_usd(each['amount_micros'])}; the oldest {oldest}")
