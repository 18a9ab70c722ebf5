"""Every rule that APIXO documents for a request, just inside and just outside."""

from typing import Any

import pytest

from onetake.dev.simulator.apixo import PRICE_MICROS_PER_S
from tests.dev.simulator.calls import MODES, Apixo
from tests.dev.simulator.rules.apixo import FLASH, MP4, PNG, REFERENCE_MODES, STILL, body_of
from tests.dev.simulator.rules.rules import REMOVED


def _accepts(apixo: Apixo, body: Any) -> str:
    answer = apixo.post(body)
    assert answer.status_code == 200, answer.text
    assert {"code", "message", "data"} == set(answer.json())
    assert (answer.json()["code"], answer.json()["message"]) == (200, "success")
    return answer.json()["data"]["taskId"]


def _refuses(apixo: Apixo, body: Any, field: str = "") -> None:
    jobs = apixo.journal()["totals"]["jobs"]
    answer = apixo.post(body)
    assert answer.status_code == 400, answer.text
    envelope = answer.json()
    assert {"code": 400, "message": "Invalid request", "data": {"error": envelope["data"]["error"]}} == envelope
    assert field in envelope["data"]["error"]
    assert jobs == apixo.journal()["totals"]["jobs"]


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_needs_no_more_than_its_prompt_and_its_media(apixo: Apixo, mode: str) -> None:
    job = apixo.job(_accepts(apixo, body_of(mode)))
    tier, pixels = ("1080p", (1920, 1080)) if mode in REFERENCE_MODES else ("720p", (1280, 720))
    assert (mode, 5, tier, True) == (job["mode"], job["duration_s"], job["resolution"], job["sound"])
    assert pixels == (job["width"], job["height"])


def test_the_documents_own_examples_are_accepted(apixo: Apixo) -> None:
    text = body_of(
        audio_urls=["https://example.com/background.mp3"],
        negative_prompt="blurry, low quality",
        resolution="1080p",
        duration=8,
        prompt_extend=True,
        shot_type="multi",
        seed=42,
        watermark=False,
    )
    flash = body_of(
        "image-to-video-flash", audio_urls=["https://example.com/voice.mp3"], resolution="1080p", sound=True
    )
    reference = body_of("reference-to-video", reference_urls=[PNG, MP4], resolution="720p", duration=6)
    for body in (text, flash, reference):
        _accepts(apixo, body)


def test_an_unknown_field_beside_the_input_is_refused(apixo: Apixo) -> None:
    _refuses(apixo, body_of() | {"model": "wan-2-6-video"}, "model")


def test_an_overlong_prompt_is_truncated_not_refused_and_the_journal_says_so(apixo: Apixo) -> None:
    inside = _accepts(apixo, body_of(prompt=STILL.ljust(1500, "x")))
    outside = _accepts(apixo, body_of(prompt=STILL.ljust(1501, "x")))
    assert [apixo.job(task)["prompt_truncated"] for task in (inside, outside)] == [False, True]


@pytest.mark.parametrize("kind", [REMOVED, "sync", "", None, 1])
def test_the_request_type_must_be_async_or_callback(apixo: Apixo, kind: Any) -> None:
    body = {name: value for name, value in (body_of() | {"request_type": kind}).items() if value is not REMOVED}
    _refuses(apixo, body)


@pytest.mark.parametrize(
    "url",
    [
        REMOVED,
        None,
        "",
        "not a url",
        "http://example.com/hook",
        "https://10.0.0.7/hook",
        "https://192.168.1.1/hook",
        "https://169.254.169.254/hook",
        "https://[fe80::1]/hook",
        "https://intranet/hook",
        "https://gateway.internal/hook",
        "ftp://127.0.0.1/hook",
    ],
)
def test_callback_mode_needs_a_public_https_address(apixo: Apixo, url: Any) -> None:
    body = body_of() | {"request_type": "callback"} | ({} if url is REMOVED else {"callback_url": url})
    _refuses(apixo, body, "callback_url")


