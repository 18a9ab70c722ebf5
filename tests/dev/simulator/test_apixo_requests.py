"""Every rule that APIXO documents for a request, just inside and just outside."""

from typing import Any

import pytest

from onetake.dev.simulator.apixo import PRICE_MICROS_PER_S
from tests.dev.simulator.calls import IMAGE, MEDIA, MODES, Apixo

STILL = "a fox in neon rain [[sim:never]]"  # never rendered: these tests look at requests only
PNG, MP4 = IMAGE, "https://example.com/scene.mp4"
FLASH = tuple(mode for mode in MODES if mode.endswith("flash"))
STANDARD = tuple(mode for mode in MODES if not mode.endswith("flash"))
IMAGE_MODES = ("image-to-video", "image-to-video-flash")
REFERENCE_MODES = ("reference-to-video", "reference-to-video-flash")
REMOVED = object()


def _body(mode: str = "text-to-video", /, **fields: Any) -> dict[str, Any]:
    wanted = {"mode": mode, "prompt": STILL, **MEDIA[mode], **fields}
    return {"request_type": "async", "input": {name: value for name, value in wanted.items() if value is not REMOVED}}


def _accepts(apixo: Apixo, body: Any) -> str:
    answer = apixo.post(body)
    assert answer.status_code == 200, answer.text
    assert {"code", "message", "data"} == set(answer.json())
    assert (answer.json()["code"], answer.json()["message"]) == (200, "success")
    return answer.json()["data"]["taskId"]


def _refuses(apixo: Apixo, body: Any, field: str = "") -> None:
    jobs = apixo.book()["totals"]["jobs"]
    answer = apixo.post(body)
    assert answer.status_code == 400, answer.text
    envelope = answer.json()
    assert {"code": 400, "message": "Invalid request", "data": {"error": envelope["data"]["error"]}} == envelope
    assert field in envelope["data"]["error"]
    assert jobs == apixo.book()["totals"]["jobs"]


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_needs_no_more_than_its_prompt_and_its_media(apixo: Apixo, mode: str) -> None:
    job = apixo.job(_accepts(apixo, _body(mode)))
    tier, pixels = ("1080p", (1920, 1080)) if mode in REFERENCE_MODES else ("720p", (1280, 720))
    assert (mode, 5, tier, True) == (job["mode"], job["duration_s"], job["resolution"], job["sound"])
    assert pixels == (job["width"], job["height"])


def test_the_documents_own_examples_are_accepted(apixo: Apixo) -> None:
    text = _body(
        audio_urls=["https://example.com/background.mp3"],
        negative_prompt="blurry, low quality",
        resolution="1080p",
        duration=8,
        prompt_extend=True,
        shot_type="multi",
        seed=42,
        watermark=False,
    )
    flash = _body("image-to-video-flash", audio_urls=["https://example.com/voice.mp3"], resolution="1080p", sound=True)
    reference = _body("reference-to-video", reference_urls=[PNG, MP4], resolution="720p", duration=6)
    for body in (text, flash, reference):
        _accepts(apixo, body)


INSIDE: list[tuple[str, dict[str, Any]]] = [
    *((mode, {"duration": duration}) for mode in MODES for duration in (2, "2", 10)),
    *((mode, {"duration": duration}) for mode in MODES if mode not in REFERENCE_MODES for duration in (15, "15")),
    *((mode, {"resolution": tier}) for mode in MODES for tier in ("720p", "1080p")),
    *((mode, {"sound": sound}) for mode in FLASH for sound in (True, False)),
    *(("text-to-video", {"shot_type": shot}) for shot in ("single", "multi")),
    *(("text-to-video", {"seed": seed}) for seed in (0, 2_147_483_647)),
    *(("text-to-video", {"prompt_extend": flag, "watermark": flag}) for flag in (True, False)),
    *(("text-to-video", {"audio_urls": [f"https://example.com/a.{kind}"]}) for kind in ("wav", "mp3")),
    *(("image-to-video", {"image_urls": [f"https://e.com/a.{kind}"]}) for kind in ("JPEG", "jpg", "bmp", "webp")),
    ("image-to-video", {"image_urls": ["https://example.com/signed?id=7&sig=a.gif"]}),
    ("image-to-video-flash", {"sound": False, "audio_urls": ["https://example.com/ignored.mp3"]}),
    *((mode, {"reference_urls": [PNG] * 5}) for mode in REFERENCE_MODES),
    *((mode, {"reference_urls": [MP4, MP4, MP4, PNG, PNG]}) for mode in REFERENCE_MODES),
    ("reference-to-video", {"reference_urls": ["https://example.com/a.mov"]}),
    ("text-to-video", {"prompt": STILL.ljust(1500, "x"), "negative_prompt": "x" * 501}),
]

OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    *((mode, {"duration": value}, "input.duration") for mode in MODES for value in (1, "1", 0, -5, 16)),
    *((mode, {"duration": value}, "input.duration") for mode in REFERENCE_MODES for value in (11, "11")),
    *(("text-to-video", {"duration": value}, "duration") for value in (5.0, "5.0", "5s", " 5", "", True, None, [5])),
    *((mode, {"resolution": v}, "input.resolution") for mode in MODES for v in ("720P", "480p", 720, "1280*720", None)),
    *((mode, {"sound": True}, "input.sound") for mode in STANDARD),
    *((mode, {"sound": value}, "input.sound") for mode in FLASH for value in ("true", 1, None)),
    *((mode, {"prompt": value}, "input.prompt") for mode in MODES for value in ("", " \n\t", REMOVED, None, 7)),
    *(("text-to-video", {"seed": value}, "seed") for value in (-1, 2_147_483_648, "42", 1.5, True)),
    *(("text-to-video", {"shot_type": value}, "shot_type") for value in ("triple", "Single", None)),
    *(("text-to-video", {name: value}, name) for name in ("prompt_extend", "watermark") for value in ("true", 1, None)),
    ("text-to-video", {"negative_prompt": 7}, "negative_prompt"),
    *((mode, {"image_urls": value}, "image_urls") for mode in IMAGE_MODES for value in ([], [PNG, PNG], PNG, REMOVED)),
    *((mode, {"image_urls": [value]}, "image_urls") for mode in IMAGE_MODES for value in (MP4, "https://e.com/a.gif")),
    *(("image-to-video", {"image_urls": [v]}, "image_urls") for v in ("hero.png", "data:image/png;base64,AA", "", 1)),
    *((mode, {"reference_urls": v}, "reference_urls") for mode in REFERENCE_MODES for v in ([], [PNG] * 6, REMOVED)),
    *((mode, {"reference_urls": [MP4] * 4}, "at most 3 videos") for mode in REFERENCE_MODES),
    ("reference-to-video", {"reference_urls": ["https://example.com/a.avi"]}, "reference_urls"),
    *(("text-to-video", {"audio_urls": v}, "audio_urls") for v in ([], ["https://e.com/a.mp3"] * 2, "https://e.com/a")),
    ("text-to-video", {"audio_urls": ["https://example.com/a.ogg"]}, "audio_urls"),
    *(("text-to-video", {"mode": value}, "") for value in ("video-to-video", "", REMOVED, None)),
]


@pytest.mark.parametrize(("mode", "fields"), INSIDE)
def test_a_value_just_inside_a_rule_is_accepted(apixo: Apixo, mode: str, fields: dict[str, Any]) -> None:
    _accepts(apixo, _body(mode, **fields))


@pytest.mark.parametrize(("mode", "fields", "field"), OUTSIDE)
def test_a_value_just_outside_a_rule_is_refused_by_name(
    apixo: Apixo, mode: str, fields: dict[str, Any], field: str
) -> None:
    _refuses(apixo, _body(mode, **fields), field)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("field", ["aspect_ratio", "Duration", "image_urls", "reference_urls", "video_urls"])
def test_a_field_that_the_mode_does_not_list_is_refused(apixo: Apixo, mode: str, field: str) -> None:
    if field not in MEDIA[mode]:
        _refuses(apixo, _body(mode, **{field: [IMAGE]}), f"input.{field}")


