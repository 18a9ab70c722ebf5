"""One generation's life, through the public client, on real parts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio.api.history.v1 import HistoryEvent

from onetake.client import Onetake
from onetake.core.errors import Refused
from onetake.gateway.wakes import INTERVAL_S
from tests.system.harness import ROUTE, TIME_SCALE, Stack, activity_ids, ended, event_names, money, unique


async def test_a_generation_finishes_woken_by_the_callback(stack: Stack, onetake: Onetake, tmp_path: Path) -> None:
    prompt = unique("a finished clip [[sim:delay=1]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=5, resolution="720p", deadline_s=60)
    result = await ended(onetake, started.id)
    assert (result.status, result.phase, result.error) == ("completed", "done", None)
    assert money(result) == (500_000, 500_000, 0)
    (asset,) = result.assets
    assert (asset.width, asset.height, asset.codec, asset.has_audio) == (1280, 720, "h264", True)
    assert abs(asset.duration_s - 5) < 0.2
    clip = await onetake.download(started.id, tmp_path / "clip.mp4")
    assert hashlib.sha256(clip.read_bytes()).hexdigest() == asset.sha256
    (job,) = await stack.jobs_of(prompt)
    assert job["task_id"] == result.vendor_task_id
    assert job["charged_micros"] == result.cost.settled_micros


async def test_a_callback_ends_the_wait_and_one_step_asks_and_stores(stack: Stack) -> None:
    """The first read of an unscaled plan is 30 s away. A step on the ledger that was late is there twice."""
    prompt = unique("woken [[sim:held]]")
    async with (
        stack.worker("callback-only", ONETAKE_TIME_SCALE="1"),
        stack.client(task_queue="callback-only", time_scale="1") as slow,
    ):
        started = await slow.start(route=ROUTE, prompt=prompt, duration_s=5)
        await stack.happened(started.workflow_id, "TIMER_STARTED")
        await stack.release(prompt)
        assert (await ended(slow, started.id)).status == "completed"
        events = await stack.closed_history(started.workflow_id)
    names = event_names(events)
    assert list(dict.fromkeys(activity_ids(events))) == ["validate", "reserve", "submit-1", "persist-1", "settle"]
    assert "TIMER_FIRED" not in names
    assert names.index("TIMER_STARTED") < names.index("WORKFLOW_EXECUTION_SIGNALED") < scheduled(events, "persist-1")
    assert len(events) <= 40


def scheduled(events: Sequence[HistoryEvent], activity_id: str) -> int:
    """The place in the history where this activity was scheduled."""
    return [event.activity_task_scheduled_event_attributes.activity_id for event in events].index(activity_id)


async def test_a_budget_that_is_too_small_refuses_and_sends_nothing(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("refused")
    await stack.set_budget("tenant", "poor", "total", "0.49")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=5, tenant="poor")
    result = await ended(onetake, started.id)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "budget_exceeded"
    assert "$0.50" in result.error.message
    assert money(result) == (0, 0, 0)
    assert await stack.submits_of(prompt) == []


async def test_a_rejected_submission_releases_its_hold(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("rejected [[sim:reject=400]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=5)
    result = await ended(onetake, started.id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "vendor_rejected")
    assert money(result) == (500_000, 0, 0)
    assert len(await stack.submits_of(prompt)) == 1
    assert await stack.jobs_of(prompt) == []


async def test_a_generation_finishes_by_polling_alone(stack: Stack, onetake: Onetake) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("polled [[sim:no-callback]]"), duration_s=2)
    result = await ended(onetake, started.id)
    assert result.status == "completed"
    events = await stack.history(started.workflow_id)
    assert "WORKFLOW_EXECUTION_SIGNALED" not in event_names(events)
    assert len(events) <= 60


async def test_a_read_adds_eleven_events_and_no_more(stack: Stack, onetake: Onetake) -> None:
    """A timer, an activity, and their workflow tasks, of which each has three: one that is late is begun again."""
    started = await onetake.start(route=ROUTE, prompt=unique("patience [[sim:never]]"), duration_s=2)
    events = await stack.happened(started.workflow_id, "TIMER_STARTED", times=2)
    await stack.give_up(started)
    done = [name for name in event_names(events) if name == "WORKFLOW_TASK_COMPLETED" or "WORKFLOW_TASK" not in name]
    first = done.index("TIMER_STARTED")
    assert done[first : done.index("TIMER_STARTED", first + 1)] == [
        "TIMER_STARTED",
        "TIMER_FIRED",
        "WORKFLOW_TASK_COMPLETED",
        "ACTIVITY_TASK_SCHEDULED",
        "ACTIVITY_TASK_STARTED",
        "ACTIVITY_TASK_COMPLETED",
        "WORKFLOW_TASK_COMPLETED",
    ]


async def test_a_callback_before_the_submit_answer_is_not_lost(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("early bird [[sim:callback-first]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    result = await ended(onetake, started.id)
    assert result.status == "completed"
    assert len(await stack.jobs_of(prompt)) == 1


async def test_a_hundred_duplicates_of_a_callback_change_nothing(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("again and again [[sim:callback-duplicate=100]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))
    events = await stack.history(started.workflow_id)
    took_s = (events[-1].event_time.ToDatetime() - events[0].event_time.ToDatetime()).total_seconds()
    signals = event_names(events).count("WORKFLOW_EXECUTION_SIGNALED")
    assert signals <= took_s / (INTERVAL_S * TIME_SCALE) + 2


async def test_an_outage_of_the_vendor_delays_and_never_fails(onetake: Onetake) -> None:
    prompt = unique("outage [[sim:status-500=4]][[sim:no-callback]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))


async def test_the_deadline_ends_in_suspense_because_the_job_may_be_billed(onetake: Onetake) -> None:
    prompt = unique("for ever [[sim:never]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=6)
    result = await ended(onetake, started.id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "vendor_timeout")
    assert money(result) == (200_000, 0, 200_000)


async def test_a_failed_render_goes_to_suspense_because_its_cost_is_not_documented(onetake: Onetake) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("bad luck [[sim:fail=Timeout]]"), duration_s=2)
    result = await ended(onetake, started.id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "vendor_failed")
    assert "Timeout" in result.error.message
    assert money(result) == (200_000, 0, 200_000)


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("asset-truncated-file", "asset_truncated"),
        ("asset-html", "asset_not_video"),
        ("asset-403", "asset_unavailable"),
    ],
)
async def test_a_clip_that_cannot_be_kept_fails_and_is_paid(stack: Stack, marker: str, code: str) -> None:
    """Hours pass within seconds."""
    prompt = unique(f"broken [[sim:{marker}]][[sim:no-callback]]")  # whom a callback wakes, asks again within 3 s
    async with stack.client(time_scale="0.0005") as hasty:
        started = await hasty.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=60)
        result = await ended(hasty, started.id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", code)
    assert money(result) == (200_000, 200_000, 0)
    assert result.assets == ()


@pytest.mark.parametrize("marker", ["asset-500=2", "throttle=2", "submit-502-accepted", "submit-reset", "submit-no-id"])
async def test_a_fault_that_can_be_outlived_still_ends_with_one_job_and_one_clip(
    stack: Stack, onetake: Onetake, marker: str
) -> None:
    prompt = unique(f"disturbed [[sim:{marker}]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))
    assert len(await stack.jobs_of(prompt)) == 1


async def test_a_repeat_with_the_same_key_returns_the_first_generation(onetake: Onetake) -> None:
    prompt, key = unique("once"), unique("key").replace(" ", "-")
    first = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, idempotency_key=key)
    again = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, idempotency_key=key)
    assert (again.id, again.replayed) == (first.id, True)
    with pytest.raises(Refused) as refusal:
        await onetake.start(route=ROUTE, prompt=prompt, duration_s=3, idempotency_key=key)
    assert refusal.value.code == "idempotency_key_reused"
    await ended(onetake, first.id)


async def test_a_generation_outlives_its_history(
    stack: Stack, onetake: Onetake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people read comes from the database, not from Temporal, which keeps a history for its retention only."""
    started = await onetake.start(route=ROUTE, prompt=unique("kept"), duration_s=2)
    await ended(onetake, started.id)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    async with stack.client() as without_temporal:
        assert (await without_temporal.get(started.id)).status == "completed"


async def test_a_worker_without_the_vendors_key_refuses_before_any_money(stack: Stack) -> None:
    """The key is the workers' alone: who starts a generation needs none."""
    prompt = unique("no key")
    async with (
        stack.worker("keyless", ONETAKE_APIXO_API_KEY=""),
        stack.client(task_queue="keyless", apixo_api_key="") as onetake,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        result = await ended(onetake, started.id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "vendor_key_missing")
    assert "ONETAKE_APIXO_API_KEY" in result.error.message
    assert money(result) == (0, 0, 0)
    assert await stack.submits_of(prompt) == []


async def test_a_job_that_is_not_visible_at_once_is_waited_for(onetake: Onetake) -> None:
    """A callback may be faster than the vendor's own reads: one 404 loses nothing."""
    prompt = unique("shy [[sim:status-404=2]][[sim:delay=0.5]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))


async def test_a_job_that_the_vendor_forgot_is_lost_and_in_suspense(onetake: Onetake) -> None:
    prompt = unique("forgotten [[sim:status-404=1000]][[sim:no-callback]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    result = await ended(onetake, started.id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "vendor_task_lost")
    assert money(result) == (200_000, 0, 200_000)
