"""What gptimage2 is sent, and what each of its answers means."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import CATALOGUE, Refused
from providers import gptimage2
from providers.catalogue import load_catalogue
from providers.vendor import CallbackHint, task_id_of
from tests.providers.answers.gptimage2 import TASK, TASK_ID
from tests.providers.parts import order_for, plan_of, request_on
from tests.providers.readings.gptimage2 import task

BASE_URL = "https://api.gptimage2.example/v1"
FACTS = load_catalogue().vendors["gptimage2"]
ROUTES = {route.mode: f"gptimage2/wan-2.6/{route.mode}" for route in FACTS.routes}
PNG, MP4 = "https://example.com/{}.png", "https://example.com/{}.mp4"
MODELS = {
    "text-to-video": "wan2.6-text-to-video",
    "image-to-video": "wan2.6-image-to-video",
    "image-to-video-flash": "wan2.6-image-to-video-flash",
    "reference-to-video": "wan2.6-reference-video",
    "reference-to-video-flash": "wan2.6-reference-video-flash",
}

# Each optional field with a value that is not its default, and what must stand in the body for it.
FIELDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "aspect_ratio": ("3:4", {"aspect_ratio": "3:4"}),
    "image": (PNG.format(1), {"image_urls": [PNG.format(1)]}),
    "references": ((MP4.format(2), MP4.format(1)), {"video_urls": [MP4.format(2), MP4.format(1)]}),
    "shot_type": ("multi", {"model_params": {"shot_type": "multi"}}),
    "prompt_extend": (False, {"prompt_extend": False}),
}


def sent(request: GenerationRequest, callback_url: str | None = None) -> dict[str, Any]:
    return json.loads(gptimage2.submit_request(BASE_URL, order_for(request, callback_url=callback_url)).content)


@pytest.mark.parametrize(("mode", "field"), [(r.mode, field) for r in FACTS.routes for field in sorted(r.fields)])
def test_every_field_that_a_route_accepts_reaches_the_body_under_the_vendors_name(mode: str, field: str) -> None:
    value, expected = FIELDS[field]
    body = sent(request_on(ROUTES[mode], **{field: value}))
    assert expected == {name: body[name] for name in expected}


@pytest.mark.parametrize("mode", ROUTES)
def test_what_decides_the_price_is_always_sent_and_nothing_else_is_made_up(mode: str) -> None:
    body = sent(request_on(ROUTES[mode]))
    media = {"text": set[str](), "image": {"image_urls"}, "reference": {"video_urls"}}[mode.partition("-")[0]]
    ratio = set[str]() if mode.startswith("image") else {"aspect_ratio"}
    assert {"model", "prompt", "quality", "duration"} | media | ratio == set(body)
    assert MODELS[mode] == body["model"]
    assert (body["quality"], body["duration"]) == ("720p", 5)
    assert ("16:9" if ratio else None) == body.get("aspect_ratio")


def test_the_callback_address_and_nothing_else_is_added_for_a_callback() -> None:
    request, url = request_on(ROUTES["text-to-video"]), "https://onetake.example/callbacks/gptimage2/token"
    assert sent(request) | {"callback_url": url} == sent(request, url)


@pytest.mark.parametrize("mode", [mode for mode in ROUTES if not mode.startswith("reference")])
def test_many_shots_without_the_rewriting_that_makes_them_are_refused(mode: str) -> None:
    """The vendor would render, and bill, a single shot."""
    with pytest.raises(Refused) as refusal:
        plan_of(request_on(ROUTES[mode], shot_type="multi", prompt_extend=False))
    assert [violation.pointer for violation in refusal.value.violations] == ["/prompt_extend"]


@pytest.mark.parametrize("usage", [{"credits_reserved": 5}, {"credits_reserved": "31.25"}, {}, None, [5]])
def test_a_reservation_is_not_taken_for_a_charge(usage: object) -> None:
    """The job is settled on what was generated, which no answer shows: until then the pinned price is what is known."""
    outcome = gptimage2.submit_outcome(httpx.Response(200, json={**TASK, "usage": usage}))
    assert (outcome.outcome, outcome.reported_units) == ("accepted", None)


def read(body: object, status: int = 200) -> Any:
    return gptimage2.read_status(httpx.Response(status, json=body))


@pytest.mark.parametrize(("task_id", "path"), [(TASK_ID, TASK_ID), ("a/b?c=d&e#f g", "a%2Fb%3Fc%3Dd%26e%23f%20g")])
def test_an_id_never_reaches_the_address_unescaped(task_id: str, path: str) -> None:
    request = gptimage2.status_request(BASE_URL, plan_of(request_on(ROUTES["text-to-video"])), task_id)
    assert f"/v1/tasks/{path}" == request.url.raw_path.decode()


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", CallbackHint()),
        (b"[]", CallbackHint()),
        (json.dumps(task("completed")).encode(), CallbackHint(TASK_ID, "completed")),
        (json.dumps({"id": "../x", "status": 3}).encode(), CallbackHint(None, "3")),
        (json.dumps({"data": task()}).encode(), CallbackHint()),
    ],
)
def test_a_callback_claims_what_can_be_read_and_nothing_else(body: bytes, hint: CallbackHint) -> None:
    assert hint == gptimage2.callback_hint(body)


NAMES = st.sampled_from(["id", "status", "error", "code", "type", "message", "results", "usage", "credits_reserved"])
WORDS = st.sampled_from(["completed", "failed", TASK_ID, "https://a.example/1", "insufficient_quota", "404", "²"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | DOCUMENTS.map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 201, 302, 400, 401, 402, 403, 404, 409, 429, 500, 503]) | st.integers(100, 999)


@given(STATUSES, BODIES)
@settings(max_examples=400, deadline=None)
def test_any_answer_is_one_of_the_declared_outcomes(status: int, body: bytes) -> None:
    response = httpx.Response(status, headers={"content-type": "application/json"}, content=body)
    outcome = gptimage2.submit_outcome(response)
    assert outcome.outcome in {"accepted", "rejected", "throttled", "ambiguous"}
    assert (outcome.outcome == "accepted") == (outcome.vendor_task_id is not None)
    assert (outcome.outcome in {"rejected", "throttled"}) == (outcome.error is not None)
    assert outcome.error is None or outcome.error.code in CATALOGUE
    assert status // 100 == 2 or outcome.outcome != "accepted"
    reading = gptimage2.read_status(response)
    assert reading is None or reading.reading.state in {"open", "succeeded", "failed", "missing"}
    assert reading is None or not reading.links or reading.reading.state != "failed"
    hint = gptimage2.callback_hint(body)
    assert hint.task_id is None or task_id_of(hint.task_id)
