"""Drift: what vendors report against what was held, by route and week; an alarm once a day."""

from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.ledger import Database, PostgresLedger
from onetake.ledger.drift import Drifts

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
ROUTE = "apixo/wan-2.6/text-to-video"


@pytest.fixture
def reported(ledger: PostgresLedger, accept: Accept, order: Order) -> Callable[..., Awaitable[None]]:
    """End a generation for which a dollar was held, at the cost that its vendor reports; None: at the pinned price."""

    async def reported(micros: int | None) -> None:
        generation_id = await accept()
        await ledger.reserve(order(generation_id))
        settled = SettleInput(
            generation_id=generation_id,
            attempt=1,
            tenant="acme",
            status="completed",
            resolution="post",
            actual_micros=micros,
            basis="pinned_price" if micros is None else "vendor_reported",
        )
        await ledger.settle(settled)

    return reported


async def test_reports_are_compared_with_what_was_held_for_them(
    database: Database, reported: Callable[..., Awaitable[None]]
) -> None:
    for micros in (1_000_000, 1_100_000, 1_200_000, None):
        await reported(micros)
    (week,) = await Drifts(database).weeks()
    assert (week.route, week.count, week.expected_micros, week.reported_micros) == (ROUTE, 3, 3_000_000, 3_300_000)
    assert week.percent == Decimal("10.0")
    assert (week.week.weekday(), week.is_beyond(Decimal(10)), week.is_beyond(Decimal("9.9"))) == (0, False, True)


async def test_an_overrun_that_is_booked_beside_the_row_of_its_post_is_counted(
    database: Database, reported: Callable[..., Awaitable[None]]
) -> None:
    await database.row("create sequence public.entries")
    await database.row(  # the post at the last moment of Monday, the overrun at the first of Tuesday
        """alter table onetake.event alter at set default date_trunc('week', now(), 'UTC') + interval '1 day'
        - case when nextval('public.entries') % 2 = 0 then interval '1 microsecond' else interval '0' end"""
    )
    await reported(1_500_000)
    rows = await database.rows("select reported_count, reported_micros from onetake.spend where reported_micros > 0")
    assert sorted(tuple(row.values()) for row in rows) == [(0, 500_000), (1, 1_000_000)]
    (week,) = await Drifts(database).weeks()
    assert (week.count, week.expected_micros, week.reported_micros) == (1, 1_000_000, 1_500_000)


async def test_costs_that_fall_are_drift_too(database: Database, reported: Callable[..., Awaitable[None]]) -> None:
    await reported(900_000)
    (week,) = await Drifts(database).weeks()
    assert week.is_beyond(Decimal(5))


async def test_an_alarm_is_raised_once_a_day(database: Database, reported: Callable[..., Awaitable[None]]) -> None:
    await reported(1_060_000)
    drifts = Drifts(database)
    assert await drifts.take_alarms(Decimal(10)) == []
    assert [each.route for each in await drifts.take_alarms(Decimal(5))] == [ROUTE]
    assert await drifts.take_alarms(Decimal(5)) == []
    await database.row("update onetake.drift_alarm set day = day - 1")
    assert [each.route for each in await drifts.take_alarms(Decimal(5))] == [ROUTE]
