"""Verbs for vendors: how they stand, what they really charged, opening one again, and trying an adapter."""

# ruff: noqa: PLC0415 - `--help` stays fast

from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, Problem, Stopped, say
from onetake.cli.database import with_database
from onetake.cli.options import group_of_verbs, one_of, register

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.dev.conformance import Report
    from onetake.ledger.database import Database
    from onetake.ledger.pacing import CallbackRecord
    from onetake.ledger.vendors import PausedModel, RouteCost, VendorState

SECONDS_A_VENDOR = 6  # that the kit takes, about


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    vendors = group_of_verbs(app, "vendors", "How the vendors stand.")
    register(vendors, list_, "onetake vendors list", "onetake vendors list --json")
    register(vendors, reopen, "onetake vendors reopen apixo", "onetake vendors reopen apixo --json")
    register(vendors, costs, "onetake vendors costs", "onetake vendors costs --json")
    register(vendors, check, "onetake vendors check", "onetake vendors check apixo --json")


def list_() -> Answer:
    """Show every vendor: whether it and each of its models take new generations, if not since when and why; its room,
    and its callbacks."""
    from onetake.cli.callbacks import standing
    from onetake.ledger.pacing import callback_records
    from onetake.ledger.vendors import PostgresVendors
    from providers.catalogue import load_catalogue

    settings, vendors = environment.settings(), load_catalogue().vendors

    async def work(database: "Database") -> "tuple[dict[str, VendorState], dict[str, CallbackRecord]]":
        return await PostgresVendors(database).states(), await callback_records(database, list(vendors))

    states, records = with_database(work, settings)
    standings = {
        name: standing(settings, records[name], offered=facts.vendor.callbacks) for name, facts in vendors.items()
    }
    rows = [_row(name, states.get(name)) for name in vendors]

    def show(console: "Console") -> None:
        from rich.table import Table

        table = Table("vendor", "state", "why", "since", "room", "callbacks", box=None, pad_edge=False)
        for row in rows:
            state = (row["vendor"], row["state"], row["paused_code"] or "", row["paused_since"] or "")
            room = "" if row["room"] is None else f"{row['room']} jobs, {row['waiting']} wait"
            table.add_row(*state, room, standings[row["vendor"]].text)
            for model in row["paused_models"]:
                why = ("paused", model["paused_code"], model["paused_since"])
                table.add_row(f"  {model['model']}", *why, "", "")
        console.print(table)

    document = [row | {"callbacks": standings[row["vendor"]].document} for row in rows]
    return Answer({"vendors": document}, show)


def reopen(
    vendor: Annotated[str, typer.Argument(help="The vendor's name in routes.", metavar="VENDOR")],
) -> Answer:
    """Let new generations go to a paused vendor and its models again, after its account was topped up or its key
    replaced."""
    from providers.catalogue import load_catalogue

    name = one_of("VENDOR", vendor, tuple(load_catalogue().vendors))

    async def work(database: "Database") -> bool:
        from onetake.ledger.vendors import PostgresVendors

        return await PostgresVendors(database).reopen(name)

    was_paused = with_database(work)
    text = f"{name} takes new generations again." if was_paused else f"{name} was not paused."
    return Answer({"vendor": name, "was_paused": was_paused}, lambda console: console.print(text))


def costs() -> Answer:
    """Compare what routes were expected to cost with what their vendors reported."""

    async def work(database: "Database") -> "list[RouteCost]":
        from onetake.ledger.vendors import PostgresVendors

        return await PostgresVendors(database).costs()

    found = with_database(work)
    rows = [{**each.model_dump(mode="json"), "difference_micros": each.difference_micros} for each in found]
    return Answer({"routes": rows}, lambda console: _show_costs(console, found))


def check(
    vendor: Annotated[
        str | None, typer.Argument(help="The vendor's name in routes; all by default.", metavar="VENDOR")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A simulator that runs on this machine; without it one is started.", metavar="URL"),
    ] = None,
) -> Answer:
    """Try an adapter in every scenario and name what it lacks. Asks a simulator, never a real vendor."""
    from onetake.core import logs
    from onetake.dev import conformance

    registries = conformance.shipped_registries()
    names = (one_of("VENDOR", vendor, registries.names()),) if vendor is not None else registries.names()
    logs.configure("critical")  # the alarms that it provokes are no operator's
    say(f"Trying {', '.join(names)}; about {SECONDS_A_VENDOR * len(names)} s.")
    try:
        reports = conformance.check(names, against=against, registries=registries)
    except ValueError as error:
        raise Stopped(Problem("usage", str(error))) from None
    conforms = all(report.conforms for report in reports)
    document = {"conforms": conforms, "vendors": [report.document for report in reports]}
    return Answer(document, lambda console: _show_reports(console, reports), 0 if conforms else 1)


def _show_reports(console: "Console", reports: "list[Report]") -> None:
    from rich.table import Table

    for report in reports:
        table = Table("", "part", "scenario", "what to do", box=None, pad_edge=False, title_justify="left")
        for finding in report.findings:
            mark = "ok" if finding.verdict == "ok" else "LACKS"
            table.add_row(mark, finding.group, finding.scenario, finding.todo)
        lacking = sum(finding.verdict == "lacks" for finding in report.findings)
        verdict = f"lacks {lacking}" if lacking else "conforms in all"
        console.print(f"{report.vendor}: {verdict} of {len(report.findings)} scenarios")
        console.print(table)


def _row(name: str, state: "VendorState | None") -> dict[str, Any]:
    paused = state.paused_code if state else None
    quiet_for_s = round(state.quiet_for_s, 1) if state else 0.0
    return {
        "vendor": name,
        "state": "paused" if paused else "quiet" if quiet_for_s else "open",
        "paused_code": paused,
        "paused_since": state.paused_since.isoformat(timespec="seconds") if state and state.paused_since else None,
        "paused_models": [_model(each) for each in state.paused_models] if state else [],
        "quiet_for_s": quiet_for_s,
        "room": state.room if state else None,
        "waiting": state.waiting if state else 0,
        "submits_per_s": state.submits_per_s if state else None,
        "reads_per_s": state.reads_per_s if state else None,
    }


def _model(paused: "PausedModel") -> dict[str, str]:
    since = paused.paused_since.isoformat(timespec="seconds")
    return {"model": paused.model, "paused_code": paused.paused_code, "paused_since": since}


def _show_costs(console: "Console", found: "list[RouteCost]") -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not found:
        console.print("No vendor has reported a cost yet.")
        return
    table = Table("route", "generations", "expected", "reported", "difference", box=None, pad_edge=False)
    for each in found:
        amounts = (each.expected_micros, each.reported_micros, each.difference_micros)
        table.add_row(each.route, str(each.generations), *map(format_usd, amounts))
    console.print(table)
