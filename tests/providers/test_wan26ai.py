"""wan26ai.app: what reaches its body, what each of its answers means, and that no bytes do harm."""

import json
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetake.core.errors import CATALOGUE
from providers import wan26ai
from providers.catalogue import Route, load_catalogue
from providers.vendor import task_id_of
from tests.providers.parts import CALLBACK_URL, PROMPT, order_for, plan_of, request_on

BASE_URL = "https://wan26ai.app/api"
FACTS = load_catalogue().vendors["wan26ai"]
TASK = {"task_id": "n35abc123def456wan26", "status": "IN_PROGRESS"}
JSON = {"content-type": "application/json"}
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


class Row(NamedTuple):
    name: str
    status: int
    body: object  # bytes as they are; anything else is written as JSON
    outcome: str
    code: str | None = None
    content_type: str = "application/json"


def envelope(code: object, *, data: object = None, message: object = "words") -> dict[str, object]:
    return {"code": code, "message": message, "data": data}


GONE = ("the model is not available", "unsupported model", "model wan/2-6-text-to-video has been retired")
ROWS = (
    # accepted
    Row("200", 200, envelope(200, data=TASK), "accepted"),
    Row("the code in digits", 200, envelope("200", data=TASK), "accepted"),
    Row("no code", 202, {"data": TASK}, "accepted"),
    Row("a job that has failed at once", 200, envelope(200, data=TASK | {"status": "FAILED"}), "accepted"),
    # the rows of the table
    Row("400 about content", 400, envelope(400, message="NSFW"), "rejected", "content_rejected"),
    Row("403 about content", 403, envelope(403, message="violates our policy"), "rejected", "content_rejected"),
    *(Row(f"400: {words}", 400, envelope(400, message=words), "rejected", "vendor_route_missing") for words in GONE),
    Row("400", 400, envelope(400), "rejected", "vendor_rejected"),
    Row("413", 413, envelope(413), "rejected", "vendor_rejected"),
    Row("415", 415, envelope(415), "rejected", "vendor_rejected"),
    Row("422", 422, envelope(422), "rejected", "vendor_rejected"),
    Row("401", 401, envelope(401), "rejected", "vendor_auth"),
    Row("401 whatever it says", 401, envelope(401, message="policy"), "rejected", "vendor_auth"),
    Row("402", 402, envelope(402), "rejected", "vendor_account_empty"),
    Row("403", 403, envelope(403), "rejected", "vendor_auth"),
    Row("404", 404, envelope(404), "rejected", "vendor_route_missing"),
    Row("429", 429, envelope(429), "throttled", "vendor_throttled"),
    *(Row(str(status), status, envelope(status), "ambiguous") for status in (500, 502, 503, 504, 599)),
    # the envelope's code wins
    Row("402 in a 200", 200, envelope(402), "rejected", "vendor_account_empty"),
    Row("402 in digits in a 200", 200, envelope("402"), "rejected", "vendor_account_empty"),
    Row("429 in a 200", 200, envelope(429), "throttled", "vendor_throttled"),
    Row("500 in a 200", 200, envelope(500), "ambiguous"),
    Row("200 in a 500", 500, envelope(200, data=TASK), "ambiguous"),
    Row("401 with a word for a code", 401, envelope("unauthorized"), "rejected", "vendor_auth"),
    # shapes that no page shows
    Row("an error as text", 401, {"error": "Unauthorized"}, "rejected", "vendor_auth"),
    Row("an error as object", 402, {"error": {"message": "no credits"}}, "rejected", "vendor_account_empty"),
    Row("an error about content", 400, {"error": "sensitive content"}, "rejected", "content_rejected"),
    # whatever no row knows
    *(Row(str(status), status, envelope(status), "ambiguous") for status in (302, 405, 408, 409, 418)),
    Row("an unknown code", 200, envelope(10_001), "ambiguous"),
    Row("an unknown code with a task", 200, envelope(0, data=TASK), "ambiguous"),
    Row("a word for a code, no task", 200, envelope("insufficient_credits"), "ambiguous"),
    Row("no data", 200, envelope(200), "ambiguous"),
    Row("no id", 200, envelope(200, data={"status": "IN_PROGRESS"}), "ambiguous"),
    Row("an empty id", 200, envelope(200, data={"task_id": ""}), "ambiguous"),
    Row("an id with slashes", 200, envelope(200, data={"task_id": "../x"}), "ambiguous"),
    Row("an id of 10 kB", 200, envelope(200, data={"task_id": "t" * 10_000}), "ambiguous"),
    Row("400 that names a task", 400, envelope(400, data=TASK), "ambiguous"),
    Row("another envelope", 403, {"reason": "blocked by a proxy"}, "ambiguous"),
    Row("an empty body", 401, b"", "ambiguous"),
    Row("plain words", 401, b"401 Unauthorized", "ambiguous", None, "text/plain"),
    Row("HTML", 200, b"<html>", "ambiguous", None, "text/html"),
    Row("an array", 200, [envelope(200, data=TASK)], "ambiguous"),
    Row("truncated", 200, b'{"code":200,"data":{"task_id":"n35', "ambiguous"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.outcome}: {row.name}")
def test_an_answer_to_a_submission_has_one_outcome(row: Row) -> None:
    content = row.body if isinstance(row.body, bytes) else json.dumps(row.body).encode()
    headers = {"content-type": row.content_type}
    outcome = wan26ai.submit_outcome(httpx.Response(row.status, headers=headers, content=content))
    assert (row.outcome, row.code) == (outcome.outcome, outcome.error.code if outcome.error else None)
    assert (TASK["task_id"] if row.outcome == "accepted" else None) == outcome.vendor_task_id
    assert outcome.reported_units is None, "nothing is documented to say the charge before the status does"


def test_every_row_of_the_table_is_reached() -> None:
    """A pattern that an earlier row shadows would be a dead rule."""
    expected = {(row.outcome, row.error) for row in FACTS.outcomes if row.outcome != "ambiguous"}
    assert expected <= {(row.outcome, row.code) for row in ROWS}


def read(data: object, *, status: int = 200, code: object = 200) -> Any:
    return wan26ai.read_status(httpx.Response(status, json=envelope(code, data=data)))


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("IN_PROGRESS", "IN_PROGRESS"),
        ("QUEUED", "QUEUED"),
        ("CANCELLED", "CANCELLED"),
        ("success", "success"),
        ("failed", "failed"),
        ("", "none"),
        (None, "none"),
        (7, "7"),
        (["SUCCESS"], "['SUCCESS']"),
        ("see https://evil.example\n", "see [removed]"),
    ],
)
def test_a_status_that_is_not_an_end_is_an_open_job(status: object, shown: str) -> None:
    found = read(TASK | {"status": status, "response": ["https://a.example/1"], "consumed_credits": 115})
    assert ("open", shown) == (found.reading.state, found.reading.vendor_state)
    assert (found.links, found.reported_units) == ((), None)


