"""wan26ai.app: what reaches its body, what each of its answers means, and that no bytes do harm."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onetake.core.errors import CATALOGUE
from providers import wan26ai
from providers.catalogue import Route, load_catalogue
from providers.vendor import task_id_of
from tests.providers.answers.wan26ai import TASK, envelope
from tests.providers.parts import CALLBACK_URL, PROMPT, order_for, plan_of, request_on

BASE_URL = "https://wan26ai.app/api"
FACTS = load_catalogue().vendors["wan26ai"]
VIDEOS = ("https://example.com/a.mp4", "https://example.com/b.mp4", "https://example.com/c.mp4")

# How each field of our request that a route accepts stands in the vendor's body.
REACHES: dict[str, tuple[object, str, object]] = {
    "image": ("https://example.com/hero.png", "image_urls", ["https://example.com/hero.png"]),
    "videos": (VIDEOS, "video_urls", list(VIDEOS)),
}


def _route(route: Route) -> str:
    return f"wan26ai/{route.model}/{route.mode}"


def _body(route: Route, *, callback_url: str | None = None, **fields: Any) -> dict[str, Any]:
    order = order_for(request_on(_route(route), **fields), callback_url=callback_url)
    return json.loads(wan26ai.submit_request(BASE_URL, order).content)


@pytest.mark.parametrize("route", FACTS.routes, ids=lambda route: route.mode)
def test_every_field_that_a_route_accepts_reaches_the_body(route: Route) -> None:
    for name in route.fields:
        value, field, expected = REACHES[name]
        fields: dict[str, Any] = {name: value}
        assert expected == _body(route, **fields)[field]


@pytest.mark.parametrize("route", FACTS.routes, ids=lambda route: route.mode)
def test_what_decides_the_price_is_always_sent_and_nothing_is_published(route: Route) -> None:
    media = {"image-to-video": "image_urls", "video-to-video": "video_urls"}.get(route.mode)
    body = _body(route)
    assert {"model", "prompt", "duration", "resolution", "public", *filter(None, [media])} == set(body)
    assert (route.vendor_model, PROMPT, "5", "1080p", False) == tuple(
        body[name] for name in ("model", "prompt", "duration", "resolution", "public")
    )


@pytest.mark.parametrize("route", FACTS.routes, ids=lambda route: route.mode)
def test_each_duration_is_sent_as_a_string_and_each_resolution_in_its_own_word(route: Route) -> None:
    for duration_s in route.duration_s.legal:
        for resolution in route.resolutions.choices:
            body = _body(route, duration_s=duration_s, resolution=resolution)
            assert (str(duration_s), resolution) == (body["duration"], body["resolution"])


def test_a_callback_address_is_sent_only_when_there_is_one() -> None:
    (route, *_) = FACTS.routes
    assert _body(route, callback_url=CALLBACK_URL)["callback_url"] == CALLBACK_URL
    assert "callback_url" not in _body(route)


def read(data: object, *, status: int = 200, code: object = 200) -> Any:
    return wan26ai.read_status(httpx.Response(status, json=envelope(code, data=data)))


@pytest.mark.parametrize(
    ("consumed", "units", "refunded"),
    [
        (0, Decimal(0), True),
        ("0", Decimal(0), True),
        (115, Decimal(115), False),
        (57.5, Decimal("57.5"), False),
        (None, None, None),
        (-1, None, None),
        (True, None, None),
        ("all of them", None, None),
        ([0], None, None),
    ],
)
def test_a_failed_job_says_whether_it_was_refunded_and_nothing_is_guessed(
    consumed: object, units: Decimal | None, refunded: bool | None
) -> None:
    found = read(TASK | {"status": "FAILED", "consumed_credits": consumed})
    assert (units, refunded) == (found.reported_units, found.reading.refunded)
    done = read(TASK | {"status": "SUCCESS", "consumed_credits": consumed})
    assert (units, consumed is not None and units is None) == (done.reported_units, done.cost_unusable)


def test_an_id_never_reaches_the_address_unescaped() -> None:
    request = wan26ai.status_request(BASE_URL, plan_of(request_on(_route(FACTS.routes[0]))), "a/b?c=d&e#f g")
    assert request.url.raw_path.decode() == "/api/status?task_id=a%2Fb%3Fc%3Dd%26e%23f%20g"


@pytest.mark.parametrize(
    ("body", "task_id", "state"),
    [
        (b"", None, None),
        (b"[]", None, None),
        (json.dumps({"data": TASK}).encode(), TASK["task_id"], "IN_PROGRESS"),
        (json.dumps(TASK).encode(), TASK["task_id"], "IN_PROGRESS"),
        (json.dumps({"data": {"task_id": "../x", "status": 3}}).encode(), None, "3"),
        (json.dumps({"data": "odd", "task_id": "n35"}).encode(), None, None),
    ],
)
def test_a_callback_claims_what_can_be_read_in_either_form(body: bytes, task_id: str | None, state: str | None) -> None:
    hint = wan26ai.callback_hint(body)
    assert (task_id, state) == (hint.task_id, hint.state)


NAMES = st.sampled_from(["code", "message", "data", "error", *TASK, "response", "consumed_credits", "error_message"])
WORDS = st.sampled_from(["SUCCESS", "FAILED", "n35abc", "https://a.example/1", "nsfw", "429", "1e999", "NaN"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
DATA = st.fixed_dictionaries(
    {}, optional=dict.fromkeys((*TASK, "response", "consumed_credits", "error_message"), WORDS | DOCUMENTS)
)
ENVELOPES = st.fixed_dictionaries(
    {}, optional={"code": st.sampled_from([200, "200", 402, 404, 429]) | LEAVES, "data": DATA, "error": DOCUMENTS}
)
BODIES = st.binary(max_size=200) | (DOCUMENTS | ENVELOPES).map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 202, 302, 400, 401, 402, 403, 404, 408, 429, 500]) | st.integers(100, 999)
TYPES = st.sampled_from(["application/json", "application/json; charset=utf-16", "text/html", ""])


@st.composite
def responses(draw: st.DrawFn) -> httpx.Response:
    return httpx.Response(draw(STATUSES), headers={"content-type": draw(TYPES)}, content=draw(BODIES))


@given(responses())
@settings(max_examples=300, deadline=None)
def test_any_answer_to_a_submission_has_a_declared_outcome(response: httpx.Response) -> None:
    outcome = wan26ai.submit_outcome(response)
    assert outcome.outcome in {"accepted", "rejected", "throttled", "ambiguous"}
    assert (outcome.outcome == "accepted") == (outcome.vendor_task_id is not None)
    assert (outcome.outcome in {"rejected", "throttled"}) == (outcome.error is not None)
    assert outcome.error is None or outcome.error.code in CATALOGUE
    assert response.status_code // 100 == 2 or outcome.outcome != "accepted"


@given(responses())
@example(httpx.Response(200, json={"code": 200, "data": {"status": "odd", "response": ["https://a.example/1"]}}))
@settings(max_examples=300, deadline=None)
def test_any_answer_to_a_status_read_is_a_declared_reading_or_none(response: httpx.Response) -> None:
    found = wan26ai.read_status(response)
    if found is not None:
        assert found.reading.state in {"open", "succeeded", "failed", "missing"}
        assert (found.reading.state == "failed") == (found.reading.error is not None)
        assert not found.links or found.reading.state != "failed", (
            "an odd word beside a clip is an open job that shows it"
        )
        assert found.reading.refunded is None or found.reading.state == "failed"
        assert found.reported_units is None or found.reported_units >= 0


@given(BODIES)
@settings(max_examples=200, deadline=None)
def test_any_callback_is_a_hint(body: bytes) -> None:
    hint = wan26ai.callback_hint(body)
    assert hint.task_id is None or task_id_of(hint.task_id)
