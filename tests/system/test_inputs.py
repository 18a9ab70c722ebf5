"""Input media are looked at before any money is held, and what is refused was never sent."""

from pathlib import Path
from typing import Any

import pytest

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.core.errors import CATALOGUE
from tests.cli.processes import run
from tests.media.inputs.media_host import MediaHost, png_header, wav
from tests.system.harness import Stack, activity_ids, ended, money, unique

IMAGE_ROUTE = "apixo/wan-2.6/image-to-video"
REFERENCE_ROUTE = "apixo/wan-2.6/reference-to-video"


async def refused(stack: Stack, onetake: Onetake, route: str, **fields: Any) -> GenerationResult:
    """A generation that ended before anything was held or sent."""
    prompt = unique("looked at")
    started = await onetake.start(route=route, prompt=prompt, duration_s=2, **fields)
    result = await ended(onetake, started.id)
    assert result.status == "failed"
    assert result.error is not None
    assert CATALOGUE[result.error.code].exit_code == 3
    assert money(result) == (0, 0, 0)
    done = activity_ids(await stack.closed_history(started.workflow_id))
    assert list(dict.fromkeys(done)) == ["validate", "inspect", "settle"], "a step that was late is there twice"
    assert await stack.submits_of(prompt) == []
    assert "127.0.0.1" not in result.error.message
    return result


def error_of(result: GenerationResult) -> tuple[str, str]:
    assert result.error is not None
    return result.error.code, result.error.message


async def test_usable_inputs_are_rendered(stack: Stack, onetake: Onetake, media_host: MediaHost) -> None:
    prompt = unique("usable")
    image, sound = media_host.url("picture.png"), media_host.url("sound.mp3")
    started = await onetake.start(route=IMAGE_ROUTE, prompt=prompt, duration_s=2, image=image, audio_url=sound)
    assert (await ended(onetake, started.id)).status == "completed"
    assert len(await stack.jobs_of(prompt)) == 1
    assert {"/picture.png", "/sound.mp3"} <= {*media_host.asked}


async def test_every_violation_of_every_input_is_one_refusal(
    stack: Stack, onetake: Onetake, media_host: MediaHost
) -> None:
    bomb = media_host.put("bomb.png", png_header(65_000, 65_000))
    page = media_host.put("page.mp4", b"<!doctype html><title>gone</title>")
    clip, short = media_host.url("clip.mp4"), media_host.put("short.wav", wav(1))
    code, message = error_of(
        await refused(stack, onetake, REFERENCE_ROUTE, references=(bomb, clip, page), audio_url=short)
    )
    assert code == "request_invalid"
    assert message.endswith(
        " /audio_url: given 1.0 seconds, allowed 3 to 30 seconds; "
        "/references/0: given far more pixels than any clip has, allowed 240 to 8000 pixels a side; "
        "/references/2: given a html file, allowed jpeg, png, bmp, webp, mp4, mov"
    )


async def test_clips_among_the_references_are_counted_by_their_bytes(
    stack: Stack, onetake: Onetake, media_host: MediaHost
) -> None:
    disguised = media_host.put("disguised.png", media_host.files["clip.mp4"])
    code, message = error_of(await refused(stack, onetake, REFERENCE_ROUTE, references=(disguised,) * 4))
    assert code == "request_invalid"
    assert message.endswith("/references: given 4 videos, allowed at most 3 videos")


@pytest.mark.parametrize(
    ("url", "broken"),
    [
        ("http://169.254.169.254/latest/meta-data/", "scheme"),
        ("https://169.254.169.254/latest/meta-data/", "address"),
        ("https://localhost/a.png", "address"),
        ("https://127.0.0.1:8443/a.png", "address"),
    ],
)
async def test_an_address_inside_is_refused_by_its_rule(stack: Stack, onetake: Onetake, url: str, broken: str) -> None:
    code, message = error_of(await refused(stack, onetake, IMAGE_ROUTE, image=url))
    assert code == "input_not_usable"
    assert f"/image: given an address that we may not connect to (rule: {broken}), allowed" in message


async def test_a_host_that_is_down_is_asked_three_times_and_then_refused(
    stack: Stack, onetake: Onetake, media_host: MediaHost
) -> None:
    before = len(media_host.asked)
    gone = f"http://{media_host.netloc}/busy.png"
    code, message = error_of(await refused(stack, onetake, IMAGE_ROUTE, image=gone))
    assert (code, media_host.asked[before:].count("/busy.png")) == ("input_not_usable", 3)
    assert "an address that cannot be read (it answered 503)" in message


async def test_the_command_line_ends_with_3_and_tells_what_to_change(
    stack: Stack, media_host: MediaHost, tmp_path: Path
) -> None:
    words = ("generate", IMAGE_ROUTE, unique("clear"), "--image", media_host.url("alpha.png"), "--json")
    done = run(*words, env=stack.environment, cwd=tmp_path)
    assert (done.code, done.error_code) == (3, "request_invalid")
    told = "/image: given a picture with transparency, allowed a picture without an alpha channel"
    assert done.document["error"]["message"].endswith(told)
