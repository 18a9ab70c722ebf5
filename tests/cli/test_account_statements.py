"""`onetake statement` on a database alone: what is shown, what is written, and what is refused."""

import asyncio
import csv
import io
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from onetake.ledger import Database
from tests.cli.processes import Finished, bare_environment, run

Cli = Callable[..., Awaitable[Finished]]
Suspend = Callable[..., Awaitable[str]]


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    async def call(*words: str) -> Finished:
        env = bare_environment(ONETAKE_DATABASE_URL=database_url)
        return await asyncio.to_thread(run, *words, env=env, cwd=tmp_path)

    return call


def where_it_is_noon() -> str:
    """A zone in which no month ends within hours."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"  # its sign is the other one


async def test_a_month_is_shown_and_written_to_files(
    cli: Cli, suspend: Suspend, database: Database, tmp_path: Path
) -> None:
    zone = where_it_is_noon()
    await database.row("select onetake.set_zone('acme', $1)", zone)
    month = f"{datetime.now(ZoneInfo(zone)):%Y-%m}"
    generation_id = await suspend("one")
    shown = await cli("statement", "acme", month)
    assert "In suspense at the closing" in shown.stdout
    assert "$1.00" in shown.stdout
    written = await cli("statement", "acme", month, "--csv", "acme.csv", "--html", "acme.html", "--json")
    assert (written.code, written.document["closing"]) == (0, {"held_micros": 0, "suspense_micros": 1_000_000})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["acme.csv", "acme.html"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "acme.csv").read_text(encoding="utf-8"))))
    assert [row["kind"] for row in rows] == ["opening", "hold", "suspense", "closing"]
    assert {row["generation"] for row in rows[1:3]} == {generation_id}
    assert generation_id in (tmp_path / "acme.html").read_text(encoding="utf-8")
    piped = await cli("statement", "acme", month, "--csv", "-")
    kinds = [row["kind"] for row in csv.DictReader(io.StringIO(piped.stdout))]
    assert kinds == ["opening", "hold", "suspense", "closing"]


WRONG = [
    (("acme", "2026-13"), "is not a month"),
    (("acme", "October"), "is not a month"),
    (("acme", "2999-01"), "has not begun"),
    (("acme", "9998-12"), "has not begun"),
    (("acme", "9999-12"), "from 1970-01 to 9998-12"),
    (("acme", "0001-01"), "from 1970-01 to 9998-12"),
    ((os.fsdecode(b"\xff"), "2026-10"), "tenant is not UTF-8 text"),
    (("acmee", "2026-10"), "Did you mean 'acme'"),
    (("acme", "2026-10", "--html", "-"), "--html names a file"),
    (("acme", "2026-10", "--csv", "s.out", "--html", "./s.out"), "name one file"),
    (("acme", "2026-10", "--csv", "no/such/folder.csv"), "cannot be written"),
]


async def test_what_cannot_be_made_is_one_clear_error(cli: Cli, suspend: Suspend, tmp_path: Path) -> None:
    await suspend("one")
    for words, told in WRONG:
        refused = await cli("statement", *words)
        assert (words, refused.code) == (words, 2)
        assert told in refused.stderr
    assert list(tmp_path.iterdir()) == []
