"""Budgets live in windows of the database's clock and may be changed while they are in use."""

from collections.abc import Awaitable, Callable

import pytest

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.errors import NoMoney, Refused
from onetake.core.names import Scope
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger.invariants import violations

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]

USD = 1_000_000


async def set_clock(database: Database, moment: str) -> None:
    """Turn the database's clock of budget windows."""
    await database.rows(
        "create or replace function onetake.clock() returns timestamptz language sql stable"
        f" as $$select timestamptz '{moment}'$$"
    )


@pytest.mark.parametrize(
    ("period", "zone", "moment", "starts", "ends"),
    [
        ("day", "UTC", "2026-11-21 23:59:59Z", "2026-11-21 00:00Z", "2026-11-22 00:00Z"),
        ("day", "Asia/Shanghai", "2026-11-21 16:00Z", "2026-11-21 16:00Z", "2026-11-22 16:00Z"),
        ("day", "Europe/Berlin", "2026-03-29 12:00Z", "2026-03-28 23:00Z", "2026-03-29 22:00Z"),  # 23 hours long
        ("day", "America/Havana", "2026-11-01 04:30Z", "2026-11-01 04:00Z", "2026-11-02 05:00Z"),  # two midnights
        ("day", "America/Havana", "2026-11-01 05:30Z", "2026-11-01 04:00Z", "2026-11-02 05:00Z"),
        ("day", "America/Havana", "2026-10-31 12:00Z", "2026-10-31 04:00Z", "2026-11-01 04:00Z"),
        ("month", "America/Havana", "2026-10-31 12:00Z", "2026-10-01 04:00Z", "2026-11-01 04:00Z"),
        ("day", "America/Havana", "2026-03-08 12:00Z", "2026-03-08 05:00Z", "2026-03-09 04:00Z"),  # and none
        ("day", "Africa/Cairo", "2026-10-29 21:30Z", "2026-10-28 21:00Z", "2026-10-29 22:00Z"),  # 23:00 twice
        ("month", "UTC", "2028-02-29 12:00Z", "2028-02-01 00:00Z", "2028-03-01 00:00Z"),
        ("month", "America/New_York", "2026-11-01 03:59Z", "2026-10-01 04:00Z", "2026-11-01 04:00Z"),
        ("total", "UTC", "2026-11-21 00:00Z", "-infinity", "infinity"),
    ],
)
async def test_windows_follow_the_calendar_of_the_budgets_time_zone(
    database: Database, period: str, zone: str, moment: str, starts: str, ends: str
) -> None:
    row = await database.answer(
        """select onetake.window_start($1, $2, $3::text::timestamptz) = $4::text::timestamptz as starts,
        onetake.window_end($1, $2, $3::text::timestamptz) = $5::text::timestamptz as ends""",
        period,
        zone,
        moment,
        starts,
        ends,
    )
    assert (row["starts"], row["ends"]) == (True, True)


@pytest.mark.parametrize("zone", ["America/Havana", "Atlantic/Azores", "Africa/Cairo", "Asia/Beirut", "America/Nuuk"])
@pytest.mark.parametrize("period", ["day", "month"])
async def test_every_moment_lies_in_its_window_and_the_next_one_begins_where_it_ends(
    database: Database, zone: str, period: str
) -> None:
    rows = await database.rows(
        """select moment from (
            select moment, onetake.window_start($1, $2, moment) as starts, onetake.window_end($1, $2, moment) as ends
            from generate_series(timestamptz '2026-01-01Z', '2027-12-31Z', '30 minutes') as moment) w
        where moment < starts or moment >= ends or onetake.window_start($1, $2, ends) <> ends""",
        period,
        zone,
    )
    assert [str(row["moment"]) for row in rows] == []


