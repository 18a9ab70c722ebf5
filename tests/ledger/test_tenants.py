"""Tenants have calendars of their own, whose months keep their bounds once they have begun."""

from collections.abc import Awaitable, Callable
from datetime import date

import pytest

from onetake.core.contracts import ReserveInput
from onetake.core.errors import Refused
from onetake.ledger import Database, PostgresLedger
from onetake.ledger.tenants import Tenants
from tests.ledger.clocks import standing_still

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]


async def test_a_new_tenant_has_its_zone_from_ever_also_when_it_is_set_again(database: Database) -> None:
    tenants = Tenants(database)
    await tenants.set_zone("acme", "Europe/Berlin")
    again = await tenants.set_zone("acme", "Asia/Tokyo")
    assert (again.time_zone, again.next_time_zone) == ("Asia/Tokyo", None)
    row = await database.answer("select onetake.zone_of('acme', '1999-01-01') as zone")
    assert row["zone"] == "Asia/Tokyo"


async def test_a_tenant_with_a_journal_keeps_its_zone_until_the_next_month(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    tenants = Tenants(database)
    await ledger.reserve(order(await accept()))
    zone = await tenants.set_zone("acme", "Europe/Berlin")
    assert (zone.time_zone, zone.next_time_zone) == ("UTC", "Europe/Berlin")
    row = await database.answer(
        """select onetake.zone_of('acme', $1) as from_then, onetake.zone_of('acme', ($1 - interval '1 month')::date)
        as before""",
        zone.next_from,
    )
    assert (row["from_then"], row["before"]) == ("Europe/Berlin", "UTC")
    assert await tenants.set_zone("acme", "Europe/Berlin") == zone
    assert await tenants.zones() == [zone]
    assert (await database.answer("select count(*) from onetake.tenant_zone"))["count"] == 1


@pytest.mark.parametrize(
    ("at", "zone", "coming"),
    [
        ("2026-11-30 12:00Z", "Europe/Berlin", ("Asia/Tokyo", date(2026, 12, 1))),  # Berlin comes a month later
        ("2026-11-16 12:00Z", "Europe/Berlin", ("Europe/Berlin", date(2026, 12, 1))),
        ("2026-11-16 12:00Z", "UTC", (None, None)),
    ],
)
async def test_of_the_zones_to_come_the_one_that_comes_first_is_shown(
    database_url: str, accept: Accept, order: Order, at: str, zone: str, coming: tuple[str | None, date | None]
) -> None:
    generation_id = await accept()
    async with standing_still(database_url) as database:
        await PostgresLedger(database).reserve(order(generation_id))
        tenants = Tenants(database)
        for moment, name in (("2026-11-15 00:00Z", "Asia/Tokyo"), (at, zone)):
            await database.row("update still.time set at = $1::text::timestamptz", moment)
            shown = await tenants.set_zone("acme", name)
        assert (shown.time_zone, shown.next_time_zone, shown.next_from) == ("UTC", *coming)


async def test_a_generation_that_ended_without_a_hold_is_booked_as_well(database: Database, accept: Accept) -> None:
    generation_id = await accept()
    assert (await database.answer("select onetake.expire($1, '{}') as done", generation_id))["done"]
    assert (await Tenants(database).set_zone("acme", "Europe/Berlin")).time_zone == "UTC"


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-10-31 22:59Z", "2026-10-31"),  # UTC counts for October,
        ("2026-10-31 23:00Z", "2026-11-01"),  # and Berlin for November
        ("2026-11-30 22:59Z", "2026-11-30"),
        ("2026-11-30 23:00Z", "2026-12-01"),  # the zone that was set within a day of December does not count yet
        ("2026-12-31 15:00Z", "2026-12-31"),
        ("2027-01-01 00:00Z", "2026-12-31"),  # Honolulu's January begins ten hours after Berlin's, which has to wait
        ("2027-01-01 10:00Z", "2027-01-01"),
        ("2027-02-01 09:59Z", "2027-01-31"),
    ],
)
async def test_every_moment_has_one_day_of_its_month(database: Database, moment: str, day: str) -> None:
    await database.rows(
        """insert into onetake.tenant_zone (tenant, since, time_zone) values
        ('acme', '2026-10-30 23:59Z', 'Europe/Berlin'), ('acme', '2026-11-30 00:01Z', 'Pacific/Honolulu')"""
    )
    row = await database.answer("select onetake.day_of('acme', $1::text::timestamptz)::text as day", moment)
    assert row["day"] == day


async def test_a_zone_that_does_not_exist_changes_nothing(database: Database) -> None:
    with pytest.raises(Refused, match="Did you mean 'Europe/Berlin'"):
        await Tenants(database).set_zone("acme", "Europe/Berlim")
    with pytest.raises(Refused, match="No tenant can be"):
        await Tenants(database).set_zone(" ", "UTC")
    assert await Tenants(database).zones() == []
