"""wan26ai.app through the public client, on real parts: its book and our ledger agree after every end."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.core.errors import Refused
from tests.media.inputs.media_host import MediaHost
from tests.system.harness import Stack, ended, event_names, money, unique

VENDOR = "wan26ai"
TEXT = f"{VENDOR}/wan-2.6/text-to-video"
EIGHTY_CREDITS_MICROS = 80 * 5_000  # 720p x 5 s


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def open_again(stack: Stack) -> AsyncGenerator[None]:
    yield
    await stack.reopen(VENDOR)


async def play(onetake: Onetake, prompt: str, route: str = TEXT, **fields: Any) -> GenerationResult:
    wanted = {"duration_s": 5, "resolution": "720p", **fields}
    started = await onetake.start(route=route, prompt=prompt, **wanted)
    return await ended(onetake, started.id)


def code_of(result: GenerationResult) -> str | None:
    return result.error.code if result.error else None


async def assert_settled(stack: Stack, prompt: str, result: GenerationResult) -> None:
    """One job, and what it cost there, less its refund, is what it cost here."""
    (job,) = await stack.jobs_of(prompt)
    assert job["task_id"] == result.vendor_task_id
    assert job["charged_micros"] == result.cost.reserved_micros
    assert job["charged_micros"] - job["refunded_micros"] == result.cost.settled_micros
    assert result.cost.suspense_micros == 0


@pytest.mark.parametrize(
    ("mode", "inputs", "fields", "credits_consumed", "pixels"),
    [
        ("text-to-video", {}, {"resolution": "1080p"}, 115, (1920, 1080)),
        ("image-to-video", {"image": "picture.png"}, {}, 80, (1280, 720)),
        ("video-to-video", {"videos": ("clip.mp4", "clip.mp4")}, {"duration_s": 10}, 150, (1280, 720)),
    ],
)
async def test_every_route_ends_with_its_clip_and_both_books_agree(
    stack: Stack,
    onetake: Onetake,
    media_host: MediaHost,
    mode: str,
    inputs: dict[str, Any],
    fields: dict[str, Any],
    credits_consumed: int,
    pixels: tuple[int, int],
) -> None:
    media = {
        name: media_host.url(given) if isinstance(given, str) else [media_host.url(each) for each in given]
        for name, given in inputs.items()
    }
    prompt = unique(f"all of {mode}")
    result = await play(onetake, prompt, f"{VENDOR}/wan-2.6/{mode}", **media, **fields)
    assert (result.status, result.error, result.warnings) == ("completed", None, ())
    assert money(result) == (credits_consumed * 5_000, credits_consumed * 5_000, 0)
    assert result.cost.basis == "vendor_reported"
    (asset,) = result.assets
    assert (asset.width, asset.height, asset.has_audio) == (*pixels, True)
    await assert_settled(stack, prompt, result)


@pytest.mark.parametrize(
    ("marker", "code"), [("fail=Timeout", "vendor_failed"), ("fail=SensitiveContent", "content_rejected")]
)
async def test_a_failed_job_costs_nothing_because_the_vendor_refunds_it(
    stack: Stack, onetake: Onetake, marker: str, code: str
) -> None:
    prompt = unique(f"bad luck [[sim:{marker}]]")
    result = await play(onetake, prompt)
    assert (result.status, code_of(result), money(result)) == ("failed", code, (EIGHTY_CREDITS_MICROS, 0, 0))
    await assert_settled(stack, prompt, result)


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("reject=400", "vendor_rejected"),
        ("reject=401", "vendor_auth"),
        ("reject=402", "vendor_account_empty"),
        ("reject-200=402", "vendor_account_empty"),
        ("reject=404", "vendor_route_missing"),
    ],
)
async def test_a_refusal_releases_the_hold_and_is_not_sent_again(
    stack: Stack, onetake: Onetake, marker: str, code: str
) -> None:
    prompt = unique(f"refused [[sim:{marker}]]")
    result = await play(onetake, prompt)
    assert (result.status, code_of(result), money(result)) == ("failed", code, (EIGHTY_CREDITS_MICROS, 0, 0))
    assert len(await stack.submits_of(prompt)) == 1
    assert await stack.jobs_of(prompt) == []


@pytest.mark.parametrize("marker", ["throttle=1", "submit-reset", "submit-502-accepted", "submit-no-id"])
async def test_a_fault_that_can_be_outlived_still_ends_with_one_job_and_one_clip(
    stack: Stack, onetake: Onetake, marker: str
) -> None:
    prompt = unique(f"bumpy road [[sim:{marker}]]")
    result = await play(onetake, prompt)
    assert (result.status, code_of(result)) == ("completed", None)
    await assert_settled(stack, prompt, result)


async def test_an_unknown_outcome_is_in_suspense_when_no_callback_tells(stack: Stack) -> None:
    prompt = unique("lost [[sim:submit-reset]][[sim:no-callback]]")
    async with (
        stack.worker("wan26ai-unknown", ONETAKE_TIME_SCALE="0.002"),
        stack.client(task_queue="wan26ai-unknown") as onetake,
    ):
        result = await play(onetake, prompt)
    assert (result.status, code_of(result)) == ("failed", "submission_outcome_unknown")
    assert money(result) == (EIGHTY_CREDITS_MICROS, 0, EIGHTY_CREDITS_MICROS)
    (job,) = await stack.jobs_of(prompt)
    assert job["charged_micros"] == result.cost.suspense_micros


async def test_a_generation_finishes_by_polling_alone_past_a_state_that_no_page_names(
    stack: Stack, onetake: Onetake
) -> None:
    prompt = unique("polled [[sim:no-callback]][[sim:status-unknown]][[sim:delay=2]]")
    started = await onetake.start(route=TEXT, prompt=prompt, duration_s=5, resolution="720p")
    result = await ended(onetake, started.id)
    assert result.status == "completed"
    assert "WORKFLOW_EXECUTION_SIGNALED" not in event_names(await stack.history(started.workflow_id))
    await assert_settled(stack, prompt, result)


async def test_what_the_vendor_does_not_take_is_refused_by_name_and_nothing_is_sent(
    stack: Stack, onetake: Onetake
) -> None:
    prompt = unique("refused at once")
    with pytest.raises(Refused) as refusal:
        await onetake.start(route=TEXT, prompt=prompt, duration_s=7, aspect_ratio="9:16", seed=7)
    assert {"/duration_s", "/aspect_ratio", "/seed"} == {each.pointer for each in refusal.value.violations}
    assert await stack.submits_of(prompt) == []


async def test_the_ledger_is_whole_afterwards(stack: Stack) -> None:
    assert await stack.ledger_violations() == []
