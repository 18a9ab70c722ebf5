"""Validation: what is refused says what to change and costs nothing; what is pinned stays pinned."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationRequest, GenerationResult
from onetake.core.errors import Refused
from onetake.media.hosts import MOST_OF_A_HOST
from tests.faults.table import expect, shows
from tests.media.inputs.media_host import MediaHost
from tests.system.harness import ROUTE, Stack, activity_ids, ended, unique

IMAGE_ROUTE = "apixo/wan-2.6/image-to-video"
MORE_THAN_SLOTS = 18  # a worker looks at the inputs of 16 requests at once, and at one host for 8 of them
LIMIT_S = 300.0
DEARER = f"""
[usd_per_second."{ROUTE}"]
720p = "0.20"
1080p = "0.40"
"""


Seen = tuple[GenerationResult, str, str]


@dataclass(frozen=True)
class UnderWay:
    """Scenarios that mostly wait for a dead worker's time to be over: they run from the start, beside the tests."""

    killed_while_looking: asyncio.Task[None]
    killed_before_reserving: asyncio.Task[None]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def under_way(
    stack: Stack, media_host: MediaHost, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[UnderWay]:
    prices = tmp_path_factory.mktemp("prices") / "dearer.toml"
    prices.write_text(DEARER)
    looking = asyncio.create_task(killed_while_it_looks_at_an_input(stack, media_host))
    reserving = asyncio.create_task(killed_and_followed_by_dearer_prices(stack, str(prices)))
    yield UnderWay(looking, reserving)
    looking.cancel()
    reserving.cancel()
    await asyncio.wait({looking, reserving})


async def refused(stack: Stack, onetake: Onetake, **fields: Any) -> tuple[Refused, list[str], int]:
    """A start that is refused on the spot: why, the journal of whatever it left behind, and its jobs."""
    prompt, tenant = unique("refused"), unique("t").replace(" #", "-")
    with pytest.raises(Refused) as refusal:
        await onetake.start(prompt=prompt, tenant=tenant, **fields)
    assert await onetake.list(tenant=tenant) == ()
    engine = await stack.temporal()
    assert [run.id async for run in engine.list_workflows(f"OnetakeTenant = '{tenant}'")] == []
    async with stack.database() as database:
        rows = await database.rows(
            "select kind from onetake.event e join onetake.generation g on g.id = e.generation_id where tenant = $1",
            tenant,
        )
    return refusal.value, [row["kind"] for row in rows], len(await stack.jobs_of(prompt))


async def test_fields_outside_the_route_are_all_told_at_once(stack: Stack, onetake: Onetake) -> None:
    error, ledger, jobs = await refused(
        stack, onetake, route=ROUTE, duration_s=99, resolution="8k", shot_type="many", image="https://a.example/a.png"
    )
    expect("F017", sees=error.code, ledger=ledger, jobs=jobs)
    told = {each.pointer: each for each in error.violations}
    assert {"/duration_s", "/resolution", "/shot_type", "/image"} == told.keys()
    assert all(each.allowed for each in error.violations)
    assert (told["/duration_s"].given, told["/resolution"].allowed) == ("99", "720p, 1080p")


async def test_an_unknown_model_is_refused_with_the_nearest_names(stack: Stack, onetake: Onetake) -> None:
    error, ledger, jobs = await refused(stack, onetake, route="apixo/wan-2.6/txt-to-video", duration_s=2)
    expect("F018", sees=error.code, ledger=ledger, jobs=jobs)
    assert f"Did you mean {ROUTE}" in str(error)


async def validated(stack: Stack, onetake: Onetake, url: str) -> Seen:
    """A generation with this image: its end, its prompt and what was said."""
    prompt = unique("an image")
    started = await onetake.start(route=IMAGE_ROUTE, prompt=prompt, duration_s=2, image=url)
    result = await ended(onetake, started.id, limit_s=LIMIT_S)
    if result.status == "failed":
        steps = activity_ids(await stack.closed_history(started.workflow_id))
        assert list(dict.fromkeys(steps)) == ["validate", "inspect", "settle"], "a slow one goes on as an activity"
        assert await stack.submits_of(prompt) == []
    return result, prompt, result.error.message if result.error else ""


async def test_an_input_that_may_not_be_fetched_is_refused_by_its_rule(
    stack: Stack, onetake: Onetake, media_host: MediaHost
) -> None:
    page = b"<!doctype html><title>Sign in</title>"
    huge = media_host.files["picture.png"] + bytes(20_000_000)
    said = {
        "https://10.0.0.1/a.png": "(rule: address)",
        media_host.redirect("inside", "https://169.254.169.254/a.png"): "(rule: address)",
        media_host.redirect("round", f"http://{media_host.netloc}/round"): "(rule: redirect)",
        media_host.put("huge.png", huge): "given more than 20 MB",
        media_host.put("page.png", page): "given a html file",
    }
    ends = await asyncio.gather(*(validated(stack, onetake, url) for url in said))
    for (result, prompt, message), (url, words) in zip(ends, said.items(), strict=True):
        assert words in message, url
        assert not [secret for secret in ("127.0.0.1", "10.0.0.1", "169.254") if secret in message]
        await shows("F019", stack, result, prompt)


async def test_input_hosts_that_do_not_answer_are_given_up_and_hold_up_nobody(
    stack: Stack, onetake: Onetake, media_host: MediaHost
) -> None:
    down = await validated(stack, onetake, f"http://{media_host.netloc}/busy-for-f020.png")
    assert "/busy-for-f020.png" in media_host.asked
    names: list[str] = []

    def look() -> asyncio.Task[Seen]:
        """Another request whose host keeps silent."""
        names.append(f"silent-{len(names)}.png")
        media_host.silent.add(names[-1])
        return asyncio.create_task(validated(stack, onetake, media_host.put(names[-1], b"")))

    looks = [look() for _ in range(MORE_THAN_SLOTS)]
    async with asyncio.timeout(LIMIT_S):
        while sum(path.startswith("/silent-") for path in media_host.asked) < MOST_OF_A_HOST:
            await asyncio.sleep(0.05)
    beside = asyncio.create_task(completed(onetake, unique("beside")))
    under_way = set(looks)
    while not beside.done():  # so many wait until it has ended, however long that takes
        await asyncio.wait({beside, *under_way}, return_when=asyncio.FIRST_COMPLETED)
        given_up = {each for each in under_way if each.done()}
        fresh = [look() for _ in given_up]
        looks, under_way = [*looks, *fresh], under_way - given_up | set(fresh)
    assert await beside
    for name in [each for each in names if f"/{each}" not in media_host.asked]:
        del media_host.files[name]  # who waited for a turn need not wait for silence, too
        media_host.silent.remove(name)
    ends = await asyncio.gather(*looks)
    media_host.silent.difference_update(names)
    for result, prompt, message in (*ends, down):
        assert "an address that cannot be read" in message
        await shows("F020", stack, result, prompt)


async def completed(onetake: Onetake, prompt: str) -> bool:
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    return (await ended(onetake, started.id, limit_s=LIMIT_S)).status == "completed"


async def test_a_worker_killed_while_it_looks_at_an_input_changes_nothing(under_way: UnderWay) -> None:
    await under_way.killed_while_looking


async def killed_while_it_looks_at_an_input(stack: Stack, media_host: MediaHost) -> None:
    prompt, queue = unique("looked at twice"), "killed-while-looking"
    url = media_host.put("seen-twice.png", media_host.files["picture.png"])
    media_host.silent.add("seen-twice.png")
    async with stack.client(task_queue=queue) as onetake, stack.worker(queue) as name:
        started = await onetake.start(route=IMAGE_ROUTE, prompt=prompt, duration_s=2, image=url)
        async with asyncio.timeout(LIMIT_S):
            while "/seen-twice.png" not in media_host.asked:
                await asyncio.sleep(0.05)
        stack.kill(name)
        await stack.died(name)
        before = await onetake.get(started.id)
        assert (before.status, before.phase, before.cost.reserved_micros) == ("in_progress", "accepted", 0)
        media_host.silent.remove("seen-twice.png")
        await stack.restart(name)
        result = await ended(onetake, started.id, limit_s=LIMIT_S)
    assert media_host.asked.count("/seen-twice.png") >= 2
    await shows("F021", stack, result, prompt)


async def test_a_price_that_was_pinned_is_held_although_the_table_has_changed(under_way: UnderWay) -> None:
    await under_way.killed_before_reserving


async def killed_and_followed_by_dearer_prices(stack: Stack, dearer: str) -> None:
    """The client's price counts, whatever the workers' own tables say, before and after a crash."""
    prompt, queue = unique("pinned"), "pinned"
    async with stack.client(task_queue=queue) as onetake, stack.client(prices=dearer) as later:
        async with stack.worker(queue, crash="reserve.before_admit", ONETAKE_PRICES=dearer) as name:
            quoted = (await onetake.plan(GenerationRequest(route=ROUTE, prompt=prompt, duration_s=2))).price
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
            assert await stack.died(name) == "reserve.before_admit"
        async with stack.worker(queue, ONETAKE_PRICES=dearer):
            result = await ended(onetake, started.id, limit_s=LIMIT_S)
        dearer_now = (await later.plan(GenerationRequest(route=ROUTE, prompt="now", duration_s=2))).price
        assert dearer_now.amount_micros == 400_000
    assert (result.cost.reserved_micros, result.cost.settled_micros) == (200_000, 200_000)
    assert (quoted.amount_micros, started.price_micros) == (200_000, 200_000)
    async with stack.database() as database:
        (held,) = await database.rows(
            """select h.unit, (g.plan #>> '{price,amount_micros}')::bigint as pinned from onetake.hold h
            join onetake.generation g on g.id = h.generation_id where g.id = $1""",
            started.id,
        )
    assert (held["unit"], held["pinned"]) == ("$0.10 a second", 200_000)
    description = await (await stack.temporal()).get_workflow_handle(started.workflow_id).describe()
    assert "$0.10 a second" in str(await description.static_details())
    await shows("F022", stack, result, prompt)
