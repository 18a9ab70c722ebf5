"""Our own absence decides no end: media workers that are away, a worker that comes back after the deadline, a clip that
fails after its cost was told."""

import asyncio

from tests.system.harness import ROUTE, Stack, activity_ids, ended, money, unique

REPORTING = "wan26ai/wan-2.6/text-to-video"  # its status says what was charged
SCALE = "0.05"
DEADLINE_S = 6


async def test_a_callback_while_no_media_worker_is_there_leaves_the_truth_to_a_read(stack: Stack) -> None:
    """The job has failed, at no cost: a callback that nobody can look after must not have it paid."""
    route, queue = "gptimage2/wan-2.6/text-to-video", "no-media"
    async with (
        stack.worker(queue, roles=("orchestrate", "vendors"), ONETAKE_TIME_SCALE=SCALE),
        stack.client(task_queue=queue, time_scale=SCALE) as onetake,
    ):
        prompt = unique("no media worker [[sim:fail=service_error]][[sim:callback-first]]")
        started = await onetake.start(route=route, prompt=prompt, duration_s=2)
        result = await ended(onetake, started.id)
        ids = activity_ids(await stack.history(started.workflow_id))
    assert result.error is not None
    assert (result.error.code, money(result)[1:]) == ("vendor_failed", (0, 0))
    assert any(each.startswith("read-") for each in ids)


async def test_a_worker_that_comes_back_after_the_deadline_asks_before_it_gives_up(stack: Stack) -> None:
    queue, prompt = "late", unique("nobody was there [[sim:delay=1]][[sim:no-callback]]")
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE="0.1") as name,
        stack.client(task_queue=queue, time_scale="0.1") as onetake,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=DEADLINE_S)
        await stack.happened(started.workflow_id, "TIMER_STARTED")
        stack.kill(name)
        await asyncio.sleep(DEADLINE_S)  # the run has begun to wait
        await stack.restart(name)
        result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))


async def test_what_a_vendor_charged_is_booked_also_for_a_clip_that_cannot_be_used(
    stack: Stack,
) -> None:
    prompt = unique("half price, and no clip [[sim:charge=50]][[sim:asset-html]][[sim:no-callback]]")
    async with stack.client(time_scale="0.0005") as hasty:
        started = await hasty.start(route=REPORTING, prompt=prompt, duration_s=5, resolution="720p", deadline_s=60)
        result = await ended(hasty, started.id)
    assert result.error is not None
    assert (result.error.code, result.cost.basis) == ("asset_not_video", "vendor_reported")
    assert result.cost.settled_micros == result.cost.reserved_micros // 2
    assert await stack.jobs_of(prompt)
