"""Settling: what the vendor charged is posted once, whoever dies, repeats or lies.

All generations run side by side; each test waits for its own.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult, SettleInput
from onetake.ledger.budgets import Budgets
from onetake.ledger.holds import PostgresLedger
from tests.faults.engine import described, failing_with, pending, reset_to_before, result_of_run
from tests.faults.table import shows
from tests.system.harness import ROUTE, Stack, ended, money, unique
from tests.system.relay import relayed

REPORTING = "wan26ai/wan-2.6/text-to-video"  # its status says what was charged
GENERATED = "gptimage2/wan-2.6/text-to-video"  # it settles on the seconds that it made, and reports nothing
PRICE_MICROS = 400_000  # of 5 s at 720p there
UNUSABLE = {"negative": "-80", "nan": "NaN", "string": '"eighty"', "currency": '{"EUR":80}', "absurd": "1000000000000"}


@dataclass(frozen=True)
class Play:
    """A generation that has ended."""

    prompt: str
    result: GenerationResult


Plays = Mapping[str, asyncio.Task[Play]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plays(stack: Stack, onetake: Onetake) -> AsyncGenerator[Plays]:
    scenes = {
        "half": charged(onetake, "[[sim:charge=50]]"),
        "generated": charged(onetake, "[[sim:half-duration]]", route=GENERATED, duration_s=10),
        "more": charged(onetake, "[[sim:charge=150]]", tenant="overrun"),
        "far more": charged(onetake, "[[sim:charge=400]]"),
        **{name: charged(onetake, f"[[sim:cost={said}]]") for name, said in UNUSABLE.items()},
        "settled": charged(onetake, "settled"),
        "killed": killed_after_the_commit(stack),
        "away": with_the_database_away(stack),
    }
    await stack.set_budget("tenant", "overrun", "total", "0.50")
    tasks = {name: asyncio.create_task(scene) for name, scene in scenes.items()}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


async def charged(
    onetake: Onetake, text: str, tenant: str = "default", route: str = REPORTING, duration_s: int = 5
) -> Play:
    prompt = unique(f"what it costs {text}[[sim:delay=0.5]]")
    started = await onetake.start(route=route, prompt=prompt, duration_s=duration_s, resolution="720p", tenant=tenant)
    return Play(prompt, await ended(onetake, started.id))


async def test_seconds_that_were_not_generated_are_not_posted_where_only_these_are_billed(
    stack: Stack, plays: Plays
) -> None:
    play = await plays["generated"]
    await shows("F097", stack, play.result, play.prompt, end="generated")
    (job,) = await stack.jobs_of(play.prompt)
    reserved, settled, suspense = money(play.result)
    assert (settled, suspense) == (reserved // 2, 0)
    assert settled == job["charged_micros"]
    assert play.result.cost.basis == "pinned_price"
    assert {each.code for each in play.result.warnings} == {"duration_differs", "billed_as_measured"}


async def test_less_than_was_held_is_posted_and_the_rest_released(stack: Stack, plays: Plays) -> None:
    play = await plays["half"]
    await shows("F097", stack, play.result, play.prompt, end="reported")
    assert money(play.result) == (PRICE_MICROS, PRICE_MICROS // 2, 0)
    assert play.result.cost.basis == "vendor_reported"


async def test_more_than_was_held_is_an_overrun_and_closes_the_budget(
    stack: Stack, onetake: Onetake, plays: Plays
) -> None:
    play = await plays["more"]
    await shows("F098", stack, play.result, play.prompt)
    assert money(play.result) == (PRICE_MICROS, 600_000, 0)
    async with stack.database() as database:
        (budget,) = [each for each in await Budgets(database).show_budgets() if each.key == "overrun"]
    assert (budget.available_micros, budget.overrun_micros) == (-100_000, 100_000)
    refused = await charged(onetake, "[[sim:never]]", tenant="overrun")
    assert refused.result.error
    assert refused.result.error.code == "budget_exceeded"
    assert await stack.submits_of(refused.prompt) == []


async def test_far_more_than_was_held_is_left_to_people_and_the_clip_is_kept(stack: Stack, plays: Plays) -> None:
    play = await plays["far more"]
    assert (play.result.status, money(play.result)) == ("completed", (PRICE_MICROS, 0, PRICE_MICROS))
    assert play.result.assets
    assert [each.code for each in play.result.warnings] == ["vendor_cost_in_review"]
    assert play.result.warnings[0].message.startswith("the vendor reports $1.60 where $0.40 was held")
    async with stack.database() as database:
        reviewed = (await PostgresLedger(database).entries(play.result.id))[-1]
    assert reviewed.detail == {"reported_micros": 1_600_000, "held_micros": PRICE_MICROS}


async def test_a_settlement_that_is_repeated_changes_nothing(stack: Stack, plays: Plays) -> None:
    """By an operator's reset of a run that has ended, and by calls that ask for something else."""
    play = await plays["settled"]
    await stack.closed_history(play.result.workflow_id)  # the row ends before the run has said so
    await reset_to_before(stack, play.result.workflow_id, "settle")
    again = await result_of_run(stack, play.result.workflow_id)
    assert (again.status, money(again)) == (play.result.status, money(play.result))
    order = SettleInput(
        generation_id=play.result.id, attempt=1, tenant="default", status="failed", resolution="release"
    )
    other = order.model_copy(update={"status": "completed", "resolution": "post", "actual_micros": 1})
    async with stack.database() as database:
        ledger = PostgresLedger(database)
        results = await asyncio.gather(*(ledger.settle(each) for each in (order, other, order, other)))
    assert {(each.status, money(each)) for each in results} == {("completed", money(play.result))}
    await shows("F099", stack, play.result, play.prompt)


