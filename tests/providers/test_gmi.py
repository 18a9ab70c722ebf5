"""GMI's vendor file: every field reaches the body, every row of its tables holds, and any bytes are an outcome."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetake.core.errors import CATALOGUE
from providers import gmi
from providers.catalogue import load_catalogue
from providers.vendor import CallbackHint, ListedJob
from tests.providers.answers.gmi import ID
from tests.providers.parts import order_for, request_on
from tests.providers.readings.gmi import A

BASE_URL = "https://console.gmicloud.ai"
FACTS = load_catalogue().vendors["gmi"]
ROUTES = {f"gmi/wan-2.6/{route.mode}": route for route in FACTS.routes}
MP3 = "https://example.com/a.mp3"
ENVELOPES = ("requests", "data", "items")

# The field of our request -> a value, the field of `payload`, and what must stand there.
SENT: dict[str, tuple[Any, str, Any]] = {
    "negative_prompt": ("blurry", "negative_prompt", "blurry"),
    "aspect_ratio": ("3:4", "size", "1248*1632"),
    "image": ("https://example.com/i.png", "img_url", "https://example.com/i.png"),
    "references": (
        ("https://e.com/1.mp4", "https://e.com/2.mp4"),
        "reference_video_urls",
        ["https://e.com/1.mp4", "https://e.com/2.mp4"],
    ),
    "audio_url": (MP3, "audio_url", MP3),
    "sound": (False, "audio", False),
    "shot_type": ("multi", "shot_type", "multi"),
    "prompt_extend": (False, "prompt_extend", False),
    "seed": (7, "seed", 7),
    "watermark": (True, "watermark", True),
}


def payload(route: str, /, **fields: Any) -> dict[str, Any]:
    order = order_for(request_on(route, **fields), seed=fields.get("seed"))
    body = json.loads(gmi.submit_request(BASE_URL, order).content)
    assert set(body) == {"model", "payload"}
    assert body["model"] == ROUTES[route].vendor_model
    return body["payload"]


@pytest.mark.parametrize(
    ("route", "name"), [(route, name) for route in ROUTES for name in sorted(ROUTES[route].fields)]
)
def test_every_field_that_the_route_takes_reaches_the_vendor_under_its_name(route: str, name: str) -> None:
    value, theirs, expected = SENT[name]
    assert payload(route, **{name: value})[theirs] == expected


@pytest.mark.parametrize("route", ROUTES)
def test_what_nobody_asked_for_is_not_sent_and_what_decides_the_price_always_is(route: str) -> None:
    media = {"image-to-video": {"img_url"}, "reference-to-video": {"reference_video_urls"}}
    mode = route.rpartition("/")[2]
    size = "resolution" if mode == "image-to-video" else "size"
    sound = () if mode == "reference-to-video" else ("audio",)  # its documented default is pinned
    assert set(payload(route)) == {"prompt", "duration", size, *sound, *media.get(mode, ())}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("resolution", "tier", "size"), [("720p", "720P", "1280*720"), ("1080p", "1080P", "1920*1080")]
)
def test_a_resolution_is_written_as_the_model_writes_it(route: str, resolution: str, tier: str, size: str) -> None:
    sent = payload(route, resolution=resolution)
    shown = sent.get("resolution") or sent["size"]
    assert shown == (tier if route.endswith("image-to-video") else size)


@pytest.mark.parametrize("seconds", [5, 10])
@pytest.mark.parametrize("route", ROUTES)
def test_a_duration_is_an_integer(route: str, seconds: int) -> None:
    assert (type(payload(route, duration_s=seconds)["duration"]), payload(route, duration_s=seconds)["duration"]) == (
        int,
        seconds,
    )


def test_a_callback_address_is_never_sent() -> None:
    request = request_on("gmi/wan-2.6/text-to-video")
    with_callback = order_for(request, callback_url="https://onetake.example/callbacks/gmi/canary-token")
    assert (
        gmi.submit_request(BASE_URL, with_callback).content == gmi.submit_request(BASE_URL, order_for(request)).content
    )


@pytest.mark.parametrize("body", [b"", b"{}", b'{"request_id":"x","status":"success"}', b"\xff"])
def test_a_callback_that_comes_all_the_same_says_nothing(body: bytes) -> None:
    assert gmi.callback_hint(body) == CallbackHint()


# -- Submission --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"request_id":"' + ID.encode(), b"[" * 100_000])
@pytest.mark.parametrize("kind", ["application/json", "text/html", ""])
def test_what_is_not_the_vendors_json_is_ambiguous_and_an_outage(body: bytes, kind: str) -> None:
    answer = httpx.Response(200, headers={"content-type": kind}, content=body)
    assert gmi.submit_outcome(answer).outcome == "ambiguous"
    assert gmi.read_status(answer) is None


# -- Status ------------------------------------------------------------------------------------------------------------


def read(status: object, /, **more: object) -> Any:
    return gmi.read_status(httpx.Response(200, json={"request_id": ID, "status": status, **more}))


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"error": "no"}, "vendor_failed", "no"),
        ({"error": {"code": "E1", "message": "no"}}, "vendor_failed", "E1: no"),
        ({"error": {"code": 7}}, "vendor_failed", "7"),
        ({"message": "no"}, "vendor_failed", "no"),
        ({"error": "", "outcome": "no"}, "vendor_failed", "no"),
        ({"outcome": {"error": "no"}}, "vendor_failed", "no"),
        ({"outcome": {"message": "safety system"}}, "content_rejected", "safety system"),
        ({"error": "DataInspectionFailed"}, "content_rejected", "DataInspectionFailed"),
        ({"error": "prohibited, see https://gmi.example/x"}, "content_rejected", "prohibited, see [removed]"),
        ({"error": [{"input": "canary"}]}, "vendor_failed", ""),
        ({"payload": {"prompt": "canary"}}, "vendor_failed", ""),
    ],
)
def test_a_failed_job_has_its_code_and_the_vendors_words_made_safe(
    more: Mapping[str, object], code: str, said: str
) -> None:
    reading = read("failed", **more).reading
    assert ("failed", code) == (reading.state, reading.error.code)
    sentence = CATALOGUE[code].sentence
    assert reading.error.message == (f"{sentence} It said: {said}" if said else sentence)
    assert (reading.refunded, reading.reported_micros) == (None, None), "no page says what a failed job costs"


def test_an_object_that_is_no_request_is_an_outage() -> None:
    assert gmi.read_status(httpx.Response(200, json={"error": "try again"})) is None


def test_the_vendor_is_polled_and_what_a_failed_job_costs_is_unknown() -> None:
    facts = FACTS.vendor
    assert (facts.callbacks, facts.cancelable, facts.failed_job_cost) == (False, False, "unknown")


# -- The list ----------------------------------------------------------------------------------------------------------

ORDER = order_for(request_on("gmi/wan-2.6/text-to-video", seed=7), seed=7)
CREATED_AT = 1_800_000_000


def job(**changes: object) -> dict[str, Any]:
    """A listed job that is the order's."""
    sent = json.loads(gmi.submit_request(BASE_URL, ORDER).content)
    return {"request_id": ID, "status": "queued", "created_at": CREATED_AT, **sent, **changes}


