"""Callbacks over real HTTP: duplicated, out of order, forged, too large, too slow, far too many, or none at all.

They only wake. A gateway of one's own stands in where production's interval between two signals counts, or where it is
killed. The stack's gateway sweeps the same inbox, so it is stopped where signals are counted.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import pytest_asyncio

from bench.processes import rss_bytes
from bench.storm import callback, storm
from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationResult
from onetake.ledger.database import connect_once
from tests.connections import dialled
from tests.faults.table import expect, shows
from tests.system.harness import PATIENT_S, ROUTE, Stack, activity_ids, ended, event_names, in_phase, unique
from tests.system.standing import standing_still

SILENT: Final = "[[sim:no-callback]]"
HELD: Final = f"{SILENT}[[sim:held]]"  # it ends when the test has said all that it has to say
SUCCESS: Final = "success"
LIMIT_S: Final = 300.0
SIGNALED: Final = "WORKFLOW_EXECUTION_SIGNALED"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway_url(stack: Stack) -> AsyncGenerator[str]:
    """A gateway with production's intervals."""
    async with stack.gateway(ONETAKE_TIME_SCALE="1") as (_, url):
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def scenes(stack: Stack, onetake: Onetake) -> AsyncGenerator[Mapping[str, asyncio.Task[None]]]:
    """What waits for the patience of a gateway, or of a vendor, is begun before all else; each test awaits its own."""
    scenes = {"refused": with_refused_bodies(stack, onetake), "unheard": with_the_gateway_down(stack)}
    tasks = {name: asyncio.create_task(scene) for name, scene in scenes.items()}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


@contextmanager
def alone(stack: Stack) -> Generator[None]:
    """Stop the stack's own gateway for a while: it sweeps the same inbox, at the stack's time scale."""
    with standing_still(stack.running.devstack, "gateway"):
        yield


async def begin(onetake: Onetake, told: str) -> tuple[Started, str]:
    prompt = unique(f"called back {told}")
    return await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S), prompt


async def rendering(stack: Stack, onetake: Onetake, told: str) -> tuple[Started, str, str]:
    """A generation that its vendor renders, its prompt, and the path of its callbacks."""
    started, prompt = await begin(onetake, told)
    await in_phase(onetake, started.id, "generating")
    (job,) = await stack.jobs_of(prompt)
    return started, prompt, urlsplit(await callback_url(stack, job["task_id"])).path


async def callback_url(stack: Stack, task_id: str) -> str:
    """What the vendor was given; only the vendor and the simulator's journal know it."""
    journal = stack.running.devstack.home / "simulator" / "journal.jsonl"
    for line in await asyncio.to_thread(lambda: journal.read_text().splitlines()):
        if task_id in line and "/callbacks/apixo/" in line:
            start = line.index("http", line.index("callback_url"))
            return line[start : line.index('"', start)]
    raise AssertionError("the vendor was given no callback address")


def claim(task_id: str, state: str, **more: object) -> bytes:
    """A body as APIXO sends it."""
    return json.dumps({"code": 200, "data": {"taskId": task_id, "state": state, **more}}).encode()


async def post(url: str, path: str, *bodies: bytes) -> list[int]:
    """One after the other; the statuses in their order."""
    return [next(iter((await storm(url, [callback(path, body)], connections=1)).statuses)) for body in bodies]


async def signals(stack: Stack, started: Started) -> int:
    return event_names(await stack.history(started.workflow_id)).count(SIGNALED)


async def woken(stack: Stack, started: Started) -> None:
    """Wait until a signal has come."""
    await stack.happened(started.workflow_id, SIGNALED)


async def let_go(stack: Stack, onetake: Onetake, started: Started, prompt: str) -> GenerationResult:
    """The end of a generation whose job was held."""
    await stack.release(prompt)
    return await ended(onetake, started.id, LIMIT_S)


def most_signals(duration_s: float) -> float:
    """One at once, one in each interval, one for what came last, and two that a slow Temporal was sent again."""
    return duration_s / 5 + 4


async def assert_hardly_seen(stack: Stack, started: Started) -> None:
    """A history has what a generation without callbacks leaves, and one look for each signal."""
    assert len(await stack.history(started.workflow_id)) < 100 + 40 * await signals(stack, started)


async def records(stack: Stack, generation_id: str, prompt: str) -> tuple[Any, ...]:
    """Everything that a callback could change: the record, the journal, and the jobs."""
    async with stack.database() as database:
        rows = await database.rows(
            "select to_jsonb(r)::text as what from onetake.generation_record r where id = $1 union all "
            "select to_jsonb(e)::text from onetake.event e where generation_id = $1",
            generation_id,
        )
    return sorted(str(row["what"]) for row in rows), len(await stack.jobs_of(prompt))