async def killed_after_the_commit(stack: Stack) -> Play:
    queue = "killed-after-settle"
    prompt = unique("killed after the commit [[sim:delay=0.3]]")
    async with stack.client(task_queue=queue) as onetake:
        async with stack.worker(queue, crash="settle.after_commit") as name:
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
            assert await stack.died(name) == "settle.after_commit"
        async with stack.worker(queue):
            await result_of_run(stack, started.workflow_id)
        return Play(prompt, await ended(onetake, started.id))


async def test_a_worker_killed_after_the_commit_settles_once(stack: Stack, plays: Plays) -> None:
    play = await plays["killed"]
    await shows("F100", stack, play.result, play.prompt)


async def with_the_database_away(stack: Stack) -> Play:
    """Nobody stores the clip before the line of those who settle is cut; who stores it has a line of its own."""
    queue = "settle-later"
    prompt = unique("the database is away [[sim:delay=0.3]][[sim:no-callback]]")
    async with (
        relayed(stack.environment["ONETAKE_DATABASE_URL"]) as (line, url),
        stack.worker(queue, roles=("orchestrate", "vendors"), ONETAKE_DATABASE_URL=url),
        stack.client(task_queue=queue) as onetake,
        AsyncExitStack() as media,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        await pending(stack, started.workflow_id, "persist")
        line.cut()
        await media.enter_async_context(stack.worker(queue, roles=("media",)))
        await failing_with(stack, started.workflow_id, "ledger_unavailable", times=2)
        waiting = await onetake.get(started.id)
        assert (waiting.status, money(waiting)) == ("in_progress", (200_000, 0, 0)), "not announced before it is paid"
        (running,) = (await described(stack, started.workflow_id)).pending_activities
        assert running.activity_type.name == "settle"
        assert f"default/{started.id}/1/manifest.json" in await stack.objects_under(f"default/{started.id}/")
        line.mend()
        return Play(prompt, await ended(onetake, started.id))


async def test_a_database_that_is_away_delays_the_settlement_and_the_end(stack: Stack, plays: Plays) -> None:
    play = await plays["away"]
    await shows("F101", stack, play.result, play.prompt)


@pytest.mark.parametrize("name", UNUSABLE)
async def test_a_cost_that_makes_no_sense_is_replaced_by_the_price(stack: Stack, plays: Plays, name: str) -> None:
    play = await plays[name]
    await shows("F102", stack, play.result, play.prompt)
    assert money(play.result) == (PRICE_MICROS, PRICE_MICROS, 0)
    assert play.result.cost.basis == "pinned_price"
    assert [warning.code for warning in play.result.warnings] == ["vendor_cost_unusable"]


async def test_the_ledger_is_whole_afterwards(stack: Stack, plays: Plays) -> None:
    await asyncio.gather(*plays.values())
    assert await stack.ledger_violations() == []
