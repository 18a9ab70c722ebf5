"""What people are told of the vendors' callbacks, on a database alone."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from onetake.cli.callbacks import CallbackStanding
from onetake.ledger import Database
from tests.cli.processes import Finished, bare_environment, run

Cli = Callable[..., Awaitable[Finished]]
Ends = Callable[..., Awaitable[None]]
GATEWAY = {"ONETAKE_CALLBACK_BASE_URL": "http://127.0.0.1:1"}


@pytest.fixture
def cli(database_url: str, tmp_path: Path) -> Cli:
    async def call(*words: str, **named: str) -> Finished:
        env = bare_environment(ONETAKE_DATABASE_URL=database_url, **named)
        return await asyncio.to_thread(run, *words, env=env, cwd=tmp_path)

    return call


@pytest.fixture
def ends(database: Database) -> Ends:
    """One end for each of these ages in seconds, the oldest first; whether a callback announced it."""

    async def ends(vendor: str, *seen: tuple[float, bool]) -> None:
        for age_s, announced in seen:
            await database.row(
                """insert into onetake.job_end (generation_id, attempt, vendor, route, failed, shows_charge, seen_at,
                    callback_asked, announced_at)
                select 'gen_' || gen_random_uuid(), 1, $1, 'r', false, false, t.at, true, case when $3 then t.at end
                from (select date_trunc('second', clock_timestamp()) - make_interval(secs => $2) as at) t""",
                vendor,
                age_s,
                announced,
            )

    return ends


async def callbacks_of(cli: Cli, **named: str) -> dict[str, Any]:
    finished = await cli("vendors", "list", "--json", **named)
    assert finished.code == 0
    return {row["vendor"]: row["callbacks"] for row in finished.document["vendors"]}


async def test_the_list_says_how_the_callbacks_of_each_vendor_stand(cli: Cli, ends: Ends, database: Database) -> None:
    await ends("apixo", (400, False), (300, True), (200, True))
    await ends("wan26ai", (300, True), (200, False), (100, False))
    await ends("gptimage2", (100, False))
    rows = await database.rows("select seen_at from onetake.job_end order by vendor, seen_at")
    moments = [row["seen_at"].isoformat(timespec="seconds") for row in rows]
    found = await callbacks_of(cli, **GATEWAY)
    assert found["apixo"] == {"state": "arriving", "since": moments[1], "last": moments[2], "unannounced": 0}
    assert found["wan26ai"] == {"state": "stopped", "since": moments[5], "last": moments[4], "unannounced": 2}
    assert found["gptimage2"] == {"state": "unseen", "since": moments[3], "last": None, "unannounced": 1}
    assert found["aivideoapi"] == {"state": "unseen", "since": None, "last": None, "unannounced": 0}
    assert found["gmi"]["state"] == "not_offered"
    shown = " ".join((await cli("vendors", "list", COLUMNS="200", **GATEWAY)).stdout.split())
    assert f"arriving since {moments[1]}" in shown
    assert f"stopped: the last at {moments[4]}, 2 jobs ended without one since" in shown
    assert "none seen, 1 job ended without one" in shown
    assert "it sends none" in shown


async def test_without_an_address_for_callbacks_none_is_missed(cli: Cli, ends: Ends) -> None:
    await ends("apixo", (300, True), (200, False))
    found = await callbacks_of(cli)
    assert found["apixo"] == {"state": "not_configured", "since": None, "last": None, "unannounced": 0}
    assert "not configured" in (await cli("vendors", "list", COLUMNS="200")).stdout


async def test_doctor_warns_of_vendors_whose_callbacks_have_stopped(cli: Cli, ends: Ends) -> None:
    await ends("apixo", (300, True), (100, False))
    await ends("wan26ai", (300, True), (200, False), (100, False))
    await ends("aivideoapi", (300, True))
    await ends("gptimage2", (300, True), (200, False))
    keys = {f"ONETAKE_{name}_API_KEY": "key" for name in ("APIXO", "WAN26AI", "AIVIDEOAPI")}
    document = (await cli("doctor", "--json", **GATEWAY, **keys)).document
    (finding,) = [finding for finding in document["findings"] if finding["part"] == "announced"]
    assert (finding["verdict"], finding["exit_code"]) == ("warning", 0)
    apixo, wan26ai = finding["found"].split("; ")
    assert apixo.startswith("apixo: stopped: the last at ")
    assert apixo.endswith("1 job ended without one since")
    assert wan26ai.startswith("wan26ai: stopped: ")
    assert wan26ai.endswith("2 jobs ended without one since")
    assert all(part in finding["fix"] for part in ("ONETAKE_CALLBACK_BASE_URL", "gateway", "console", "none is lost"))


@pytest.mark.parametrize(("age_s", "time_scale", "overdue"), [(59, 1.0, False), (61, 1.0, True), (59, 0.5, True)])
def test_a_callback_may_come_a_little_later_than_our_own_read(age_s: int, time_scale: float, overdue: bool) -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    stopped = CallbackStanding("stopped", since=now - timedelta(seconds=age_s), unannounced=1)
    assert stopped.is_overdue(now, time_scale) == overdue
    assert not CallbackStanding("arriving", since=now - timedelta(seconds=age_s)).is_overdue(now, time_scale)