@pytest.mark.parametrize(
    ("response", "links"),
    [
        (["https://a.example/1.mp4"], ("https://a.example/1.mp4",)),
        (["https://a.example/1", "https://a.example/2"], ("https://a.example/1", "https://a.example/2")),
        ([], ()),
        (None, ()),
        ("https://a.example/1.mp4", ()),
        ([7, None, {"url": "https://a.example"}, "javascript:x"], ()),
    ],
)
def test_a_success_has_the_links_of_its_response(response: object, links: tuple[str, ...]) -> None:
    found = read(TASK | {"status": "SUCCESS", "response": response})
    assert ("succeeded", links) == (found.reading.state, found.links)


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


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("The provider timed out", "vendor_failed"),
        (None, "vendor_failed"),
        ({"a": 1}, "vendor_failed"),
        ("Sensitive content detected", "content_rejected"),
        ("violates the content policy", "content_rejected"),
    ],
)
def test_a_failure_is_mapped_by_family(words: object, code: str) -> None:
    found = read(TASK | {"status": "FAILED", "error_message": words})
    assert ("failed", code) == (found.reading.state, found.reading.error.code)


@pytest.mark.parametrize(("status", "code"), [(200, 404), (404, 404), (404, None)])
def test_a_404_of_the_vendor_is_a_missing_job(status: int, code: object) -> None:
    assert read(None, status=status, code=code).reading.state == "missing"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 429, 500, 503])
def test_another_status_says_nothing_about_the_job_whatever_its_body_claims(status: int) -> None:
    assert read({"status": "FAILED"}, status=status) is None
    assert read({"status": "FAILED"}, code=status) is None


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"data":[]}', b'{"code":200,"data":null}', b"<html>"])
def test_a_body_without_a_job_is_an_outage(body: bytes) -> None:
    assert wan26ai.read_status(httpx.Response(200, content=body, headers=JSON)) is None


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
@settings(max_examples=300, deadline=None)
def test_any_answer_to_a_status_read_is_a_declared_reading_or_none(response: httpx.Response) -> None:
    found = wan26ai.read_status(response)
    if found is not None:
        assert found.reading.state in {"open", "succeeded", "failed", "missing"}
        assert (found.reading.state == "failed") == (found.reading.error is not None)
        assert not found.links or found.reading.state == "succeeded"
        assert found.reading.refunded is None or found.reading.state == "failed"
        assert found.reported_units is None or found.reported_units >= 0


@given(BODIES)
@settings(max_examples=200, deadline=None)
def test_any_callback_is_a_hint(body: bytes) -> None:
    hint = wan26ai.callback_hint(body)
    assert hint.task_id is None or task_id_of(hint.task_id)
