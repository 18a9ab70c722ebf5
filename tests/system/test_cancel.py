"""A cancellation in each phase: what it ends, and what it costs."""

import asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from tests.system.harness import ROUTE, Stack, ended, event_names, in_phase, money, unique

HELD = "[[sim:submit-hang=18]]"  # until it is released; the worker waits 20 s for an answer


async def canceled(stack: Stack, onetake: Onetake, prompt: str, *phases: str) -> tuple[GenerationResult, str]:
    """Cancel it in one of these phases, in which its prompt holds it; then it goes on."""
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    if phases:
        await in_phase(onetake, started.id, *phases)
        await stack.cancel(onetake, started)
        await stack.release(prompt)
    else:
        await onetake.cancel(started.id)
    return await ended(onetake, started.id), started.workflow_id


async def canceled_in_the_post(stack: Stack, onetake: Onetake, prompt: str) -> GenerationResult:
    """The phase is entered a little before the intent to send is written, and until then a cancel sends nothing."""
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await stack.intended(started.id)
    await stack.cancel(onetake, started)
    await stack.release(prompt)
    return await ended(onetake, started.id)


async def test_a_cancel_at_once_is_free_and_sends_nothing_or_tells_the_cost(stack: Stack, onetake: Onetake) -> None:
    """It races the first phases: either nothing was sent and nothing is owed, or the one job is paid for."""
    prompt = unique("never mind [[sim:delay=0.2]]")
    result, _ = await canceled(stack, onetake, prompt)
    jobs = await stack.jobs_of(prompt)
    assert result.cost.settled_micros + result.cost.suspense_micros == 200_000 * len(jobs)
    assert len(jobs) <= 1


async def test_a_cancel_while_no_worker_runs_is_free(stack: Stack) -> None:
    prompt = unique("too early")
    async with stack.client(task_queue="nobody-yet") as onetake:
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        await onetake.cancel(started.id)
        async with stack.worker("nobody-yet"):
            result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("canceled", (0, 0, 0))
    assert await stack.submits_of(prompt) == []
    events = await stack.closed_history(started.workflow_id)
    assert event_names(events)[-1] == "WORKFLOW_EXECUTION_CANCELED"


async def test_a_cancel_during_the_post_waits_for_its_outcome(stack: Stack, onetake: Onetake) -> None:
    prompt = unique(f"mid air {HELD}[[sim:delay=0.5]]")
    result = await canceled_in_the_post(stack, onetake, prompt)
    assert (result.status, money(result)) == ("canceled", (200_000, 200_000, 0))
    assert len(await stack.jobs_of(prompt)) == 1
    assert len(result.assets) == 1


async def test_a_cancel_between_throttled_submissions_is_free(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("too fast [[sim:throttle=1000]]")
    result, _ = await canceled(stack, onetake, prompt, "submitting")
    assert result.status == "canceled"
    assert result.cost.settled_micros + result.cost.suspense_micros == 0
    assert await stack.jobs_of(prompt) == []


async def test_a_cancel_while_a_submission_is_being_turned_away_is_a_cancellation(
    stack: Stack, onetake: Onetake
) -> None:
    prompt = unique("just now [[sim:submit-slow=18]][[sim:throttle=1000]]")
    result = await canceled_in_the_post(stack, onetake, prompt)
    assert (result.status, money(result)) == ("canceled", (200_000, 0, 0))
    assert len(await stack.submits_of(prompt)) == 1
    assert await stack.jobs_of(prompt) == []


async def test_a_cancel_while_rendering_keeps_the_clip_that_was_paid_for(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("too late [[sim:held]]")
    result, workflow_id = await canceled(stack, onetake, prompt, "generating")
    assert (result.status, money(result)) == ("canceled", (200_000, 200_000, 0))
    assert result.error is not None
    assert result.error.code == "canceled"
    assert len(result.assets) == 1
    assert event_names(await stack.closed_history(workflow_id))[-1] == "WORKFLOW_EXECUTION_CANCELED"


async def test_a_cancel_while_persisting_changes_nothing(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("slow bytes [[sim:asset-slow=1]]")
    result, _ = await canceled(stack, onetake, prompt, "persisting")
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))


async def test_a_cancel_of_an_unknown_outcome_waits_for_the_truth(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("who knows [[sim:submit-reset]][[sim:held]]")
    result, _ = await canceled(stack, onetake, prompt, "resolving")
    assert result.status == "canceled"
    assert money(result) == (200_000, 200_000, 0)
    assert len(await stack.jobs_of(prompt)) == 1


async def test_a_second_cancel_changes_nothing(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("twice [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    await asyncio.gather(*(stack.cancel(onetake, started) for _ in range(5)))
    await stack.release(prompt)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("canceled", (200_000, 200_000, 0))
    await onetake.cancel(started.id)
    assert (await onetake.get(started.id)).status == "canceled"