def test_an_unknown_field_beside_the_input_is_refused(apixo: Apixo) -> None:
    _refuses(apixo, _body() | {"model": "wan-2-6-video"}, "model")


def test_an_overlong_prompt_is_truncated_not_refused_and_the_book_says_so(apixo: Apixo) -> None:
    inside = _accepts(apixo, _body(prompt=STILL.ljust(1500, "x")))
    outside = _accepts(apixo, _body(prompt=STILL.ljust(1501, "x")))
    assert [apixo.job(task)["prompt_truncated"] for task in (inside, outside)] == [False, True]


@pytest.mark.parametrize("kind", [REMOVED, "sync", "", None, 1])
def test_the_request_type_must_be_async_or_callback(apixo: Apixo, kind: Any) -> None:
    body = {name: value for name, value in (_body() | {"request_type": kind}).items() if value is not REMOVED}
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
    body = _body() | {"request_type": "callback"} | ({} if url is REMOVED else {"callback_url": url})
    _refuses(apixo, body, "callback_url")


@pytest.mark.parametrize(
    "url",
    ["https://your-server.com/webhooks/apixo", "http://127.0.0.1:9/hook", "http://localhost:9/h", "http://[::1]:9/h"],
)
def test_callback_mode_takes_public_https_and_leniently_loopback(apixo: Apixo, url: str) -> None:
    task_id = _accepts(apixo, _body() | {"request_type": "callback", "callback_url": url})
    assert apixo.job(task_id)["callback_host"] in url


def test_an_async_task_may_name_a_callback_and_is_never_called(apixo: Apixo) -> None:
    task_id = _accepts(apixo, _body() | {"callback_url": "http://127.0.0.1:9/hook"})
    assert apixo.job(task_id)["callback_host"] is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_body_that_is_not_a_submission_is_refused(apixo: Apixo, content: bytes) -> None:
    path, kind = "/apixo/api/v1/generateTask/wan-2-6-video", {"Content-Type": "application/json"}
    answer = apixo.http.post(path, content=content, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_a_body_over_a_megabyte_is_refused(apixo: Apixo) -> None:
    _refuses(apixo, _body(negative_prompt="x" * (1 << 20)), "too large")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_content_type_must_be_json(apixo: Apixo, content_type: str) -> None:
    assert apixo.post(_body(), headers={"Content-Type": content_type}).status_code == 400


def test_a_charset_beside_the_content_type_does_no_harm(apixo: Apixo) -> None:
    assert apixo.post(_body(), headers={"Content-Type": "application/json; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", "Basic sim-apixo-key", "sim-apixo-key"])
def test_a_wrong_key_is_refused_by_every_endpoint(apixo: Apixo, value: str) -> None:
    header = {"Authorization": value}
    submitted = apixo.post(_body(), headers=header)
    read = apixo.http.get("/apixo/api/v1/statusTask/wan-2-6-video", params={"taskId": "task_1"}, headers=header)
    for answer in (submitted, read):
        assert answer.status_code == 401
        assert (answer.json()["code"], answer.json()["message"]) == (401, "Missing or invalid API key")


def test_another_model_and_another_path_are_not_found(apixo: Apixo) -> None:
    assert apixo.post(_body(), model="wan-2-7-video").json()["code"] == 404
    assert apixo.http.get("/apixo/api/v1/elsewhere").json()["code"] == 404
    assert apixo.http.get("/apixo/api/v1/generateTask/wan-2-6-video").json()["code"] == 404


@pytest.mark.parametrize(("route", "micros_per_s"), PRICE_MICROS_PER_S.items())
def test_the_charge_is_seconds_times_the_documented_price(
    apixo: Apixo, route: tuple[str, str, bool], micros_per_s: int
) -> None:
    mode, resolution, sound = route
    fields = {"sound": sound} if mode in FLASH else {}
    job = apixo.job(_accepts(apixo, _body(mode, resolution=resolution, duration=7, **fields)))
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
    answer = apixo.post(_body(prompt="canary-prompt", resolution="canary-tier", seed="canary-seed"))
    assert answer.status_code == 400
    assert "canary" not in answer.text
