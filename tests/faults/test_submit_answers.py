"""Submissions that get an answer which says what became of them: too fast, no money, no right, no such thing.

Those that pause a vendor, which then lets one probe pass a minute, are played by a worker with the times of production;
each test then compares its own. What leaves a doubt is in `test_submit.py`.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from temporalio.exceptions import ApplicationError

import providers
from onetake.client import Onetake
from onetake.core.errors import CATALOGUE
from onetake.core.names import VENDOR_NAMES
from onetake.dev.devstack import Part
from onetake.dev.devstack.ports import free_port
from onetake.dev.stack import own_command
from onetake.ledger.database import Database
from onetake.ledger.vendors import PostgresVendors
from tests.faults.proxy import REFUSALS, open_proxy
from tests.faults.scenes import LIMIT_S, Ends, begin, ends_of, own_worker, play, route_of, together, why_again
from tests.faults.table import shows
from tests.system.harness import Stack, money

BUSY_S: Final = 7
LONGEST_WAIT_S: Final = 300.0
JITTER: Final = 1.1
MOST_WORDS: Final = 200
KEY: Final = "sim-gmi-key"
NOT_ACCEPTED: Final = """
[[outcomes]]
http = "503"
outcome = "throttled"
error = "vendor_throttled"
source = "this test: as if the documents said that nothing was accepted"
"""

SLOWED: Final = {
    "429": "[[sim:throttle=2]]",
    "429, seconds": "[[sim:throttle=1,3]]",
    "429, date": "[[sim:throttle=1,DATE]]",
    "429, negative": "[[sim:throttle=1,-5]]",
    "429, garbage": "[[sim:throttle=1,soon]]",
    "429, page": "[[sim:submit-page=429,1,3]]",
}
REFUSED: Final = {
    "404": "[[sim:reject=404]]",
    "400": "[[sim:reject=400]]",
    "422": "[[proxy:refuse=422,parameter]]",
    "content": "[[proxy:refuse=400,content]]",
    "200": "[[sim:reject-200=400]]",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def patient(stack: Stack) -> AsyncGenerator[tuple[Onetake, str]]:
    """A worker with the times of production; APIXO's and GMI's traffic goes through a proxy."""
    async with open_proxy(stack.simulator_url) as proxy:
        env = proxy.environment("apixo", "gmi", trusted=stack.environment["ONETAKE_TRUSTED_HOSTS"])
        async with own_worker(stack, "patient", "1", **env) as patient:
            yield patient


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ends(
    stack: Stack, onetake: Onetake, patient: tuple[Onetake, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Ends]:
    """How every scene ended, and its prompt. Afterwards no vendor is paused, and none is to be left alone."""
    production, _ = patient
    try:
        yield await together(
            *(play(production, name, told) for name, told in REFUSED.items()),
            slowed(stack, onetake, production),
            busy_then_slowed_for_ever(stack, tmp_path_factory.mktemp("profile")),
            account_refused(stack, production),
            key_refused(production),
        )
    finally:
        await all_well(stack)


async def forget_limits(stack: Stack, vendor: str) -> None:
    """What 429s have taught of a vendor."""
    async with stack.database() as database:
        for table in ("vendor_rate", "vendor_room", "vendor_line"):
            await database.row(f"delete from onetake.{table} where vendor = $1", vendor)


async def all_well(stack: Stack) -> None:
    for vendor in VENDOR_NAMES:
        await forget_limits(stack, vendor)
    for vendor in ("aivideoapi", "gmi"):
        await stack.reopen(vendor)


async def arrivals(stack: Stack, prompt: str) -> list[float]:
    return [submit["received_at"] for submit in await stack.submits_of(prompt)]


# -- Too fast ----------------------------------------------------------------------------------------------------------


async def slowed(stack: Stack, onetake: Onetake, production: Onetake) -> Ends:
    """A vendor that says 429: to some for a moment, then to one for ten hours. What it names itself nobody scales."""
    route = route_of("wan26ai")
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=5), usegmt=True)
    scenes = (play(onetake, name, told.replace("DATE", soon), route) for name, told in SLOWED.items())
    ends = await together(*scenes)
    await forget_limits(stack, "wan26ai")  # a slow machine's six may have taught that the vendor has room for few
    return {**ends, **await told_to_wait_ten_hours(stack, production, route)}


async def told_to_wait_ten_hours(stack: Stack, onetake: Onetake, route: str) -> Ends:
    """It and its sibling wait for five minutes at most, and sending nothing they can be canceled free of charge."""
    begun = {"429, ten hours": await begin(onetake, "[[sim:throttle=1,36000]]", route)}
    async with asyncio.timeout(LIMIT_S), stack.database() as database:
        while (quiet_s := await quiet_for_s(database, "wan26ai")) < LONGEST_WAIT_S / 2:
            await asyncio.sleep(0.1)
    assert quiet_s <= LONGEST_WAIT_S * JITTER
    begun["429, sibling"] = await begin(onetake, "", route)
    for started, _ in begun.values():
        why = await why_again(stack, started.workflow_id)
        assert isinstance(why, ApplicationError)
        assert why.type == "vendor_throttled"
        assert await next_attempt_s(stack, started.workflow_id) <= LONGEST_WAIT_S * JITTER**2
        await onetake.cancel(started.id)
    return await ends_of(onetake, begun)


async def quiet_for_s(database: Database, vendor: str) -> float:
    known = (await PostgresVendors(database).states()).get(vendor)
    return known.quiet_for_s if known else 0.0


async def next_attempt_s(stack: Stack, workflow_id: str) -> float:
    handle = (await stack.temporal()).get_workflow_handle(workflow_id)
    (pending,) = (await handle.describe()).raw_description.pending_activities
    return (pending.next_attempt_schedule_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()


async def test_a_vendor_that_is_asked_too_fast_is_asked_later(stack: Stack, ends: Ends) -> None:
    for scene in SLOWED:
        await shows("F042", stack, *ends[scene], end="later")
    first, second = await arrivals(stack, ends["429, seconds"][1])
    assert second - first >= 3
    await shows("F042", stack, *ends["429, for ever"], end="given_up")
    for scene in ("429, ten hours", "429, sibling"):
        await shows("F042", stack, *ends[scene], end="canceled")
    assert await arrivals(stack, ends["429, sibling"][1]) == []


async def busy_then_slowed_for_ever(stack: Stack, folder: Path) -> Ends:
    """A vendor whose profile says, as data, that it accepts nothing with a 503; then it says 429 and nothing else."""
    route = route_of("gptimage2")
    async with (
        profile(stack, folder, "gptimage2", NOT_ACCEPTED) as queue,
        stack.client(task_queue=queue, time_scale="1") as onetake,
    ):
        busy = await play(onetake, "503", f"[[sim:busy=1,{BUSY_S}]]", route)
    async with own_worker(stack, "hurried") as (onetake, _):
        return {**busy, **await play(onetake, "429, for ever", "[[sim:throttle=1000]]", route, deadline_s=14)}


@asynccontextmanager
async def profile(stack: Stack, folder: Path, vendor: str, row: str) -> AsyncGenerator[str]:
    """A worker that reads a copy of our vendors' files, with one more row before the outcomes of this vendor."""
    copy = folder / "providers"
    shutil.copytree(Path(providers.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    facts = copy / "routes" / f"{vendor}.toml"
    facts.write_text(facts.read_text().replace("[[outcomes]]", f"{row}[[outcomes]]", 1))
    queue, port = "another-profile", free_port(set())
    own = {"ONETAKE_TASK_QUEUE": queue, "ONETAKE_RECONCILE_EVERY_S": "0", "ONETAKE_TIME_SCALE": "1"}
    part = Part(
        name=queue,
        argv=own_command("worker", "--health-port", str(port)),
        env=stack.environment | own | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"},
        health=f"http://127.0.0.1:{port}/readyz",
        limit_s=LIMIT_S,
    )
    await asyncio.to_thread(stack.running.devstack.start_part, part)
    try:
        yield queue
    finally:
        await asyncio.to_thread(stack.running.devstack.kill_part, part.name)


async def test_a_status_that_is_documented_as_not_accepted_is_sent_again_when_it_may(stack: Stack, ends: Ends) -> None:
    await shows("F041", stack, *ends["503"])
    first, second = await arrivals(stack, ends["503"][1])
    assert second - first >= BUSY_S


# -- An account that is refused ----------------------------------------------------------------------------------------


async def account_refused(stack: Stack, onetake: Onetake) -> Ends:
    """AIVideoAPI: the provider behind it refuses the content, its key's limit is reached, and its account is empty."""
    words = "[[sim:submit-503=The input contains prohibited content]]"
    upstream = await play(onetake, "upstream", words, route_of("aivideoapi"))
    limit = await refused_until_paused(onetake, "limit", "[[sim:reject=429]]", "aivideoapi", 1)
    await stack.reopen("aivideoapi")
    return {**upstream, **limit, **await refused_until_paused(onetake, "empty", "[[sim:reject=402]]", "aivideoapi", 1)}


async def key_refused(onetake: Onetake) -> Ends:
    """GMI: refusals, each of which quotes our request and the key in it. That of a model is not one of the key."""
    once = await play(onetake, "forbidden", "[[proxy:quote=403]]", route_of("gmi"))
    return {**once, **await refused_until_paused(onetake, "key", "[[proxy:quote=401]]", "gmi", 3)}


async def refused_until_paused(onetake: Onetake, name: str, told: str, vendor: str, times: int) -> Ends:
    """So many refusals, then the probe, which is refused too; the next one is not even reserved."""
    names = [*(f"{name} {number}" for number in range(1, times + 1)), f"{name}, probe", f"{name}, next"]
    # Who names a deadline would wait for the paused vendor.
    played = [await play(onetake, each, told, route_of(vendor), deadline_s=None) for each in names]
    return {scene: end for each in played for scene, end in each.items()}


def alarms(stack: Stack, worker: str) -> list[str]:
    """The operator's log lines about a vendor that refuses us."""
    lines = stack.child(worker).log.read_text().splitlines()
    return [line for line in lines if "vendor_refuses_us" in line]


async def test_a_spending_limit_pauses_the_vendor(stack: Stack, patient: tuple[Onetake, str], ends: Ends) -> None:
    for scene in ("limit 1", "limit, probe"):
        await shows("F043", stack, *ends[scene])
    await shows("F043", stack, *ends["limit, next"], end="paused")
    assert len([line for line in alarms(stack, patient[1]) if "vendor_account_limit" in line]) == 2


async def test_an_empty_account_pauses_the_vendor(stack: Stack, patient: tuple[Onetake, str], ends: Ends) -> None:
    for scene in ("empty 1", "empty, probe"):
        await shows("F044", stack, *ends[scene])
    await shows("F044", stack, *ends["empty, next"], end="paused")
    assert len([line for line in alarms(stack, patient[1]) if "vendor_account_empty" in line]) == 2


async def test_a_refused_key_pauses_the_vendor_the_third_time_and_is_never_shown(
    stack: Stack, patient: tuple[Onetake, str], ends: Ends
) -> None:
    for scene in ("forbidden", "key 1", "key 2", "key 3", "key, probe"):
        await shows("F045", stack, *ends[scene])
    await shows("F045", stack, *ends["key, next"], end="paused")
    assert len([line for line in alarms(stack, patient[1]) if "vendor_auth" in line]) == 5
    result, _ = ends["key 1"]
    async with stack.database() as database:
        (stored,) = await database.rows(
            "select error::text from onetake.submission where generation_id = $1", result.id
        )
    shown = (result.model_dump_json(), stored["error"], stack.child(patient[1]).log.read_text())
    assert [text for text in shown if KEY in text] == []
    assert "It said:" in stored["error"]


# -- A submission that is refused --------------------------------------------------------------------------------------


async def test_a_route_that_the_vendor_does_not_have_ends_it_free_of_charge(stack: Stack, ends: Ends) -> None:
    await shows("F046", stack, *ends["404"])


async def test_a_refusal_shows_the_vendors_words_made_safe(stack: Stack, ends: Ends) -> None:
    for scene in ("400", "422"):
        await shows("F047", stack, *ends[scene], end="parameter")
    for scene in ("content", "upstream"):  # the second has been charged, and is refunded by document
        await shows("F047", stack, *ends[scene], end="content")
    result, _ = ends["content"]
    assert result.error is not None
    sentence, _, said = result.error.message.partition(" It said: ")
    entry = CATALOGUE["content_rejected"]
    assert sentence == entry.sentence
    assert {entry.exit_code, CATALOGUE["vendor_rejected"].exit_code} == {5}
    assert said.startswith(f"{REFUSALS['content']} [31m see [removed] www")
    assert len(said) <= MOST_WORDS
    assert re.search(r"[^ -~]", said) is None


async def test_the_code_inside_a_200_wins_over_the_status(stack: Stack, ends: Ends) -> None:
    await shows("F048", stack, *ends["200"])


async def test_nothing_is_owed_for_what_was_refused(stack: Stack, ends: Ends) -> None:
    free = [result for result, _ in ends.values() if result.status != "completed"]
    assert {money(result)[1:] for result in free} == {(0, 0)}
    assert await stack.ledger_violations() == []