async def test_a_hundred_duplicates_are_one_post_and_hardly_seen_in_the_history(
    stack: Stack, onetake: Onetake, gateway_url: str
) -> None:
    started, prompt, path = await rendering(stack, onetake, HELD)
    (job,) = await stack.jobs_of(prompt)
    duplicate = callback(path, claim(job["task_id"], SUCCESS))
    with alone(stack):
        found = await storm(gateway_url, [duplicate] * 100)
        assert found.statuses == {200: 100}
        await woken(stack, started)
        result = await let_go(stack, onetake, started, prompt)
        assert (await storm(gateway_url, [duplicate] * 100)).statuses == {200: 100}
    assert await signals(stack, started) <= most_signals(found.duration_s)
    await assert_hardly_seen(stack, started)
    await shows("F068", stack, result, prompt)


async def test_completed_before_started_and_before_the_submission_was_answered_completes_once(
    stack: Stack, onetake: Onetake
) -> None:
    (started, prompt, path), (early, early_prompt) = await asyncio.gather(
        rendering(stack, onetake, HELD), begin(onetake, "[[sim:callback-first]]")
    )
    (job,) = await stack.jobs_of(prompt)
    news = [claim(job["task_id"], state) for state in (SUCCESS, "processing", "pending", SUCCESS, "processing")]
    assert await post(stack.gateway_url, path, *news) == [200] * 5
    await shows("F069", stack, await let_go(stack, onetake, started, prompt), prompt)
    await shows("F069", stack, await ended(onetake, early.id), early_prompt)


async def test_forged_callbacks_cause_a_read_in_five_seconds_and_nothing_of_them_is_taken(
    stack: Stack, onetake: Onetake, gateway_url: str
) -> None:
    started, prompt, path = await rendering(stack, onetake, HELD)
    (job,) = await stack.jobs_of(prompt)
    links = json.dumps({"resultUrls": ["http://127.0.0.1:9/evil.mp4"]})
    forged = [
        claim("task_of_somebody_else", "failed", failMsg="gone"),
        claim(job["task_id"], "failed", failCode="E1", failMsg="gone"),
        claim(job["task_id"], SUCCESS, resultJson=links),
    ] * 20
    with alone(stack):
        found = await storm(gateway_url, [callback(path, body) for body in forged])
        assert found.statuses == {200: 60}
        await woken(stack, started)
        result = await let_go(stack, onetake, started, prompt)
    events = await stack.history(started.workflow_id)
    persists = [each for each in activity_ids(events) if each.startswith("persist-")]
    assert len(persists) <= await signals(stack, started) + 1, (
        "a signal makes one, and so does the read that saw the end"
    )
    assert await signals(stack, started) <= most_signals(found.duration_s)
    assert (result.vendor_task_id, len(result.assets)) == (job["task_id"], 1)
    await shows("F070", stack, result, prompt)


async def test_a_token_is_known_or_not_and_after_the_end_nothing_changes(stack: Stack, onetake: Onetake) -> None:
    (started, prompt, path), (canceled, canceled_prompt, canceled_path) = await asyncio.gather(
        rendering(stack, onetake, f"{SILENT}[[sim:delay=1]]"), rendering(stack, onetake, f"{SILENT}[[sim:delay=1]]")
    )
    await onetake.cancel(canceled.id)
    await asyncio.gather(ended(onetake, started.id), ended(onetake, canceled.id))
    for each, its_prompt, its_path in ((started, prompt, path), (canceled, canceled_prompt, canceled_path)):
        before = await records(stack, each.id, its_prompt)
        (job,) = await stack.jobs_of(its_prompt)
        late = [claim(job["task_id"], state) for state in ("failed", SUCCESS, "failed")]
        assert await post(stack.gateway_url, its_path, *late) == [200] * 3
        unknown = its_path[:-4] + "AAAA"
        elsewhere = its_path.replace("/apixo/", "/gmi/")
        for nowhere in (unknown, elsewhere, "/callbacks/nobody/AAAAAAAAAAAAAAAAAAAAAA"):
            assert await post(stack.gateway_url, nowhere, late[0]) == [404]
        await asyncio.sleep(1)  # longer than two intervals, at the stack's time scale
        assert await records(stack, each.id, its_prompt) == before
        kinds = [json.loads(line)["kind"] for line in before[0] if '"kind"' in line]
        expect("F072", sees="200", ledger=sorted(kinds), jobs=1, end="ended")
    expect("F072", sees="404", ledger=[], jobs=0, end="never issued")


async def test_what_cannot_be_stored_is_sent_again_by_the_vendor(stack: Stack, onetake: Onetake) -> None:
    started, prompt, path = await rendering(stack, onetake, HELD)
    (job,) = await stack.jobs_of(prompt)
    news = claim(job["task_id"], SUCCESS)
    blocker = await connect_once(stack.environment["ONETAKE_DATABASE_URL"])
    try:
        async with blocker.transaction():
            await blocker.execute("lock table onetake.callback_inbox in access exclusive mode")
            (refused,) = await post(stack.gateway_url, path, news)
    finally:
        await blocker.close()
    assert await post(stack.gateway_url, path, news) == [200]
    await woken(stack, started)
    result = await let_go(stack, onetake, started, prompt)
    kinds = await kinds_of(stack, result)
    expect("F072", sees=str(refused), ledger=kinds, jobs=len(await stack.jobs_of(prompt)), end="not stored")


