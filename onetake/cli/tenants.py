"""Verbs for tenants: the time zones in which their days and months begin."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from onetake.cli.accounts import warning_of
from onetake.cli.answer import Answer, say
from onetake.cli.database import with_database
from onetake.cli.options import group_of_verbs, register

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.database import Database
    from onetake.ledger.tenants import TenantZone


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    tenant = group_of_verbs(app, "tenant", "Tenants and their time zones.")
    register(tenant, zone, "onetake tenant zone acme Europe/Berlin", "onetake tenant zone acme America/New_York --json")
    register(tenant, show, "onetake tenant show", "onetake tenant show acme --json")


def zone(
    tenant: Annotated[str, typer.Argument(help="Which tenant.", metavar="TENANT")],
    time_zone: Annotated[str, typer.Argument(help="Such as Europe/Berlin.", metavar="ZONE")],
) -> Answer:
    """Set where a tenant's days and months begin. From the next month on, so that no month changes its bounds.

    A tenant of which nothing is booked yet has the zone at once. A month that begins within a day keeps the old zone.
    """

    async def work(database: "Database") -> "tuple[TenantZone, str | None]":
        from onetake.ledger.budgets import Budgets
        from onetake.ledger.tenants import Tenants

        zone_now = await Tenants(database).set_zone(tenant, time_zone)
        return zone_now, await warning_of(Budgets(database), "tenant", tenant)

    zone_now, warning = with_database(work)
    if warning:
        say(warning)
    document = {**zone_now.model_dump(mode="json"), "warning": warning}
    return Answer(document, lambda console: _show_zones(console, [zone_now]))


def show(
    tenant: Annotated[str | None, typer.Argument(help="Only this one.", metavar="TENANT", show_default=False)] = None,
) -> Answer:
    """Show tenants with the time zone of their days and months, and the one that comes next."""

    async def work(database: "Database") -> "Sequence[TenantZone]":
        from onetake.ledger.tenants import Tenants

        return await Tenants(database).zones(tenant)

    zones = with_database(work)
    document = {"tenants": [each.model_dump(mode="json") for each in zones]}
    return Answer(document, lambda console: _show_zones(console, zones))


def _show_zones(console: "Console", zones: "Sequence[TenantZone]") -> None:
    from rich.table import Table

    if not zones:
        say("No such tenant has a generation or a time zone.")
        return
    table = Table("tenant", "time zone", "next", "from", box=None, pad_edge=False)
    for each in zones:
        table.add_row(each.tenant, each.time_zone, each.next_time_zone or "-", str(each.next_from or "-"))
    console.print(table)
