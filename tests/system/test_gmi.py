"""GMI, which calls nobody back: every route once, and each way to end, through the public client on real parts."""

import uuid
from typing import Any

import pytest

from onetake.client import Onetake
from tests.media.inputs.media_host import MediaHost
from tests.system.harness import Stack, ended, event_names, money, unique

T2V, I2V, R2V = (f"gmi/wan-2.6/{mode}" for mode in ("text-to-video", "image-to-video", "reference-to-video"))


def _inputs(route: str, host: MediaHost) -> dict[str, Any]:
    if route == I2V:
        return {"image": host.url("picture.png"), "audio_url": host.url("sound.mp3")}
    return {"references": (host.url("clip.mp4"),)} if route == R2V else {"aspect_ratio": "9:16"}


@pytest.mark.parametrize(("route", "pixels"), [(T2V, (720, 1280)), (I2V, (1280, 720)), (R2V, (1280, 720))])
async def test_every_route_finishes_by_polling_and_the_book_and_the_ledger_agree(
    stack: Stack, onetake: Onetake, media_host: MediaHost, route: str, pixels: tuple[int, int]
) -> None:
    prompt = unique("a clip by polling alone")
    started = await onetake.start(
        route=route, prompt=prompt, duration_s=5, resolution="720p", **_inputs(route, media_host)
    )
    result = await ended(onetake, started.id)
    assert (result.status, result.error, money(result)) == ("completed", None, (500_000, 500_000, 0))
    (asset,) = result.assets
    assert ((asset.width, asset.height), abs(asset.duration_s - 5) < 0.2) == (pixels, True)
    (job,) = await stack.jobs_of(prompt)
    assert (job["task_id"], job["charged_micros"]) == (result.vendor_task_id, result.cost.settled_micros)
    assert str(uuid.UUID(job["task_id"])) == job["task_id"]
    assert job["callback_host"] is None
    assert "WORKFLOW_EXECUTION_SIGNALED" not in event_names(await stack.history(started.workflow_id))


@pytest.mark.parametrize(
    ("code", "expected"),
    [("Timeout", "vendor_failed"), ("cancelled", "vendor_failed"), ("DataInspectionFailed", "content_rejected")],
)
async def test_a_job_that_ends_badly_goes_to_suspense_because_its_cost_is_not_documented(
    onetake: Onetake, code: str, expected: str
) -> None:
    prompt = unique(f"bad luck [[sim:fail={code}]]")
    result = await ended(onetake, (await onetake.start(route=T2V, prompt=prompt, resolution="720p")).id)
    assert result.error is not None
    assert (result.status, result.error.code, money(result)) == ("failed", expected, (500_000, 0, 500_000))


@pytest.mark.parametrize(("status", "expected"), [(400, "vendor_rejected"), (404, "vendor_route_missing")])
async def test_a_refused_submission_releases_its_hold(
    stack: Stack, onetake: Onetake, status: int, expected: str
) -> None:
    prompt = unique(f"refused [[sim:reject={status}]]")
    result = await ended(onetake, (await onetake.start(route=T2V, prompt=prompt)).id)
    assert result.error is not None
    assert (result.status, result.error.code, money(result)) == ("failed", expected, (750_000, 0, 0))
    assert len(await stack.submits_of(prompt)) == 1


async def test_an_empty_account_releases_the_hold(stack: Stack, onetake: Onetake) -> None:
    try:
        started = await onetake.start(route=T2V, prompt=unique("no money [[sim:reject=402]]"))
        result = await ended(onetake, started.id)
    finally:
        await stack.reopen("gmi")
    assert result.error is not None
    assert (result.status, result.error.code, money(result)) == ("failed", "vendor_account_empty", (750_000, 0, 0))


async def test_a_throttled_submission_is_sent_again_and_rendered_once(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("too fast [[sim:throttle=2]]")
    result = await ended(onetake, (await onetake.start(route=T2V, prompt=prompt, resolution="720p")).id)
    assert (result.status, money(result)) == ("completed", (500_000, 500_000, 0))
    assert [submit["status"] for submit in await stack.submits_of(prompt)] == [429, 429, 200]


@pytest.mark.parametrize("marker", ["submit-reset-refused", "reject-200=400"])
async def test_a_submission_whose_end_is_not_known_is_never_sent_again_and_its_hold_is_in_suspense(
    stack: Stack, marker: str
) -> None:
    """Nobody calls back and no list shows it, so only time resolves it: half an hour in production, 4 seconds here."""
    prompt, queue = unique(f"nobody knows [[sim:{marker}]]"), f"gmi-unknown-{marker[:6]}"
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE="0.002"),
        stack.client(task_queue=queue) as onetake,
    ):
        result = await ended(onetake, (await onetake.start(route=T2V, prompt=prompt, resolution="720p")).id)
    assert result.error is not None
    assert (result.status, result.error.code) == ("failed", "submission_outcome_unknown")
    assert money(result) == (500_000, 0, 500_000)
    assert len(await stack.submits_of(prompt)) == 1


@pytest.mark.parametrize("marker", ["status-unknown", "status-500=3", "status-404=2"])
async def test_an_odd_answer_to_a_poll_is_outlived(onetake: Onetake, marker: str) -> None:
    prompt = unique(f"odd [[sim:{marker}]][[sim:delay=2]]")
    result = await ended(onetake, (await onetake.start(route=T2V, prompt=prompt, resolution="720p")).id)
    assert (result.status, money(result)) == ("completed", (500_000, 500_000, 0))
