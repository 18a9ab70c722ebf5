"""One generation's life, through the public client, on real parts."""

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from onetake.client import Onetake
from onetake.core.errors import Refused
from tests.system.harness import ROUTE, Stack, activity_ids, ended, event_names, money, unique


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


async def test_the_signal_precedes_the_deciding_read_with_the_next_poll_still_to_come(
    stack: Stack, onetake: Onetake
) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("woken [[sim:delay=0.5]]"), duration_s=5)
    await ended(onetake, started.id)
    events = await stack.history(started.workflow_id)
    names, ids = event_names(events), activity_ids(events)
    assert ids == ["validate", "reserve", "submit", "wait-1", "read-1", "persist", "settle"]
    signal = names.index("WORKFLOW_EXECUTION_SIGNALED")
    deciding = next(
        n for n, event in enumerate(events) if event.activity_task_scheduled_event_attributes.activity_id == "read-1"
    )
    assert signal < deciding
    assert "ACTIVITY_TASK_CANCELED" in names
    assert len(events) <= 60


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


async def test_more_polls_add_no_history(stack: Stack, onetake: Onetake) -> None:
    lengths: list[int] = []
    for delay in ("2", "7"):
        prompt = unique(f"patience [[sim:no-callback]][[sim:delay={delay}]]")
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        result = await ended(onetake, started.id)
        assert (await stack.job(result.vendor_task_id))["status_reads"] >= 2
        lengths.append(len(await stack.history(started.workflow_id)))
    assert lengths[0] == lengths[1]


async def test_a_callback_alone_finishes_while_the_poll_is_an_hour_away(stack: Stack) -> None:
    """The first poll of an unscaled plan is 30 s away; the callback comes after one."""
    async with (
        stack.worker("callback-only", ONETAKE_TIME_SCALE="1") as _,
        stack.client(task_queue="callback-only", time_scale="1") as slow,
    ):
        started = await slow.start(route=ROUTE, prompt=unique("callback only [[sim:delay=1]]"), duration_s=2)
        result = await ended(slow, started.id, limit_s=20)
    assert result.status == "completed"


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
    names = event_names(await stack.history(started.workflow_id))
    assert names.count("WORKFLOW_EXECUTION_SIGNALED") <= 3


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
async def test_a_clip_that_cannot_be_kept_fails_and_is_paid(onetake: Onetake, marker: str, code: str) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique(f"broken [[sim:{marker}]]"), duration_s=2)
    result = await ended(onetake, started.id)
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


async def test_a_generation_outlives_its_history(stack: Stack, onetake: Onetake) -> None:
    """What people read comes from the database, not from Temporal's retention."""
    started = await onetake.start(route=ROUTE, prompt=unique("kept"), duration_s=2)
    await ended(onetake, started.id)
    engine = await stack.temporal()
    description = await engine.get_workflow_handle(started.workflow_id).describe(rpc_timeout=timedelta(seconds=5))
    assert description.status is not None
    assert (await onetake.get(started.id)).status == "completed"


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