def listed(body: object, status: int = 200, **headers: str) -> tuple[ListedJob, ...] | None:
    return gmi.listed_jobs(httpx.Response(status, json=body, headers=headers), ORDER)


def test_the_list_is_asked_for_the_model_of_the_order() -> None:
    request = gmi.list_request(BASE_URL, ORDER.plan)
    assert str(request.url) == f"{BASE_URL}{gmi.REQUESTS}?model_id=wan2.6-t2v"
    assert (request.method, request.content) == ("GET", b"")


@pytest.mark.parametrize("name", ["", *ENVELOPES])
def test_a_job_of_this_very_body_is_found_in_every_known_envelope(name: str) -> None:
    other = {"request_id": "other", "model": "wan2.6-t2v", "payload": {"prompt": "another"}, "created_at": None}
    assert listed(wrapped(name, [other, job(), {}])) == (ListedJob(ID, CREATED_AT),)
    assert listed(wrapped(name, [])) == ()


def wrapped(name: str, jobs: list[dict[str, Any]]) -> object:
    return {name: jobs} if name else jobs


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "wan2.6-i2v"},
        {"payload": None},
        {"payload": {**job()["payload"], "seed": 8}},
        {"payload": {**job()["payload"], "prompt": "canary"}},
        {"payload": {**job()["payload"], "watermark": True}},
        {"payload": {name: value for name, value in job()["payload"].items() if name != "seed"}},
        {"payload": [job()["payload"]]},
    ],
)
def test_a_job_that_differs_in_anything_is_another(changes: dict[str, object]) -> None:
    assert listed([job(**changes)]) == ()