async def kinds_of(stack: Stack, result: GenerationResult) -> list[str]:
    async with stack.database() as database:
        rows = await database.rows("select kind from onetake.event where generation_id = $1 order by id", result.id)
    return [str(row["kind"]) for row in rows]


async def test_bodies_too_large_or_too_slow_are_refused_and_wake_nobody(
    scenes: Mapping[str, asyncio.Task[None]],
) -> None:
    await scenes["refused"]


async def with_refused_bodies(stack: Stack, onetake: Onetake) -> None:
    started, prompt, path = await rendering(stack, onetake, HELD)
    large, slow = await asyncio.gather(
        post(stack.gateway_url, path, b"x" * 65_537, b"[" * 100_000, b"x" * 10_485_760),
        dripping(stack.gateway_url, path),
    )
    assert large == [413] * 3
    result = await let_go(stack, onetake, started, prompt)
    assert await signals(stack, started) == 0
    jobs, kinds = len(await stack.jobs_of(prompt)), await kinds_of(stack, result)
    expect("F073", sees=str(large[0]), ledger=kinds, jobs=jobs, end="too large")
    expect("F073", sees=str(slow), ledger=kinds, jobs=jobs, end="too slow")


async def dripping(url: str, path: str) -> int:
    """Send a byte a second and never all; the status at which the gateway gave up."""
    async with dialled(urlsplit(url).hostname, urlsplit(url).port) as (reader, writer), asyncio.timeout(LIMIT_S):
        writer.write(f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readline())  # what follows may be lost: we are still writing
        while not answer.done():
            writer.write(b" ")
            await asyncio.sleep(1)
        return int((await answer).split()[1])


async def test_a_storm_on_one_token_disturbs_neither_it_nor_the_others(stack: Stack, onetake: Onetake) -> None:
    async with stack.gateway(ONETAKE_TIME_SCALE="1") as (name, url):
        started, prompt, path = await rendering(stack, onetake, HELD)
        bodies = [callback(path, claim(f"task-{number % 500}", "failed")) for number in range(10_000)]
        with alone(stack):
            began = time.monotonic()
            await storm(url, bodies[:1000])
            before = rss_bytes(stack.child(name).pid)
            found, other = await asyncio.gather(storm(url, bodies, per_s=2000), another(onetake))
            lasted_s = time.monotonic() - began
            assert found.statuses == {200: 10_000}
            assert rss_bytes(stack.child(name).pid) - before < 30 * 1024 * 1024
            result = await let_go(stack, onetake, started, prompt)
    assert other.status == "completed"
    assert await signals(stack, started) <= most_signals(lasted_s)
    await assert_hardly_seen(stack, started)
    await shows("F074", stack, result, prompt)
    assert await stack.ledger_violations() == []


async def another(onetake: Onetake) -> GenerationResult:
    """A generation in the middle of a storm, polled only."""
    started, _ = await begin(onetake, SILENT)
    return await ended(onetake, started.id, LIMIT_S)


async def test_with_the_gateway_down_it_completes_by_poll_and_the_next_gateway_hears_again(
    scenes: Mapping[str, asyncio.Task[None]],
) -> None:
    await scenes["unheard"]


async def with_the_gateway_down(stack: Stack) -> None:
    queue = "callbacks-unheard"
    async with (
        stack.gateway() as (name, url),
        stack.worker(queue, ONETAKE_CALLBACK_BASE_URL=url),
        stack.client(task_queue=queue) as onetake,
    ):
        stack.kill(name)
        await stack.died(name)
        started, prompt = await begin(onetake, "[[sim:delay=1]]")
        result = await ended(onetake, started.id)
        assert await signals(stack, started) == 0
        async with asyncio.timeout(LIMIT_S):
            while len((await stack.job(result.vendor_task_id))["callbacks"]) < 4:  # then APIXO gives up
                await asyncio.sleep(0.2)
        assert not (await stack.job(result.vendor_task_id))["callback_acknowledged"]
        await shows("F075", stack, result, prompt)
        await stack.restart(name)
        heard, heard_prompt, _ = await rendering(stack, onetake, "[[sim:delay=3]]")
        await shows("F075", stack, await ended(onetake, heard.id), heard_prompt)
        async with asyncio.timeout(LIMIT_S):  # a poll may have been faster
            while not (await stack.jobs_of(heard_prompt))[0]["callback_acknowledged"]:
                await asyncio.sleep(0.1)
