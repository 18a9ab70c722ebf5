"""How fast a vendor is called that has answered 429: one rate for submissions and one for reads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import pairwise

import pytest

from onetake.ledger import Database
from onetake.ledger.database import connect_once
from onetake.ledger.rates import PostgresRates
from onetake.ledger.vendors import PostgresVendors
from tests.ledger.clocks import pass_by, standing_still
from tests.ledger.databases import WAITERS

FIRST_READS_PER_S = 5.0
SECONDS = 60

Later = Callable[[float], Awaitable[None]]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """What is asserted of moments and rates holds however long a call takes: only `later` lets time pass."""
    async with standing_still(database_url) as database:
        yield database


@pytest.fixture
def rates(database: Database) -> PostgresRates:
    return PostgresRates(database)


@pytest.fixture
def later(database: Database) -> Later:
    """Let so many seconds pass."""
    return partial(pass_by, database)


async def per_s(database: Database, purpose: str = "read") -> float:
    row = await database.answer("select per_s from onetake.vendor_rate where purpose = $1", purpose)
    return row["per_s"]


async def count_of(database: Database) -> int:
    return (await database.answer("select count(*) as n from onetake.vendor_rate"))["n"]


async def test_a_vendor_that_never_said_429_is_called_at_once_and_nothing_is_counted(
    rates: PostgresRates, database: Database
) -> None:
    assert [await rates.read_turn_s("apixo") for _ in range(20)] == [0.0] * 20
    assert await rates.submit_turn_s("apixo", "gen_none", returning=False, gap_s=5) == 0
    assert await count_of(database) == 0


async def test_calls_that_are_refused_together_halve_the_rate_once(
    rates: PostgresRates, database: Database, later: Later
) -> None:
    for _ in range(5):
        await rates.read_refused("apixo", None)
    assert await per_s(database) == FIRST_READS_PER_S
    await later(10)
    for _ in range(5):
        await rates.read_refused("apixo", None)
    assert await per_s(database) == FIRST_READS_PER_S / 2


async def test_those_who_are_refused_come_back_one_after_the_other(rates: PostgresRates) -> None:
    moments = [await rates.read_refused("apixo", None) for _ in range(50)]
    gaps = [after - before for before, after in pairwise(moments)]
    assert moments[-1] == pytest.approx(50 / FIRST_READS_PER_S, rel=0.1)
    assert min(gaps) > 0.5 / FIRST_READS_PER_S


async def test_no_more_calls_go_than_the_rate_allows_and_it_grows_while_they_are_taken(
    rates: PostgresRates, database: Database, later: Later
) -> None:
    await rates.read_refused("apixo", None)
    went = 0
    for _ in range(SECONDS * 5):
        await later(0.2)
        went += sum([await rates.read_turn_s("apixo", returning=True) == 0 for _ in range(4)])
    grown = await per_s(database)
    assert FIRST_READS_PER_S * 2 < grown < FIRST_READS_PER_S * 3
    assert FIRST_READS_PER_S * SECONDS < went < grown * SECONDS


async def test_the_rate_is_the_deployments_and_not_that_of_a_process(database: Database, later: Later) -> None:
    """Eight processes make no more calls together than one would."""
    processes = [PostgresRates(database) for _ in range(8)]
    await processes[0].read_refused("apixo", None)
    went = 0
    for _ in range(SECONDS):
        await later(1)
        turns = [await each.read_turn_s("apixo", returning=True) for each in processes for _ in range(4)]
        went += turns.count(0)
    grown = await per_s(database)
    assert FIRST_READS_PER_S * SECONDS / 3 < went < grown * SECONDS  # nobody asks again before the second is over


async def test_who_has_waited_goes_before_who_comes_now_and_recoveries_go_last(
    rates: PostgresRates, later: Later
) -> None:
    for _ in range(20):
        await rates.read_refused("apixo", None)
    await later(0.5)
    assert await rates.read_turn_s("apixo", behind=True) > 0
    assert await rates.read_turn_s("apixo", returning=True, behind=True) > 0
    assert await rates.read_turn_s("apixo") > 0
    assert await rates.read_turn_s("apixo", returning=True) == 0
    await later(60)
    assert await rates.read_turn_s("apixo", behind=True) == 0


async def test_a_time_that_the_vendor_names_is_kept_by_all_calls_of_its_kind(
    rates: PostgresRates, later: Later
) -> None:
    assert 30 <= await rates.read_refused("apixo", 30.0) <= 31
    assert 30 <= await rates.read_refused("apixo", 5.0) <= 31
    assert await rates.read_turn_s("apixo", returning=True) > 29
    assert await rates.read_turn_s("gmi") == 0
    await later(31)
    assert await rates.read_turn_s("apixo", returning=True) == 0


async def test_a_refused_submission_silences_no_read_and_a_refused_read_no_submission(rates: PostgresRates) -> None:
    await rates.submission_refused("apixo", "gen_none", 60.0, gap_s=5)
    assert await rates.read_turn_s("apixo") == 0
    assert await rates.submit_turn_s("apixo", "gen_none", returning=True, gap_s=5) > 50
    await rates.read_refused("gmi", 60.0)
    assert await rates.submit_turn_s("gmi", "gen_none", returning=True, gap_s=5) == 0


async def test_nobody_is_told_to_come_back_in_hours(rates: PostgresRates) -> None:
    assert max([await rates.submission_refused("apixo", "gen_none", None, gap_s=5) for _ in range(500)]) <= 300


async def test_after_an_hour_it_is_forgotten(rates: PostgresRates, database: Database, later: Later) -> None:
    await rates.read_refused("apixo", None)
    await later(10)
    await rates.read_refused("apixo", None)
    assert "apixo" in await PostgresVendors(database).states()
    await later(3600)
    assert await PostgresVendors(database).states() == {}
    assert [await rates.read_turn_s("apixo") for _ in range(20)] == [0.0] * 20
    await rates.read_refused("apixo", None)
    assert await per_s(database) == FIRST_READS_PER_S


async def test_who_waited_for_the_lock_of_a_rate_that_is_forgotten_may_call(
    rates: PostgresRates, database: Database, database_url: str
) -> None:
    await rates.read_refused("apixo", 60.0)
    other = await connect_once(database_url)
    async with other.transaction():
        await other.execute("delete from onetake.vendor_rate")
        waiting = asyncio.create_task(rates.read_turn_s("apixo"))
        while not (await database.answer(WAITERS))["count"]:
            await asyncio.sleep(0.01)
    assert await waiting == 0
    await other.close()
