"""A tenant's account by the month: its lines add up, months join without a gap, and what is over stands still."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetake.cli.account_statements import CsvSheet, HtmlSheet
from onetake.core.errors import Failed, Refused
from onetake.core.ids import new_generation_id
from onetake.ledger import Database
from onetake.ledger.account_statements import Account, AccountStatements, Line, Period
from onetake.ledger.database import Session
from tests.ledger.clocks import standing_still
from tests.ledger.databases import fresh_database

MONTHS: Final = (date(2026, 3, 1), date(2026, 4, 1), date(2026, 5, 1))
CHARGES: Final = {"post", "overrun", "correction", "suspense_resolved"}
BEGIN: Final = datetime(2026, 2, 27, tzinfo=UTC)
ENDS: Final = ("held", "posted", "overrun", "released", "suspended", "decided", "dropped", "corrected")


@dataclass(frozen=True)
class Life:
    """The money of one generation: what was held and when, what became of it after how long, and was charged."""

    held_micros: int
    charged_micros: int
    end: str
    minute: int
    after_min: int
    decided_after_min: int

    def entries(self) -> list[tuple[str, int, datetime]]:
        """What the journal has of it: kind, amount and time."""
        held_at = BEGIN + timedelta(minutes=self.minute)
        ended_at = held_at + timedelta(minutes=self.after_min)
        decided_at = ended_at + timedelta(minutes=self.decided_after_min)
        held, charged = self.held_micros, min(self.charged_micros, self.held_micros)
        suspended = [("suspense", held, ended_at)]
        rest = [("release", held - charged, ended_at)] if charged < held else []
        ends = {
            "held": [],
            "posted": [("post", charged, ended_at), *rest],
            "overrun": [("post", held, ended_at), ("overrun", self.charged_micros, ended_at)],
            "released": [("release", held, ended_at)],
            "suspended": suspended,
            "decided": [*suspended, ("suspense_resolved", self.charged_micros, decided_at)],
            "dropped": [*suspended, ("suspense_resolved", 0, decided_at)],
            "corrected": [
                *suspended,
                ("suspense_resolved", 0, decided_at),
                ("correction", held, decided_at + timedelta(days=9)),
            ],
        }
        return [("hold", held, held_at), *ends[self.end]]


lives = st.lists(
    st.builds(
        Life,
        st.integers(1, 9_000_000),
        st.integers(1, 9_000_000),
        st.sampled_from(ENDS),
        st.integers(0, 70 * 1440),
        st.integers(1, 3 * 1440),
        st.integers(1, 40 * 1440),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
async def database(server: Session, server_url: str, template_url: str) -> AsyncIterator[Database]:
    """One for all tests of this file."""
    async with fresh_database(server, server_url, template_url) as url:
        opened = await Database.connect(url)
        yield opened
        await opened.close()


_GENERATION: Final = """
insert into onetake.generation (id, tenant, workflow_id, request_sha256, request, route, vendor, user_key, status,
    phase, ended_at)
select $1, $2, 'gen/' || $1, sha256(''), '{}', 'apixo/wan-2.6/text-to-video', 'apixo', '=ann',
    case when $3 then 'failed' else 'in_progress' end, (case when $3 then 'done' else 'generating' end)::onetake.phase,
    case when $3 then now() end