@pytest.mark.parametrize(
    "url",
    ["https://your-server.com/webhooks/apixo", "http://127.0.0.1:9/hook", "http://localhost:9/h", "http://[::1]:9/h"],
)
def test_callback_mode_takes_public_https_and_leniently_loopback(apixo: Apixo, url: str) -> None:
    task_id = _accepts(apixo, body_of() | {"request_type": "callback", "callback_url": url})
    assert apixo.job(task_id)["callback_host"] in url


def test_an_async_task_may_name_a_callback_and_is_never_called(apixo: Apixo) -> None:
    task_id = _accepts(apixo, body_of() | {"callback_url": "http://127.0.0.1:9/hook"})
    assert apixo.job(task_id)["callback_host"] is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_body_that_is_not_a_submission_is_refused(apixo: Apixo, content: bytes) -> None:
    path, kind = "/apixo/api/v1/generateTask/wan-2-6-video", {"Content-Type": "application/json"}
    answer = apixo.http.post(path, content=content, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_a_body_over_a_megabyte_is_refused(apixo: Apixo) -> None:
    _refuses(apixo, body_of(negative_prompt="x" * (1 << 20)), "too large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_must_be_json(apixo: Apixo, content_type: str) -> None:
    assert apixo.post(body_of(), headers={"Content-Type": content_type}).status_code == 400


def test_a_charset_beside_the_content_type_does_no_harm(apixo: Apixo) -> None:
    assert apixo.post(body_of(), headers={"Content-Type": "application/json; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", "Basic sim-apixo-key", "sim-apixo-key"])
def test_a_wrong_key_is_refused_by_every_endpoint(apixo: Apixo, value: str) -> None:
    header = {"Authorization": value}
    submitted = apixo.post(body_of(), headers=header)
    read = apixo.http.get("/apixo/api/v1/statusTask/wan-2-6-video", params={"taskId": "task_1"}, headers=header)
    for answer in (submitted, read):
        assert answer.status_code == 401
        assert (answer.json()["code"], answer.json()["message"]) == (401, "Missing or invalid API key")


def test_another_model_and_another_path_are_not_found(apixo: Apixo) -> None:
    assert apixo.post(body_of(), model="wan-2-7-video").json()["code"] == 404
    assert apixo.http.get("/apixo/api/v1/elsewhere").json()["code"] == 404
    assert apixo.http.get("/apixo/api/v1/generateTask/wan-2-6-video").json()["code"] == 404


@pytest.mark.parametrize(("route", "micros_per_s"), PRICE_MICROS_PER_S.items())
def test_the_charge_is_seconds_times_the_documented_price(
    apixo: Apixo, route: tuple[str, str, bool], micros_per_s: int
) -> None:
    mode, resolution, sound = route
    fields = {"sound": sound} if mode in FLASH else {}
    job = apixo.job(_accepts(apixo, body_of(mode, resolution=resolution, duration=7, **fields)))
    assert (7 * micros_per_s, 0) == (job["charged_micros"], job["refunded_micros"])


def test_the_documented_prices_are_these() -> None:
    """The page's two tables, in USD a second, written down a second time."""
    standard = {"text-to-video": (0.10, 0.15), "image-to-video": (0.10, 0.15), "reference-to-video": (0.20, 0.30)}
    flash = {
        "image-to-video-flash": ((0.025, 0.05), (0.0375, 0.075)),
        "reference-to-video-flash": ((0.05, 0.10), (0.08, 0.16)),
    }
    expected = {
        (mode, tier, True): price
        for mode, prices in standard.items()
        for tier, price in zip(("720p", "1080p"), prices, strict=True)
    } | {
        (mode, tier, sound): price
        for mode, tiers in flash.items()
        for tier, prices in zip(("720p", "1080p"), tiers, strict=True)
        for sound, price in zip((False, True), prices, strict=True)
    }
    assert {route: round(price * 1_000_000) for route, price in expected.items()} == PRICE_MICROS_PER_S


def test_an_answer_never_repeats_what_was_sent(apixo: Apixo) -> None:
    answer = apixo.post(body_of(prompt="canary-prompt", resolution="canary-tier", seed="canary-seed"))
    assert answer.status_code == 400
    assert "canary" not in answer.text
