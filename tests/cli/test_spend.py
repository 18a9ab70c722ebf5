"""The verb `spend`, on a database alone."""

import csv
import io
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from onetake.cli.charts import require_matplotlib
from onetake.cli.spend import month_to_today
from onetake.core.errors import Refused
from onetake.core.names import SpendDays
from onetake.ledger.database import connect_once
from tests.cli.processes import bare_environment, run

# A rollup of November: two tenants, three days, one failure in ten.
ROWS = """
insert into onetake.spend (day, local_day, tenant, user_key, feature, route, vendor, model, status_class, generations,
    delivered_ms, held_micros, posted_micros, released_micros, overrun_micros, suspended_micros, decided_micros,
    decided_posted_micros, corrected_micros, reported_count, reported_micros, reported_held_micros)
select '2026-11-01'::date + n, '2026-11-01'::date + n + 1, tenant, 'ann', '', 'apixo/wan-2.6/text-to-video', 'apixo',
    'wan-2.6', class, number, number * 5000, 0, number * 400000, 0, 0, 0, 0, 0, 0, 0, 0, 0
from generate_series(0, 4, 2) n, (values ('acme'), ('=1+1')) t (tenant),
    (values ('completed', 9), ('failed', 1)) c (class, number)
"""
PERIOD = ("--from", "2026-11-01", "--to", "2026-11-05")


@pytest.fixture
async def spent(database_url: str) -> str:
    session = await connect_once(database_url)
    await session.execute(ROWS)
    await session.close()
    return database_url


def test_spend_is_shown_as_a_table_with_its_total_and_as_json(spent: str, tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=spent)
    shown = run("spend", *PERIOD, "--by", "day", env=env, cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["day", "2026-11-01", "2026-11-03", "2026-11-05", "total"]
    assert "$24.00" in shown[-1]
    assert "10.0%" in shown[-1]
    document = run("spend", *PERIOD, "--by", "tenant", "--json", env=env, cwd=tmp_path).document
    assert [row["key"] for row in document["rows"]] == ["=1+1", "acme"]
    assert document["rows"][1]["cost_micros"] == 12_000_000
    assert (document["total"]["cost_per_second_micros"], document["total"]["failed_share"]) == (80_000, 0.1)
    local = ("--from", "2026-11-02", "--to", "2026-11-02", "--days", "tenant", "--tenant", "acme")
    assert run("spend", *local, "--json", env=env, cwd=tmp_path).document["total"]["generations"] == 10


def test_spend_is_written_as_csv_bars_and_a_picture(spent: str, tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=spent)
    rows = list(csv.DictReader(io.StringIO(run("spend", *PERIOD, "--csv", "-", env=env, cwd=tmp_path).stdout)))
    assert [row["key"] for row in rows] == ["2026-11-01", "2026-11-03", "2026-11-05", "total"]
    assert rows[-1]["cost_micros"] == "24000000"
    done = run("spend", *PERIOD, "--by", "tenant", "--csv", "t.csv", "--png", "t.png", "--chart", env=env, cwd=tmp_path)
    assert done.code == 0
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith("'=1+1,")
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.size[0] == 1500
    bars = run("spend", *PERIOD, "--chart", env=env, cwd=tmp_path).stdout.splitlines()
    assert [line.count("█") for line in bars] == [0, 60, 0, 60, 0, 60, 0]
    assert bars[-1].startswith("Total $24.00, 60 generations, 10.0% failed")


@pytest.mark.parametrize(
    ("now", "days", "period"),
    [
        ("2026-11-20T20:00", "utc", ("2026-11-01", "2026-11-20")),
        ("2026-11-20T20:00", "tenant", ("2026-11-01", "2026-11-21")),
        ("2026-11-30T20:00", "tenant", ("2026-11-01", "2026-12-01")),
        ("2026-12-01T02:00", "tenant", ("2026-11-01", "2026-12-01")),
        ("2026-12-01T02:00", "utc", ("2026-12-01", "2026-12-01")),
    ],
)
def test_the_days_that_nobody_named_have_the_today_of_every_tenant(
    now: str, days: SpendDays, period: tuple[str, str]
) -> None:
    first, last = month_to_today(datetime.fromisoformat(now).replace(tzinfo=UTC), days)
    assert (str(first), str(last)) == period


WRONG = [
    (("--from", "2026-11-05", "--to", "2026-11-01"), "before it begins"),
    (("--from", "1.11.2026"), "is not a day"),
    (("--by", "vendors"), "Did you mean 'vendor'?"),
    (("--vendor", ""), "--vendor is one of"),
    (("--tenant", ""), "--tenant is empty"),
    (("--from", ""), "is not a day"),
    (("--tenant", os.fsdecode(b"\xff")), "tenant is not UTF-8 text"),
    (("--days", "local"), "--days is one of utc, tenant"),
    ((*PERIOD, "--csv", "s.out", "--png", "./s.out"), "name one file"),
    ((*PERIOD, "--png", "-"), "--png names a file"),
    ((*PERIOD, "--csv", "no/such/folder.csv"), "cannot be written"),
]


def test_what_cannot_be_reported_is_one_clear_error(database_url: str, tmp_path: Path) -> None:
    for words, said in WRONG:
        done = run("spend", *words, "--json", env=bare_environment(ONETAKE_DATABASE_URL=database_url), cwd=tmp_path)
        assert (words, done.code) == (words, 2)
        assert said in str(done.document["error"])
    assert not list(tmp_path.iterdir())


def test_a_picture_without_matplotlib_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(Refused, match=r"pip install 'onetake\[charts\]'"):
        require_matplotlib()
