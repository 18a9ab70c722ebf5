"""While a vendor's callbacks arrive, reads of its jobs are a safety net; a lost callback costs lateness alone."""

import asyncio

from temporalio.api.history.v1 import HistoryEvent

from activities.cadence import JITTER, SAFETY_GAP_S
from onetake.client import Onetake
from tests.system.harness import LIMIT_S, TIME_SCALE, Stack, activity_ids, ended, money, unique
from workflows.options import MOST_TIMED_READS

ROUTE = "gptimage2/wan-2.6/text-to-video"
SAFETY_S = SAFETY_GAP_S * TIME_SCALE
SHORT_SCALE = "0.002"
POLLS = 10


async def test_lost_callbacks_cost_lateness_and_bring_the_documented_reads_back(stack: Stack, onetake: Onetake) -> None:
    told = await first_timer_s(stack, onetake, "[[sim:delay=0.2]]")
    lost = await first_timer_s(stack, onetake, "[[sim:no-callback]]")
    afterwards = await first_timer_s(stack, onetake, "[[sim:no-callback]]")
    assert lost >= SAFETY_S * (1 - JITTER) > 2 * afterwards
    assert told <= afterwards or told >= SAFETY_S * (1 - JITTER), "other tests may have heard of this vendor before"


async def first_timer_s(stack: Stack, onetake: Onetake, marker: str) -> float:
    """Run a generation to its end; how long its first timer was to wait."""
    # A length that no other test renders: nothing is known of its usual time.
    started = await onetake.start(route=ROUTE, prompt=unique(f"heard of {marker}"), duration_s=15)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)[1:]) == ("completed", (result.cost.reserved_micros, 0))
    return next(map(timer_s, filter(timer_s, await stack.history(started.workflow_id))), 0.0)


def timer_s(event: HistoryEvent) -> float:
    return event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta().total_seconds()


async def test_many_safety_reads_are_left_to_one_activity_which_adds_no_history(stack: Stack) -> None:
    async with (
        stack.worker("safety", ONETAKE_TIME_SCALE=SHORT_SCALE),
        stack.client(task_queue="safety", time_scale=SHORT_SCALE) as onetake,
    ):
        await first_timer_s(stack, onetake, "[[sim:delay=0.2]]")
        prompt = unique("for ever [[sim:never]]")
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=15, deadline_s=86_400)
        ids: list[str] = []
        async with asyncio.timeout(LIMIT_S):
            while not any(each.startswith("poll-") for each in ids):
                await asyncio.sleep(0.5)
                ids = activity_ids(await stack.history(started.workflow_id))
        assert sum(each.startswith("read-") for each in ids) == MOST_TIMED_READS
        events, reads = len(await stack.history(started.workflow_id)), await reads_of(stack, prompt)
        async with asyncio.timeout(LIMIT_S):
            while await reads_of(stack, prompt) < reads + POLLS:
                await asyncio.sleep(0.2)
        assert len(await stack.history(started.workflow_id)) == events < 2000
        await stack.give_up(started)


async def reads_of(stack: Stack, prompt: str) -> int:
    (job,) = await stack.jobs_of(prompt)
    return int(job["status_reads"])
