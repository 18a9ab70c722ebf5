"""What the books hold, in one statement."""

from collections.abc import Awaitable, Callable

import pytest

from onetake.ledger import Database
from onetake.ledger.books import Books, Totals

NOTHING = Totals(
    held_micros=0, suspense_micros=0, suspended=0, oldest_s=0.0, open_by_phase={}, paused=frozenset(), backups={}
)


async def test_empty_books_hold_nothing(database: Database) -> None:
    assert await Books(database).totals() == NOTHING


async def test_the_totals_are_those_of_the_rows(
    database: Database, accept: Callable[..., Awaitable[str]], suspend: Callable[[str], Awaitable[str]]
) -> None:
    await suspend("job-1")
    await suspend("job-2")
    await accept()
    await database.row("insert into onetake.circuit values ('gmi', '', 1, 'vendor_auth', now())")
    await database.row("select onetake.note_backup('base', 'b1')")
    totals = await Books(database).totals()
    assert (totals.suspended, totals.suspense_micros, totals.held_micros) == (2, 2_000_000, 0)
    assert 0 < totals.oldest_s < 600
    (count, age_s) = totals.open_by_phase["accepted"]
    assert (count, 0 <= age_s < 600, list(totals.open_by_phase)) == (1, True, ["accepted"])
    assert totals.paused == {"gmi"}
    assert totals.backups["base"] == pytest.approx((await now(database)), abs=600)


async def now(database: Database) -> float:
    return (await database.answer("select extract(epoch from now())::float8 as at"))["at"]
