"""Verbs for money: budgets, and what the ledger holds of one generation."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import group_of_verbs, one_of, register
from onetake.core.errors import Refused
from onetake.core.names import DEFAULT_TENANT, PERIODS, SCOPES

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.budgets import BudgetBalance
    from onetake.ledger.database import Database
    from onetake.ledger.holds import Entry


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    budget = group_of_verbs(app, "budget", "Set and show budgets.")
    register(budget, set_, "onetake budget set tenant acme month 250", "onetake budget set feature acme/intro day 4.50")
    register(budget, show, "onetake budget show", "onetake budget show --json")
    register(app, ledger, "onetake ledger gen_0199...", "onetake ledger gen_0199... --json")


def set_(
    scope: Annotated[str, typer.Argument(help=f"{', '.join(SCOPES)}.", metavar="SCOPE")],
    key: Annotated[str, typer.Argument(help="Which one; a user or a feature as TENANT/NAME.", metavar="KEY")],
    period: Annotated[str, typer.Argument(help=f"{', '.join(PERIODS)} (days and months in UTC).", metavar="PERIOD")],
    usd: Annotated[str, typer.Argument(help="The limit in dollars, such as 12.50.", metavar="USD")],
) -> Answer:
    """Limit what a tenant, user, feature, route or vendor may spend. What is held already stays held."""
    from onetake.core.money import format_usd

    chosen_scope = one_of("SCOPE", scope, SCOPES)
    chosen_period = one_of("PERIOD", period, PERIODS)
    limit_micros = _amount(usd)
    if chosen_scope in ("user", "feature") and "/" not in key:
        key = f"{DEFAULT_TENANT}/{key}"
        say(f"Users and features belong to a tenant: this is {key}.")

    async def work(database: "Database") -> None:
        from onetake.ledger.budgets import Budgets

        await Budgets(database).set_budget(chosen_scope, key, chosen_period, limit_micros)

    with_database(work)
    document = {"scope": chosen_scope, "key": key, "period": chosen_period, "limit_micros": limit_micros}
    window = "in total" if chosen_period == "total" else f"a {chosen_period}"
    text = f"{chosen_scope} {key}: {format_usd(limit_micros)} {window}"
    return Answer(document, lambda console: console.print(text, soft_wrap=True))


def show() -> Answer:
    """Show every budget, with what is held, spent and left in its open window."""

    async def work(database: "Database") -> "list[BudgetBalance]":
        from onetake.ledger.budgets import Budgets

        return await Budgets(database).show_budgets()

    balances = with_database(work)
    document = {"budgets": [balance.model_dump(mode="json") for balance in balances]}
    return Answer(document, lambda console: _show_balances(console, balances))


def ledger(
    generation_id: Annotated[str, typer.Argument(help="The generation's id, gen_...", metavar="ID")],
) -> Answer:
    """Show the money of a generation. One line an entry: held, posted, released, put in suspense."""

    async def work(database: "Database") -> "Sequence[Entry]":
        from onetake.ledger.generations import PostgresGenerations
        from onetake.ledger.holds import PostgresLedger

        if await PostgresGenerations(database).get(generation_id) is None:
            raise Refused("generation_not_found")
        return await PostgresLedger(database).entries(generation_id)

    entries = with_database(work)
    document = {"id": generation_id, "entries": [entry.model_dump(mode="json") for entry in entries]}
    return Answer(document, lambda console: _show_entries(console, entries))


def _amount(usd: str) -> int:
    from onetake.core.money import parse_usd

    try:
        return parse_usd(usd.removeprefix("$"))
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


def _show_balances(console: "Console", balances: "Sequence[BudgetBalance]") -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not balances:
        say("There are no budgets: nothing is limited. `onetake budget set` makes one.")
        return
    table = Table("scope", "key", "period", "limit", "held", "spent", "left", box=None, pad_edge=False)
    for balance in balances:
        amounts = (balance.limit_micros, balance.held_micros, balance.spent_micros, balance.available_micros)
        table.add_row(balance.scope, balance.key, balance.period, *map(format_usd, amounts))
    console.print(table)


def _show_entries(console: "Console", entries: "Sequence[Entry]") -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not entries:
        say("It has no entries: nothing was held.")
        return
    table = Table("at (UTC)", "attempt", "entry", "amount", box=None, pad_edge=False)
    for entry in entries:
        when = entry.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(when, str(entry.attempt), entry.kind, format_usd(entry.amount_micros))
    console.print(table)
