"""Verbs for money: budgets, and what the ledger holds of one generation."""

# ruff: noqa: PLC0415 - `--help` stays fast

import re
from collections.abc import Sequence
from datetime import UTC
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import group_of_verbs, one_of, register
from onetake.core.errors import Refused
from onetake.core.names import DEFAULT_TENANT, PERIODS, SCOPES, Period, Scope

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.budgets import BudgetBalance, Budgets
    from onetake.ledger.database import Database
    from onetake.ledger.holds import Entry

_Scope = Annotated[str, typer.Argument(help=f"{', '.join(SCOPES)}.", metavar="SCOPE")]
_Key = Annotated[str, typer.Argument(help="Which one; a user or a feature as TENANT/NAME.", metavar="KEY")]
_Period = Annotated[str, typer.Argument(help=f"{', '.join(PERIODS)}.", metavar="PERIOD")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    budget = group_of_verbs(app, "budget", "Set, show and remove budgets.")
    register(
        budget,
        set_,
        "onetake budget set tenant acme month 250",
        "onetake budget set feature acme/intro day 4.50 --time-zone Europe/Berlin --thresholds 80,95",
    )
    register(budget, show, "onetake budget show", "onetake budget show --json")
    register(
        budget, remove, "onetake budget remove tenant acme month", "onetake budget remove feature acme/intro day --json"
    )
    register(app, ledger, "onetake ledger gen_0199...", "onetake ledger gen_0199... --json")


def set_(
    scope: _Scope,
    key: _Key,
    period: _Period,
    usd: Annotated[str, typer.Argument(help="The limit in dollars, such as 12.50.", metavar="USD")],
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="Where days and months begin, such as Europe/Berlin.", metavar="ZONE")
    ] = "UTC",
    thresholds: Annotated[
        str, typer.Option("--thresholds", help="Percentages of the limit to record, or none.", metavar="PERCENTS")
    ] = "50,80,100",
) -> Answer:
    """Limit what a tenant, user, feature, route or vendor may spend. What its window holds and spent already counts."""
    from onetake.core.money import format_usd

    chosen_scope, key, chosen_period = _named(scope, key, period)
    limit_micros, percents = _amount(usd), _percents(thresholds)

    async def work(database: "Database") -> "tuple[str | None, BudgetBalance | None]":
        from onetake.ledger.budgets import Budgets

        budgets = Budgets(database)
        await budgets.set_budget(
            chosen_scope, key, chosen_period, limit_micros, time_zone=time_zone, thresholds=percents
        )
        return await warning_of(budgets, chosen_scope, key), await _balance_of(
            budgets, chosen_scope, key, chosen_period
        )

    warning, balance = with_database(work)
    document = {"scope": chosen_scope, "key": key, "period": chosen_period, "time_zone": time_zone}
    document |= {"limit_micros": limit_micros, "thresholds": percents, "warning": warning}
    document |= {"balance": balance and balance.model_dump(mode="json")}
    if warning:
        say(warning)
    window = "in total" if chosen_period == "total" else f"a {chosen_period} ({time_zone})"
    text = f"{chosen_scope} {key}: {format_usd(limit_micros)} {window}"
    if balance and (used := balance.held_micros + balance.spent_micros):
        text += f"; {format_usd(used)} of its window is held or spent, {format_usd(balance.available_micros)} is left"
    return Answer(document, lambda console: console.print(text, soft_wrap=True))


async def _balance_of(budgets: "Budgets", scope: Scope, key: str, period: Period) -> "BudgetBalance | None":
    wanted = (scope, key, period)
    return next((each for each in await budgets.show_budgets() if (each.scope, each.key, each.period) == wanted), None)


def remove(scope: _Scope, key: _Key, period: _Period) -> Answer:
    """Remove a limit. Holds, what is spent and the journal stay as they are."""
    chosen_scope, key, chosen_period = _named(scope, key, period)

    async def work(database: "Database") -> None:
        from onetake.ledger.budgets import Budgets

        await Budgets(database).remove_budget(chosen_scope, key, chosen_period)

    with_database(work)
    document = {"scope": chosen_scope, "key": key, "period": chosen_period, "removed": True}
    text = f"{chosen_scope} {key}: the {chosen_period} budget is removed"
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


def _named(scope: str, key: str, period: str) -> tuple[Scope, str, Period]:
    """Which budget is meant; a user or a feature without a tenant is the default tenant's."""
    chosen_scope, chosen_period = one_of("SCOPE", scope, SCOPES), one_of("PERIOD", period, PERIODS)
    if chosen_scope in ("user", "feature") and "/" not in key:
        key = f"{DEFAULT_TENANT}/{key}"
        say(f"Users and features belong to a tenant: this is {key}.")
    return chosen_scope, key, chosen_period


def _amount(usd: str) -> int:
    from onetake.core.money import parse_usd

    try:
        micros = parse_usd(usd.removeprefix("$"))
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None
    if micros < 0:
        raise typer.BadParameter("A limit cannot be below zero.")
    return micros


def _percents(thresholds: str) -> list[int]:
    """Percentages in order, each once; `none` is none."""
    if thresholds.strip() == "none":
        return []
    words = [each.strip() for each in thresholds.split(",")]
    percents = sorted({int(each) if re.fullmatch("[0-9]{1,3}", each) else 0 for each in words})
    if not all(1 <= each <= 100 for each in percents):
        raise typer.BadParameter("Thresholds are whole numbers from 1 to 100, such as 50,80,100, or none.")
    return percents


async def warning_of(budgets: "Budgets", scope: Scope, key: str) -> str | None:
    """What to say of a key that nothing is known by: most likely a typing error, and the limit would never apply."""
    if scope in ("route", "vendor"):
        from providers.catalogue import load_catalogue

        catalogue = load_catalogue()
        known: Sequence[str] = catalogue.route_names() if scope == "route" else tuple(catalogue.vendors)
        is_known, where = key in known, f"The catalogue has no {scope} {key!r}"
    else:
        is_known, where = await budgets.seen(scope, key), f"No generation has the {scope} {key!r} yet"
        known = () if is_known else await budgets.recent_keys(scope)
    if is_known:
        return None
    near = get_close_matches(key, known, n=1, cutoff=0)
    return f"Warning: {where}.{f' The nearest that is known is {near[0]!r}.' if near else ''}"


def _show_balances(console: "Console", balances: "Sequence[BudgetBalance]") -> None:
    from rich.table import Table

    from onetake.core.money import format_usd

    if not balances:
        say("There are no budgets: nothing is limited. `onetake budget set` makes one.")
        return
    titles = ("scope", "key", "period", "limit", "held", "spent", "left", "reached", "starts again (UTC)", "time zone")
    table = Table(*titles, box=None, pad_edge=False)
    for balance in balances:
        amounts = (balance.limit_micros, balance.held_micros, balance.spent_micros, balance.available_micros)
        reached = f"{balance.reached_percent} %" if balance.reached_percent else "-"
        again = f"{balance.ends_at.astimezone(UTC):%Y-%m-%d %H:%M}" if balance.ends_at else "never"
        row = (balance.scope, balance.key, balance.period, *map(format_usd, amounts), reached, again, balance.time_zone)
        table.add_row(*row)
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