"""
_HOLD: Final = """
insert into onetake.hold (generation_id, attempt, amount_micros, window_ids, price_version, unit, created_at)
values ($1, 1, $2, '{}', 'v<1>', '$0.10 a second', $3)
"""
_EVENT: Final = """
insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, at)
values ($1, 1, $2, $3, '{}', $4)
"""


async def booked(database: Database, tenant: str, living: list[Life]) -> None:
    """Write what the functions of the ledger would have written at those times."""
    for life in living:
        generation_id = str(new_generation_id())
        await database.row(_GENERATION, generation_id, tenant, life.end != "held")
        await database.row(_HOLD, generation_id, life.held_micros, life.entries()[0][2])
        for kind, amount, at in life.entries():
            await database.row(_EVENT, generation_id, kind, amount, at)


@dataclass(frozen=True)
class Made:
    period: Period
    opening: Account
    lines: list[Line]
    closing: Account
    csv: str
    html: str


async def made(database: Database, tenant: str, month: date) -> Made:
    statements = AccountStatements(database)
    period = await statements.period(tenant, month)
    opening, account = await statements.opening(period), await statements.opening(period)
    table, page = io.StringIO(newline=""), io.StringIO(newline="")
    sheets = (CsvSheet(table), HtmlSheet(page))
    for sheet in sheets:
        sheet.begin(period, opening)
    lines = [line async for line in statements.lines(period, account)]
    for sheet in sheets:
        for line in lines:
            sheet.line(line)
        sheet.end(account)
    return Made(period, opening, lines, account, table.getvalue(), page.getvalue())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(living=lives, zone=st.sampled_from(["UTC", "Pacific/Kiritimati", "America/Los_Angeles"]))
async def test_months_join_and_their_lines_add_up(database: Database, living: list[Life], zone: str) -> None:
    tenant = f"t{new_generation_id()}"[:40]
    await database.row("select onetake.set_zone($1, $2)", tenant, zone)
    await booked(database, tenant, [*living, Life(1, 1, "held", 0, 1, 1)])
    all_made = [
        await made(database, tenant, month) for month in (date(2026, 2, 1), *MONTHS, date(2026, 6, 1), date(2026, 7, 1))
    ]

    assert (all_made[0].opening.held_micros, all_made[0].opening.suspense_micros) == (0, 0)
    for earlier, later in pairwise(all_made):
        assert earlier.period.ends_at == later.period.starts_at
        assert earlier.closing.held_micros == later.opening.held_micros
        assert earlier.closing.suspense_micros == later.opening.suspense_micros
    booked_lines = sorted((line.kind, line.amount_micros) for each in all_made for line in each.lines)
    written = [(kind, amount) for life in living for kind, amount, _ in life.entries()]
    assert booked_lines == sorted([*written, ("hold", 1)])
    for each in all_made:
        assert all(each.period.starts_at <= line.at < each.period.ends_at for line in each.lines)
        charged = [
            line.amount_micros
            for line in each.lines
            if line.kind in {"post", "overrun", "correction", "suspense_resolved"}
        ]
        assert each.closing.charged_micros == sum(charged)
        if each.lines:
            last = each.lines[-1]
            balances = (each.closing.held_micros, each.closing.suspense_micros, each.closing.charged_micros)
            assert (last.held_micros, last.suspense_micros, last.charged_micros) == balances


async def test_a_late_entry_stands_where_it_was_booked_and_names_its_month(database: Database) -> None:
    await booked(database, "late", [Life(1_000_000, 400_000, "decided", 20 * 1440, 5, 30 * 1440)])
    march, april = await made(database, "late", MONTHS[0]), await made(database, "late", MONTHS[1])
    assert [(line.kind, line.belongs_to) for line in march.lines] == [("hold", None), ("suspense", None)]
    assert [(line.kind, line.belongs_to) for line in april.lines] == [("suspense_resolved", MONTHS[0])]
    assert (april.opening.suspense_micros, april.closing.suspense_micros, april.closing.charged_micros) == (
        1_000_000,
        0,
        400_000,
    )
    (row,) = [row for row in csv.DictReader(io.StringIO(april.csv)) if row["kind"] == "suspense_resolved"]
    assert (row["belongs_to"], row["amount_usd"], row["user"], row["price_version"]) == (
        "2026-03",
        "0.400000",
        "'=ann",
        "v<1>",
    )
    assert "belongs to March 2026" in april.html
    assert "v&lt;1&gt;" in april.html
    assert "<script" not in april.html


async def test_a_month_that_is_over_is_written_the_same_twice_and_one_that_is_not_says_so(database: Database) -> None:
    await booked(
        database, "twice", [Life(1_000_000, 1, end, 20 * 1440 + number, 5, 60) for number, end in enumerate(ENDS)]
    )
    first = await made(database, "twice", MONTHS[0])
    await asyncio.sleep(0.01)
    await booked(database, "another", [Life(5, 5, "posted", 20 * 1440, 5, 5)])
    second = await made(database, "twice", MONTHS[0])
    assert (first.csv, first.html) == (second.csv, second.html)
    assert first.period.as_of is None

    lately = Life(7, 7, "held", int((datetime.now(UTC) - BEGIN).total_seconds() // 60) - 1, 5, 5)
    await booked(database, "twice", [lately])
    its_month = lately.entries()[0][2].date().replace(day=1)
    this = await made(database, "twice", its_month)
    assert this.closing.held_micros == 1_000_007
    if its_month == datetime.now(UTC).date().replace(day=1):  # else it has just ended
        assert this.period.as_of is not None
        assert "as of" in this.html


@pytest.mark.parametrize(
    ("zone", "now"),
    [("Asia/Tokyo", datetime(2026, 3, 31, 20, tzinfo=UTC)), ("UTC", datetime(2026, 4, 1, 0, 3, tzinfo=UTC))],
)
async def test_a_month_that_has_just_ended_has_no_entry_of_the_next(
    server: Session, server_url: str, template_url: str, zone: str, now: datetime
) -> None:
    async with fresh_database(server, server_url, template_url) as url, standing_still(url) as still:
        await still.row("update still.time set at = $1", now)
        await still.row("select onetake.set_zone('late', $1)", zone)
        earlier, just_now = Life(2, 1, "held", 20 * 1440, 1, 1), Life(5, 5, "posted", minutes_before(now, 2), 1, 1)
        await booked(still, "late", [earlier, just_now])
        march, april = await made(still, "late", MONTHS[0]), await made(still, "late", MONTHS[1])
    assert march.period.as_of is not None
    assert [line.kind for line in march.lines] == ["hold"]
    assert [line.kind for line in april.lines] == ["hold", "post"]
    assert (march.closing.charged_micros, april.closing.charged_micros) == (0, 5)
    assert (march.closing.held_micros, april.opening.held_micros) == (2, 2)
    (closing,) = [row for row in csv.DictReader(io.StringIO(march.csv)) if row["kind"] == "closing"]
    assert closing["at"] == march.period.ends_at.isoformat()


def minutes_before(now: datetime, minutes: int) -> int:
    return int((now - BEGIN).total_seconds()) // 60 - minutes


async def test_what_does_not_add_up_is_not_handed_out(database: Database) -> None:
    await booked(database, "wrong", [Life(1_000_000, 1, "posted", 20 * 1440, 5, 5)])
    await database.row(
        "update onetake.spend set held_micros = held_micros + 1 where tenant = 'wrong' and held_micros > 0"
    )
    with pytest.raises(Failed):
        await made(database, "wrong", MONTHS[0])


async def test_an_unknown_tenant_and_a_month_to_come_are_refused(database: Database) -> None:
    await booked(database, "known", [Life(1, 1, "held", 0, 1, 1)])
    statements = AccountStatements(database)
    with pytest.raises(Refused, match="Did you mean 'known'"):
        await statements.period("knwon", MONTHS[0])
    with pytest.raises(Refused, match="2999-01 has not begun"):
        await statements.period("known", date(2999, 1, 1))
    assert (await made(database, "known", date(2020, 2, 1))).lines == []
