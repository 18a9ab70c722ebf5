"""Verbs for what is left open: amounts in suspense, and a pass of the reconciler by hand."""

# ruff: noqa: PLC0415 - `--help` stays fast

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import OfTenant, group_of_verbs, one_of, register
from onetake.core.errors import Refused
from onetake.core.names import DECISIONS

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.core.contracts import GenerationRecord, Reconciled
    from onetake.ledger.database import Database


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(app, reconcile, "onetake reconcile", "onetake reconcile --dry-run --json")
    suspense = group_of_verbs(app, "suspense", "Amounts whose outcome is not known.")
    register(suspense, list_, "onetake suspense list", "onetake suspense list --json")
    register(
        suspense,
        resolve,
        'onetake suspense resolve gen_0199... posted --why "on the vendor\'s invoice of November"',
        'onetake suspense resolve gen_0199... released --why "the vendor knows no such job" --json',
    )


def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; change nothing.")] = False,
) -> Answer:
    """Go through the ledger once. What nobody serves is started, ended, or looked for; workers do it every minute."""
    settings = environment.settings()

    async def work(database: "Database") -> "Reconciled":
        from onetake.engine.temporal import connect
        from onetake.operations.reconciler import Reconciler

        reconciler = Reconciler(await connect(settings), database, time_scale=settings.time_scale)
        return await reconciler.run_once(dry_run=dry_run)

    reconciled = with_database(work, settings, connections=2)
    document = {"dry_run": dry_run, **reconciled.model_dump(mode="json", exclude={"version", "found"})}
    return Answer(document, lambda console: _show_reconciled(console, reconciled, dry_run=dry_run))


def list_(tenant: OfTenant = None) -> Answer:
    """Show every amount in suspense, with what there is to find its job by."""

    async def work(database: "Database") -> list[dict[str, Any]]:
        from onetake.ledger.recoveries import Recoveries

        rows = [row async for page in Recoveries(database).suspended_rows() for row in page]
        return [
            {
                "id": row.id,
                "tenant": row.tenant,
                "vendor": row.vendor,
                "amount_micros": row.amount_micros,
                "since": row.resolved_at.isoformat(),
                "has_task_id": row.has_task_id,
            }
            for row in rows
            if tenant in (None, row.tenant)
        ]

    rows = with_database(work)
    return Answer({"suspense": rows}, lambda console: _show_suspense(console, rows))


def resolve(
    generation_id: Annotated[str, typer.Argument(help="The generation, gen_...", metavar="ID")],
    to: Annotated[str, typer.Argument(help="posted (the vendor charged it) or released (it did not).", metavar="HOW")],
    why: Annotated[str, typer.Option(help="What shows it: an invoice, the vendor's answer.", metavar="TEXT")],
) -> Answer:
    """Decide an amount in suspense, once. Who decided and why stays in the ledger."""
    chosen = one_of("HOW", to, DECISIONS)
    if not why.strip():
        raise typer.BadParameter("--why says what shows it.")

    async def work(database: "Database") -> "GenerationRecord":
        from onetake.ledger.holds import PostgresLedger

        ledger = PostgresLedger(database)
        who = environment.operator()
        decided = await ledger.resolve_suspense(generation_id, 1, to=chosen, who=who, why=why.strip())
        detail = (await ledger.entries(generation_id))[-1].detail or {}
        if detail.get("to") != chosen:
            raise Refused("usage", f"It was decided before: {detail.get('to')}, by {detail.get('who')}.")
        return decided

    record = with_database(work)
    from onetake.core.money import format_usd

    line = f"{record.id}: {chosen}, settled {format_usd(record.cost.settled_micros)}"
    return Answer(record.model_dump(mode="json"), lambda console: console.print(line, soft_wrap=True))


def _show_reconciled(console: "Console", reconciled: "Reconciled", *, dry_run: bool) -> None:
    from rich.table import Table

    done = "would be done" if dry_run else "done"
    console.print(f"Looked at {reconciled.looked_at} generations: {len(reconciled.findings)} findings.")
    if not reconciled.findings:
        return
    table = Table("generation", "what", "found", done, box=None, pad_edge=False)
    for finding in reconciled.findings:
        table.add_row(finding.generation_id, finding.kind, finding.found, finding.action)
    console.print(table)


def _show_suspense(console: "Console", rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not rows:
        say("Nothing is in suspense.")
        return
    table = Table("id", "tenant", "vendor", "amount", "since (UTC)", "job known", box=None, pad_edge=False)
    for row in rows:
        since, known = row["since"][:19].replace("T", " "), "yes" if row["has_task_id"] else "no"
        table.add_row(row["id"], row["tenant"], row["vendor"], format_usd(row["amount_micros"]), since, known)
    console.print(table)