async def test_a_new_day_has_a_new_window_and_old_holds_settle_in_their_own(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await set_clock(database, "2026-11-21 22:59Z")  # one minute to midnight in Berlin
    await budgets.set_budget("tenant", "acme", "day", USD, time_zone="Europe/Berlin")
    before, after = await accept(), await accept()
    await ledger.reserve(order(before))
    with pytest.raises(NoMoney, match="2026-11-21 23:00 UTC"):
        await ledger.reserve(order(after))

    await set_clock(database, "2026-11-21 23:00Z")
    await ledger.reserve(order(after))
    settlement = {"generation_id": before, "attempt": 1, "tenant": "acme", "status": "completed", "resolution": "post"}
    await ledger.settle(SettleInput.model_validate(settlement))
    rows = await database.rows("select held_micros, spent_micros from onetake.budget_window order by starts_at")
    assert [(row["held_micros"], row["spent_micros"]) for row in rows] == [(0, USD), (USD, 0)]
    (today,) = await budgets.show_budgets()
    assert (today.held_micros, today.spent_micros, today.available_micros) == (USD, 0, 0)
    assert await violations(database) == []


async def test_a_lower_limit_lets_running_ones_finish_and_refuses_new_ones(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "month", 3 * USD)
    running = await accept()
    await ledger.reserve(order(running, 2 * USD))
    await budgets.set_budget("tenant", "acme", "month", USD)
    (lowered,) = await budgets.show_budgets()
    assert (lowered.limit_micros, lowered.overrun_micros, lowered.available_micros) == (USD, USD, -USD)
    with pytest.raises(NoMoney):
        await ledger.reserve(order(await accept(), 1))

    settlement = {"generation_id": running, "attempt": 1, "tenant": "acme", "status": "failed", "resolution": "release"}
    await ledger.settle(SettleInput.model_validate(settlement))
    (freed,) = await budgets.show_budgets()
    assert (freed.overrun_micros, freed.available_micros) == (0, USD)
    assert await violations(database) == []


async def test_a_higher_limit_counts_at_once(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    generation_id = await accept()
    await budgets.set_budget("tenant", "acme", "day", USD - 1)
    with pytest.raises(NoMoney):
        await ledger.reserve(order(generation_id))
    await budgets.set_budget("tenant", "acme", "day", USD)
    assert (await ledger.reserve(order(generation_id))).budgets == 1


async def test_an_unused_budget_shows_zeros(budgets: Budgets) -> None:
    await budgets.set_budget("vendor", "apixo", "total", 5 * USD)
    (row,) = await budgets.show_budgets()
    assert (row.held_micros, row.spent_micros, row.overrun_micros, row.available_micros) == (0, 0, 0, 5 * USD)
    assert (row.starts_at, row.ends_at, row.reached_percent) == (None, None, 0)


@pytest.mark.parametrize(("used", "reached"), [(499, 0), (500, 50), (799, 50), (800, 80), (999, 80), (1000, 100)])
async def test_a_budget_shows_the_threshold_that_it_reached(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order, used: int, reached: int
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 1000)
    await ledger.reserve(order(await accept(), used))
    (row,) = await budgets.show_budgets()
    assert row.reached_percent == reached


async def test_a_removed_budget_limits_nothing_and_its_holds_still_resolve(
    database: Database, ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    held = await accept()
    await ledger.reserve(order(held))
    journal = await ledger.entries(held)
    await budgets.remove_budget("tenant", "acme", "day")
    assert await budgets.show_budgets() == []
    assert await ledger.entries(held) == journal
    free = await accept()
    assert (await ledger.reserve(order(free, 5 * USD))).budgets == 0

    settlement = {"generation_id": held, "attempt": 1, "tenant": "acme", "status": "completed", "resolution": "post"}
    await ledger.settle(SettleInput.model_validate(settlement))
    assert await violations(database) == []
    with pytest.raises(Refused, match="no day budget of tenant acme"):
        await budgets.remove_budget("tenant", "acme", "day")

    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    (again,) = await budgets.show_budgets()
    assert (again.held_micros, again.spent_micros, again.overrun_micros) == (5 * USD, USD, 4 * USD)
    assert await violations(database) == []


async def test_a_budget_that_means_nothing_is_refused(budgets: Budgets) -> None:
    with pytest.raises(Refused, match="TENANT/USER"):
        await budgets.set_budget("user", "ann", "day", USD)
    with pytest.raises(Refused, match="below zero"):
        await budgets.set_budget("tenant", "acme", "day", -1)
    with pytest.raises(Refused, match="no time zone 'Mars/Olympus'"):
        await budgets.set_budget("tenant", "acme", "day", 1, time_zone="Mars/Olympus")
    with pytest.raises(Refused, match="Did you mean 'Europe/Berlin'"):
        await budgets.set_budget("tenant", "acme", "day", 1, time_zone="europe/berlni")
    with pytest.raises(Refused, match="needs a key"):
        await budgets.set_budget("tenant", " ", "day", 1)
    never: list[tuple[Scope, str]] = [
        ("tenant", "Café"),
        ("tenant", "acme/ann"),
        ("user", "Acme/ann"),
        ("feature", "é/x"),
    ]
    for scope, key in never:
        with pytest.raises(Refused, match="No tenant can be"):
            await budgets.set_budget(scope, key, "day", 1)
    assert await budgets.show_budgets() == []
