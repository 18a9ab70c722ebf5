"""aivideoapi.ai through the public client, on real parts: its book and our ledger agree after every end."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from tests.media.inputs.media_host import MediaHost
from tests.system.harness import Stack, ended, money, unique

VENDOR = "aivideoapi"
TEXT = f"{VENDOR}/wan-2.6/text-to-video"
TWO_SECONDS_MICROS = 2 * 24 * 5_000


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def open_again(stack: Stack) -> AsyncGenerator[None]:
    yield
    await stack.reopen(VENDOR)


async def play(onetake: Onetake, prompt: str, route: str = TEXT, **fields: Any) -> GenerationResult:
    wanted = {"duration_s": 2, "resolution": "720p", **fields}
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
    ("mode", "inputs", "fields", "pixels", "micros"),
    [
        ("text-to-video", {"audio_url": "sound.mp3"}, {"aspect_ratio": "9:16"}, (720, 1280), 240_000),
        ("image-to-video", {"image": "picture.png"}, {"sound": False}, (1280, 720), 240_000),
        (
            "reference-to-video",
            {"references": ("clip.mp4", "picture.png")},
            {"aspect_ratio": "1:1", "duration_s": 3, "resolution": "1080p", "shot_type": "multi"},
            (1440, 1440),
            600_000,
        ),
    ],
)
async def test_every_route_ends_with_its_clip_and_both_books_agree(
    stack: Stack,
    onetake: Onetake,
    media_host: MediaHost,
    mode: str,
    inputs: dict[str, Any],
    fields: dict[str, Any],
    pixels: tuple[int, int],
    micros: int,
) -> None:
    media = {
        name: media_host.url(given) if isinstance(given, str) else [media_host.url(each) for each in given]
        for name, given in inputs.items()
    }
    prompt = unique(f"all of {mode}")
    result = await play(onetake, prompt, f"{VENDOR}/wan-2.6/{mode}", **media, **fields)
    assert (result.status, result.error, result.warnings) == ("completed", None, ())
    assert money(result) == (micros, micros, 0)
    (asset,) = result.assets
    assert (asset.width, asset.height) == pixels
    assert asset.has_audio == fields.get("sound", True)
    await assert_settled(stack, prompt, result)


@pytest.mark.parametrize(
    ("marker", "code"),
    [("fail=upstream_error", "vendor_failed"), ("fail=SensitiveContentDetected", "content_rejected")],
)
async def test_a_failed_job_costs_nothing_because_the_vendor_refunds_it(
    stack: Stack, onetake: Onetake, marker: str, code: str
) -> None:
    prompt = unique(f"bad luck [[sim:{marker}]]")
    result = await play(onetake, prompt)
    assert (result.status, code_of(result), money(result)) == ("failed", code, (TWO_SECONDS_MICROS, 0, 0))
    await assert_settled(stack, prompt, result)


@pytest.mark.parametrize(
    ("marker", "code"),
    [
        ("reject=400", "vendor_rejected"),
        ("reject=401", "vendor_auth"),
        ("reject=402", "vendor_account_empty"),
        ("reject=404", "vendor_route_missing"),
        ("reject=429", "vendor_account_limit"),
        ("reject-200=402", "vendor_account_empty"),
    ],
)
async def test_a_refusal_releases_the_hold_and_is_not_sent_again(
    stack: Stack, onetake: Onetake, marker: str, code: str
) -> None:
    prompt = unique(f"refused [[sim:{marker}]]")
    result = await play(onetake, prompt)
    assert (result.status, code_of(result), money(result)) == ("failed", code, (TWO_SECONDS_MICROS, 0, 0))
    assert len(await stack.submits_of(prompt)) == 1
    assert await stack.jobs_of(prompt) == []


@pytest.mark.parametrize(
    "marker", ["throttle=1", "submit-reset", "submit-502-accepted", "submit-no-id", "status-404=1"]
)
async def test_a_fault_that_can_be_outlived_still_ends_with_one_job_and_one_clip(
    stack: Stack, onetake: Onetake, marker: str
) -> None:
    prompt = unique(f"bumpy road [[sim:{marker}]]")
    result = await play(onetake, prompt)
    assert (result.status, money(result)) == ("completed", (TWO_SECONDS_MICROS, TWO_SECONDS_MICROS, 0))
    await assert_settled(stack, prompt, result)


async def test_a_generation_finishes_by_polling_alone(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("polled [[sim:no-callback]][[sim:status-unknown]][[sim:delay=2]]")
    result = await play(onetake, prompt)
    assert result.status == "completed"
    await assert_settled(stack, prompt, result)


async def test_the_ledger_is_whole_afterwards(stack: Stack) -> None:
    assert await stack.ledger_violations() == []
