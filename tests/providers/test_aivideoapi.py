"""What aivideoapi.ai is sent, and what each of its answers means."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import CATALOGUE
from onetake.core.ports import Account
from providers import aivideoapi
from providers.catalogue import load_catalogue
from providers.vendor import CallbackHint, task_id_of
from tests.providers.answers.aivideoapi import TASK_ID, envelope
from tests.providers.parts import order_for, plan_of, request_on
from tests.providers.readings.aivideoapi import task

BASE_URL = "https://api.aivideoapi.ai/v1"
FACTS = load_catalogue().vendors["aivideoapi"]
ROUTES = {route.mode: f"aivideoapi/wan-2.6/{route.mode}" for route in FACTS.routes}
PNG, MP4, MP3 = "https://example.com/{}.png", "https://example.com/{}.mp4", "https://example.com/voice.mp3"

# Each optional field with a value that is not its default, and what must stand in `input` for it.
FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "negative_prompt": ("blurry", {"negative_prompt": "blurry"}),
    "aspect_ratio": ("3:4", {"aspect_ratio": "3:4"}),
    "image": (PNG.format(1), {"image_urls": [PNG.format(1)]}),
    "references": ((PNG.format(1), MP4.format(2)), {"image_urls": [PNG.format(1)], "video_urls": [MP4.format(2)]}),
    "audio_url": (MP3, {"audio_urls": [MP3]}),
    "sound": (False, {"audio": False}),
    "shot_type": ("multi", {"shot_type": "multi"}),
    "prompt_extend": (False, {"prompt_extend": False}),
    "seed": (0, {"seed": 0}),
    "watermark": (True, {"watermark": True}),
}


def sent(request: GenerationRequest, callback_url: str | None = None) -> dict[str, Any]:
    order = order_for(request, callback_url=callback_url, seed=request.seed)
    return json.loads(aivideoapi.submit_request(BASE_URL, order).content)


@pytest.mark.parametrize(("mode", "field"), [(r.mode, field) for r in FACTS.routes for field in sorted(r.fields)])
def test_every_field_that_a_route_accepts_reaches_the_body_under_the_vendors_name(mode: str, field: str) -> None:
    value, expected = FIELDS[field]
    given_input = sent(request_on(ROUTES[mode], **{field: value}))["input"]
    assert expected == {name: given_input[name] for name in expected}


@pytest.mark.parametrize("mode", ROUTES)
def test_what_decides_the_price_is_always_sent_and_nothing_else_is_made_up(mode: str) -> None:
    body = sent(request_on(ROUTES[mode]))
    media = {"text-to-video": set[str](), "image-to-video": {"image_urls"}, "reference-to-video": {"video_urls"}}[mode]
    ratio = set[str]() if mode == "image-to-video" else {"aspect_ratio"}
    assert {"model", "input"} == set(body)
    assert f"wan-2.6-{mode}" == body["model"]
    assert {"prompt", "resolution", "duration"} | media | ratio == set(body["input"])
    assert (body["input"]["resolution"], body["input"]["duration"]) == ("1080p", 5)
    assert ("16:9" if ratio else None) == body["input"].get("aspect_ratio")


def test_a_callback_address_stands_beside_the_input() -> None:
    body = sent(request_on(ROUTES["text-to-video"]), "https://onetake.example/callbacks/aivideoapi/token")
    assert body["callback_url"] == "https://onetake.example/callbacks/aivideoapi/token"


@pytest.mark.parametrize(
    ("given_order", "images", "videos"),
    [
        ("iviv", [1, 3], [2, 4]),
        ("vviii", [3, 4, 5], [1, 2]),
        ("iiiii", [1, 2, 3, 4, 5], []),
        ("vvv", [], [1, 2, 3]),
        ("v", [], [1]),
    ],
)
def test_references_go_into_two_lists_each_in_the_requests_order(
    given_order: str, images: list[int], videos: list[int]
) -> None:
    urls = [{"i": PNG, "v": MP4}[kind].format(number) for number, kind in enumerate(given_order, start=1)]
    body = sent(request_on(ROUTES["reference-to-video"], references=urls))["input"]
    assert [PNG.format(number) for number in images] == body.get("image_urls", [])
    assert [MP4.format(number) for number in videos] == body.get("video_urls", [])
    assert [] not in body.values(), "an empty list is left out"


def test_the_kinds_of_the_plan_decide_and_not_the_names() -> None:
    """Admission looks at the bytes: an address need not tell what is behind it."""
    urls = ("https://example.com/a?id=1", "https://example.com/b.png")
    order = order_for(request_on(ROUTES["reference-to-video"], references=urls))
    looked_at = order.plan.model_copy(update={"reference_kinds": ("video", "image")})
    request = aivideoapi.submit_request(BASE_URL, order.__class__(looked_at, order.request, None, None))
    body = json.loads(request.content)["input"]
    assert ([urls[1]], [urls[0]]) == (body["image_urls"], body["video_urls"])


def read(body: object, status: int = 200) -> Any:
    return aivideoapi.read_status(httpx.Response(status, json=body))


def test_a_wrapped_task_is_read_as_well() -> None:
    """The page of this model does not show a task; what it shows is wrapped."""
    status = read(envelope(200, data=task("completed", output={"urls": ["https://a.example/1"]})))
    assert (status.reading.state, status.links) == ("succeeded", ("https://a.example/1",))


@pytest.mark.parametrize(
    ("task_id", "path"), [(TASK_ID, TASK_ID), ("a/b?c=d&e#f g", "a%2Fb%3Fc%3Dd%26e%23f%20g"), ("...", "...")]
)
def test_an_id_never_reaches_the_address_unescaped(task_id: str, path: str) -> None:
    request = aivideoapi.status_request(BASE_URL, plan_of(request_on(ROUTES["text-to-video"])), task_id)
    assert f"/v1/tasks/{path}" == request.url.raw_path.decode()


def account(body: object, status: int = 200) -> Account | None:
    return aivideoapi.read_account(httpx.Response(status, json=body))


def test_the_account_is_what_is_left_and_what_was_charged() -> None:
    data = {"balance": 880, "total_purchased": 1000, "total_consumed": 120}
    assert account({"code": 200, "msg": "success", "data": data}) == Account(Decimal(880), Decimal(120))
    assert str(aivideoapi.account_request("https://a.example/v1").url) == "https://a.example/v1/credits"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"code": 200, "data": {"balance": 1}}, 200),
        ({"code": 200, "data": {"balance": 1, "total_consumed": "many"}}, 200),
        ({"code": 200, "data": {"balance": -1, "total_consumed": 1}}, 200),
        ({"code": 200, "data": {"balance": 1, "total_consumed": True}}, 200),
        ({"code": 500, "data": {"balance": 1, "total_consumed": 1}}, 200),
        ({"code": 200, "data": {"balance": 1, "total_consumed": 1}}, 503),
        ({"code": 200, "data": [1, 1]}, 200),
        ([], 200),
        (None, 200),
    ],
)
def test_an_account_that_is_not_whole_is_not_understood(body: object, status: int) -> None:
    assert account(body, status) is None


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", CallbackHint()),
        (b"[]", CallbackHint()),
        (json.dumps(task("completed")).encode(), CallbackHint(TASK_ID, "completed")),
        (json.dumps({"id": "../x", "status": 3}).encode(), CallbackHint(None, "3")),
        (json.dumps({"data": task("failed")}).encode(), CallbackHint(TASK_ID, "failed")),
    ],
)
def test_a_callback_claims_what_can_be_read_and_nothing_else(body: bytes, hint: CallbackHint) -> None:
    assert hint == aivideoapi.callback_hint(body)


KEYS = st.sampled_from(["code", "msg", "data", "error", "taskId", "id", "status", "output", "urls", "message", "type"])
WORDS = st.sampled_from(["completed", "failed", TASK_ID, "https://a.example/1", *aivideoapi.HTTP_OF_CODE, "429", "٤٠٠"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5),
    max_leaves=14,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, 402, 404, 429, 500]) | LEAVES,
        "data": st.fixed_dictionaries({}, optional={"taskId": LEAVES, "id": LEAVES, "status": DOCUMENTS}) | DOCUMENTS,
        "error": st.fixed_dictionaries({}, optional={"code": LEAVES, "message": DOCUMENTS}) | DOCUMENTS,
        "status": WORDS | DOCUMENTS,
        "output": st.fixed_dictionaries({"urls": DOCUMENTS}) | DOCUMENTS,
        "id": LEAVES,
    },
)
BODIES = st.binary(max_size=100) | (DOCUMENTS | ENVELOPES).map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 201, 302, 400, 401, 402, 403, 404, 429, 500, 503]) | st.integers(100, 999)


@given(STATUSES, BODIES)
@example(200, b'{"code": 200, "status": "SOMETHING_NEW", "output": {"urls": "https://a.example/1"}}')
@settings(max_examples=300, deadline=None)
def test_any_answer_is_a_declared_outcome_and_a_declared_reading(status: int, content: bytes) -> None:
    response = httpx.Response(status, headers={"content-type": "application/json"}, content=content)
    outcome = aivideoapi.submit_outcome(response)
    assert outcome.outcome in {"accepted", "rejected", "throttled", "ambiguous"}
    assert (outcome.outcome == "accepted") == (outcome.vendor_task_id is not None)
    assert (outcome.outcome in {"rejected", "throttled"}) == (outcome.error is not None)
    assert outcome.error is None or outcome.error.code in CATALOGUE
    assert status // 100 == 2 or outcome.outcome != "accepted"
    reading = aivideoapi.read_status(response)
    if reading is not None:
        assert reading.reading.state in {"open", "succeeded", "failed", "missing"}
        assert (reading.reading.state == "failed") == (reading.reading.error is not None)
        assert not reading.links or reading.reading.state != "failed"
        assert len(reading.reading.vendor_state) <= 200
    hint = aivideoapi.callback_hint(content)
    assert hint.task_id is None or task_id_of(hint.task_id)
