"""The rollup of spend is what the journal says, whatever happens in whatever order, and nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetake.core.contracts import Asset, CorrectInput, ReserveInput, SettleInput
from onetake.core.errors import Refused
from onetake.ledger import Database, PostgresLedger
from onetake.ledger.database import Session, connect_once
from onetake.ledger.invariants import violations, violations_of_spend
from onetake.ledger.recoveries import Recoveries
from onetake.ledger.spend import Spend, SpendQuery, SpendReport
from onetake.ledger.tenants import Tenants
from tests.ledger.databases import WAITERS

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
Suspend = Callable[..., Awaitable[str]]

USD = 1_000_000
WAITERS_IN_TURN = f"{WAITERS} and wait_event = 'advisory'"
CLIP = Asset(
    key="k", sha256="0" * 64, size_bytes=1, content_type="video/mp4", duration_s=5.2, width=1, height=1, fps=24,
    codec="h264", has_audio=False,
)  # fmt: skip


def settlement(generation_id: str, **fields: object) -> SettleInput:
    given: dict[str, object] = {"generation_id": generation_id, "attempt": 1, "tenant": "acme", "status": "completed"}
    return SettleInput.model_validate(given | {"resolution": "post", "assets": (CLIP,)} | fields)


def correction(generation_id: str, **fields: object) -> CorrectInput:
    given: dict[str, object] = {"generation_id": generation_id, "attempt": 1, "vendor_task_id": "task_1"}
    given |= {"basis": "vendor_reported", "resolution": "post", "assets": (CLIP,), "who": "recovery", "why": "found it"}
    return CorrectInput.model_validate(given | fields)


async def reported(database: Database, **fields: object) -> SpendReport:
    today = datetime.now(UTC).date()
    period = {"first": today - timedelta(days=2), "last": today + timedelta(days=2)}
    return await Spend(database).report(SpendQuery.model_validate(period | fields))


async def test_each_way_to_end_is_counted_where_its_money_went(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order, suspend: Suspend
) -> None:
    dear, free, refused = await accept(user="ann"), await accept(user="bob", feature="ads"), await accept()
    for generation_id in (dear, free):
        await ledger.reserve(order(generation_id))
    await ledger.settle(settlement(dear, actual_micros=3 * USD // 2, basis="vendor_reported"))
    await ledger.settle(settlement(free, status="canceled", resolution="release", assets=()))
    await ledger.settle(settlement(refused, status="failed", resolution="none", assets=()))
    await suspend("task_1")
    for _ in range(2):  # a repeat counts nothing
        await ledger.settle(settlement(dear, actual_micros=3 * USD // 2, basis="vendor_reported"))
    total = (await reported(database)).total
    assert (total.generations, total.completed, total.failed, total.canceled) == (4, 1, 2, 1)
    assert (total.held_micros, total.released_micros, total.cost_micros) == (3 * USD, USD, 3 * USD // 2)
    assert (total.overrun_micros, total.suspense_micros, total.delivered_ms) == (USD // 2, USD, 5200)
    assert (total.cost_per_second_micros, total.failed_share) == (288_462, 0.5)
    by_user = {row.key: row.cost_micros for row in (await reported(database, by="user")).rows}
    assert by_user == {"acme/ann": 3 * USD // 2, "acme/bob": 0, "acme/": 0}
    assert (await reported(database, user="bob", feature="ads")).total.canceled == 1
    row = await database.answer(
        """select sum(reported_count) as number, sum(reported_micros) as micros, sum(reported_held_micros) as held
        from onetake.spend"""
    )
    assert (row["number"], row["micros"], row["held"]) == (1, 3 * USD // 2, USD)
    assert await violations(database) == []


async def test_a_late_clip_moves_its_generation_and_its_money_on_the_day_of_the_correction(
    database: Database, suspend: Suspend
) -> None:
    generation_id = await suspend("task_1")
    corrected = await Recoveries(database).correct(correction(generation_id, actual_micros=2 * USD))
    assert corrected is not None
    total = (await reported(database, by="vendor")).total
    assert (total.generations, total.completed, total.failed, total.delivered_ms) == (1, 1, 0, 5200)
    assert (total.cost_micros, total.suspense_micros) == (2 * USD, 0)
    assert await violations(database) == []


async def test_a_period_that_corrects_more_failures_than_it_had_has_no_failed_share(
    database: Database, suspend: Suspend
) -> None:
    earlier = await suspend("task_1")
    await database.rows("update onetake.spend set day = day - 9, local_day = local_day - 9")
    corrections = [correction(earlier), correction(await suspend("task_2"), vendor_task_id="task_2")]
    shares = [(await reported(database)).total.failed_share]
    for each in corrections:
        await Recoveries(database).correct(each)
        shares.append((await reported(database)).total.failed_share)
    total = (await reported(database)).total
    assert (total.generations, total.completed, total.failed) == (1, 2, -1)
    assert shares == [1, 0, None]


async def test_a_charge_after_a_release_is_a_correction(
    database: Database, ledger: PostgresLedger, suspend: Suspend
) -> None:
    generation_id = await suspend("task_1")
    await ledger.resolve_suspense(generation_id, 1, to="released", who="ops", why="not on the invoice")
    assert (await reported(database)).total.cost_micros == 0
    await Recoveries(database).correct(correction(generation_id))
    total = (await reported(database)).total
    assert (total.cost_micros, total.corrected_micros, total.suspense_micros) == (USD, USD, 0)
    assert await violations(database) == []


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue"])
async def test_a_tenants_days_are_those_of_its_zone(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order, zone: str
) -> None:
    await Tenants(database).set_zone("acme", zone)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    (entry,) = await ledger.entries(generation_id)
    row = await database.answer("select ($1 at time zone $2)::date::text as day", entry.at, zone)
    assert [each.key for each in (await reported(database, days="tenant")).rows] == [row["day"]]
    assert [each.key for each in (await reported(database)).rows] == [str(entry.at.astimezone(UTC).date())]
    day = date.fromisoformat(row["day"])
    assert (await reported(database, days="tenant", first=day, last=day)).total.held_micros == USD
    assert await violations(database) == []


async def test_a_period_that_ends_before_it_begins_is_refused(database: Database) -> None:
    with pytest.raises(Refused, match="before it begins"):
        await reported(database, last=date(2020, 1, 1))


async def test_nobody_waits_for_a_row_of_the_rollup(
    database: Database, database_url: str, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    first, second, third = [await accept() for _ in range(3)]
    await ledger.reserve(order(first))
    busy, quick = await connect_once(database_url), await connect_once(database_url)
    await quick.execute("set lock_timeout = '2s'")
    async with busy.transaction():
        await reserve_in(busy, second)
        await reserve_in(quick, third)
    await ledger.settle(settlement(first, status="failed", resolution="release", assets=()))
    async with busy.transaction():
        await settle_in(busy, second, "release")
        await settle_in(quick, third, "release")
    rows = await database.rows(
        """select status_class, count(*) as slots, sum(held_micros) as held, sum(released_micros) as released
        from onetake.spend group by status_class order by status_class"""
    )
    assert [tuple(row.values()) for row in rows] == [("failed", 2, 0, 3 * USD), ("open", 2, 3 * USD, 0)]
    for session in (busy, quick):
        await session.close()
    assert await violations(database) == []


@pytest.mark.parametrize("booked", ["hold", "end"])
async def test_a_zone_waits_for_the_first_booking_under_way(
    database: Database, database_url: str, accept: Accept, booked: str
) -> None:
    generation_id, booking = await accept(), await connect_once(database_url)
    async with booking.transaction():
        await (reserve_in(booking, generation_id) if booked == "hold" else settle_in(booking, generation_id, "none"))
        setting = asyncio.create_task(Tenants(database).set_zone("acme", "Pacific/Kiritimati"))
        while not (await booking.fetchval(WAITERS_IN_TURN)):
            assert not setting.done()
            await asyncio.sleep(0.02)
    assert (await setting).next_time_zone == "Pacific/Kiritimati"
    await booking.close()
    assert await violations(database) == []


async def test_a_hold_that_waited_for_a_zone_is_booked_on_its_day(
    database: Database, database_url: str, accept: Accept
) -> None:
    generation_id = await accept()
    setting, booking = await connect_once(database_url), await connect_once(database_url)
    async with setting.transaction():
        await setting.fetchval("select onetake.set_zone('acme', 'Pacific/Kiritimati')")
        held = asyncio.create_task(reserve_in(booking, generation_id))
        while not await setting.fetchval(WAITERS_IN_TURN):
            assert not held.done()
            await asyncio.sleep(0.02)
    await held
    for session in (setting, booking):
        await session.close()
    assert await violations(database) == []


async def test_a_row_of_the_rollup_written_since_a_hold_began_to_book_loses_nothing(
    database: Database, database_url: str, accept: Accept, ledger: PostgresLedger, order: Order
) -> None:
    await Tenants(database).set_zone("acme", "Pacific/Kiritimati")
    first, second = await accept(), await accept()
    await ledger.reserve(order(first))
    await database.rows(
        """create or replace function onetake.day_of(p_tenant text, p_at timestamptz) returns date
        language plpgsql as $$ begin
            perform pg_advisory_xact_lock(1);
            return (p_at at time zone 'Pacific/Kiritimati')::date;
        end $$"""
    )
    writing, booking = await connect_once(database_url), await connect_once(database_url)
    async with writing.transaction():
        await writing.execute("select pg_advisory_xact_lock(1)")
        waiting = asyncio.create_task(reserve_in(booking, second))
        while not await writing.fetchval(WAITERS_IN_TURN):
            assert not waiting.done()
            await asyncio.sleep(0.02)
        await writing.execute("update onetake.spend set held_micros = held_micros")
    await waiting
    for session in (writing, booking):
        await session.close()
    assert await violations(database) == []


async def test_the_proof_of_the_last_days_leaves_out_the_earlier_ones(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await ledger.reserve(order(await accept()))
    today = datetime.now(UTC).date()
    await database.rows(
        """insert into onetake.spend (day, local_day, tenant, user_key, feature, route, vendor, model, status_class,
        generations, delivered_ms, held_micros, posted_micros, released_micros, overrun_micros, suspended_micros,
        decided_micros, decided_posted_micros, corrected_micros, reported_count, reported_micros, reported_held_micros)
        values ($1, $1, 'x', '', '', 'r', 'v', '', 'open', 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)""",
        today - timedelta(days=5),
    )
    assert await violations_of_spend(database, since=today - timedelta(days=1)) == []
    assert len(await violations_of_spend(database)) == 1
    with pytest.raises(Exception, match="OT001"):
        await database.rows("delete from onetake.spend")


async def reserve_in(session: Session, generation_id: str, amount: int = USD) -> None:
    await session.fetch(
        "select onetake.reserve($1, 1, 'acme', null, null, 'r', 'apixo', $2, 'u', 'v')", generation_id, amount
    )


async def settle_in(session: Session, generation_id: str, resolution: str) -> None:
    await session.fetch(
        "select onetake.settle($1, 1, 'failed', $2, null, 'estimate', null, '[]', '[]', null)",
        generation_id,
        resolution,
    )


number = st.integers(0, 3)
call = st.one_of(
    st.tuples(st.just("reserve"), number, st.integers(1, 9)),
    st.tuples(st.just("send"), number),
    st.tuples(
        st.just("settle"),
        number,
        st.sampled_from(["completed", "failed", "canceled"]),
        st.sampled_from(["post", "release", "suspend", "none"]),
        st.none() | st.integers(0, 15),
        st.sampled_from(["estimate", "vendor_reported"]),
    ),
    st.tuples(st.just("resolve"), number, st.sampled_from(["posted", "released"]), st.none() | st.integers(0, 15)),
    st.tuples(st.just("correct"), number, st.none() | st.integers(0, 15)),
)
fate = st.sampled_from(["commit", "commit", "commit", "roll back", "kill"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.lists(st.tuples(call, fate), min_size=1, max_size=4), min_size=2, max_size=8))
async def test_spend_is_the_journal_under_crashes_in_any_order(
    database: Database, database_url: str, accept: Accept, rounds: list[list[tuple[tuple[Any, ...], str]]]
) -> None:
    ids = [await accept(user="ann" if index % 2 else None) for index in range(4)]
    for together in rounds:
        await asyncio.gather(*(one_call(database_url, ids, *each) for each in together))
    assert await violations(database) == []


async def one_call(url: str, ids: list[str], called: tuple[Any, ...], end: str) -> None:
    """Make one call in a transaction of its own that commits, is rolled back, or loses its server process."""
    session: Any = await connect_once(url)
    name, index, *rest = called
    statement = STATEMENTS[name]
    arguments: list[object] = [ids[index], *rest]
    if name == "send":
        arguments.append(f"{ids[index]} task")
    if name in ("settle", "correct"):
        arguments.append(f"[{CLIP.model_dump_json()}]" if called[2] != "failed" else "[]")
    transaction = session.transaction()
    await transaction.start()
    with suppress(asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError):
        await session.fetch(statement, *arguments)
        if end == "kill":
            await session.fetch("select pg_terminate_backend(pg_backend_pid())")
    with suppress(asyncpg.PostgresError, ConnectionError, asyncpg.InterfaceError):
        await (transaction.commit() if end == "commit" else transaction.rollback())
    session.terminate()


STATEMENTS = {
    "reserve": "select onetake.reserve($1, 1, 'acme', null, null, 'r', 'apixo', $2, 'u', 'v')",
    "send": """insert into onetake.submission (generation_id, attempt, vendor, request_sha256, state, vendor_task_id)
        select $1, 1, 'apixo', sha256(''), 'accepted', $2
        where exists (select from onetake.hold where generation_id = $1)""",
    "settle": "select onetake.settle($1, 1, $2, $3, $4, $5, null, $6, '[]', null)",
    "resolve": "select onetake.resolve_suspense($1, 1, $2, $3, 'ops', 'a test')",
    "correct": "select onetake.correct($1, 1, $2, 'vendor_reported', $3, '[]', null, 'ops', 'a test')",
}