def test_two_jobs_of_this_body_are_two_and_one_job_shown_twice_is_one() -> None:
    assert listed([job(), job(), job(request_id="second")]) == (
        ListedJob(ID, CREATED_AT),
        ListedJob("second", CREATED_AT),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": None},
        {"request_id": "a/b"},
        {"request_id": "x" * 10_000},
        {"created_at": None},
        {"created_at": "yesterday"},
        {"created_at": -1},
        {"created_at": True},
        {"created_at": CREATED_AT * 1000},
        {"created_at": 10**400},
    ],
)
def test_a_job_of_this_body_without_a_usable_id_or_time_makes_the_list_unreadable(changes: dict[str, object]) -> None:
    assert listed([job(**changes), job(request_id="second")]) is None


@pytest.mark.parametrize(
    "body", [None, 7, "text", {}, {"requests": None}, {"requests": {}}, [[]], [job(), 1], {"x": []}]
)
def test_what_is_no_list_of_jobs_is_not_understood(body: object) -> None:
    assert listed(body) is None


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_a_list_with_another_status_is_not_understood(status: int) -> None:
    assert listed([job()], status) is None


def test_a_page_a_broken_body_and_a_deep_one_are_not_understood() -> None:
    for kind, body in (
        ("text/html", json.dumps([job()]).encode()),
        ("application/json", b"[" * 100_000),
        ("application/json", b'[{"request_id"'),
        ("application/json", b"\xff\xfe"),
    ):
        assert gmi.listed_jobs(httpx.Response(200, headers={"content-type": kind}, content=body), ORDER) is None


# -- Anything ----------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["success", "failed", "cancelled", "queued", ID, A, "nsfw"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
NAMES = st.sampled_from(
    ["request_id", "status", "outcome", "media_urls", "video_url", "url", "error", "message", "detail", "code"]
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5),
    max_leaves=15,
)
REQUESTS = st.fixed_dictionaries(
    {"request_id": st.just(ID) | LEAVES, "status": WORDS | DOCUMENTS},
    optional={"outcome": DOCUMENTS, "error": DOCUMENTS},
)
BODIES = st.binary(max_size=200) | (DOCUMENTS | REQUESTS).map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 201, 302, 400, 401, 402, 403, 404, 409, 422, 429, 500, 503]) | st.integers(100, 999)
TYPES = st.sampled_from(["application/json", "application/json", "application/json; charset=utf-16", "text/html", ""])


@given(STATUSES, TYPES, BODIES)
@settings(max_examples=500, deadline=None)
def test_whatever_the_bytes_are_there_is_a_declared_outcome(status: int, kind: str, body: bytes) -> None:
    answer = httpx.Response(status, headers={"content-type": kind}, content=body)
    outcome = gmi.submit_outcome(answer)
    assert outcome.outcome in {"accepted", "rejected", "throttled", "ambiguous"}
    assert (outcome.outcome == "accepted") == (outcome.vendor_task_id is not None)
    assert (outcome.outcome in {"rejected", "throttled"}) == (outcome.error is not None)
    reading = gmi.read_status(answer)
    if reading is not None:
        assert reading.reading.state in {"open", "succeeded", "failed", "missing"}
        assert (reading.reading.state == "failed") == (reading.reading.error is not None)
        assert len(reading.reading.vendor_state) <= 200
    jobs = gmi.listed_jobs(answer, ORDER)
    assert jobs is None or all(job.task_id for job in jobs)
    assert gmi.callback_hint(body) == CallbackHint()
