"""Whatever the bytes are: a declared outcome, and nothing raised."""

import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onetake.core.errors import CATALOGUE
from providers import apixo
from providers.driver import LONGEST_RETRY_AFTER_S, retry_after_s
from providers.readings import links_of
from providers.vendor import CallbackHint, safe_text, task_id_of

OUTCOMES = {"accepted", "rejected", "throttled", "ambiguous"}
STATES = {"open", "succeeded", "failed", "missing"}
NAMES = st.sampled_from(["code", "message", "data", "taskId", "state", "resultJson", "resultUrls", "failCode", "error"])
WORDS = st.sampled_from(
    [
        "success",
        "failed",
        "task_1",
        "https://a.example/1",
        '{"resultUrls":["https://a.example/1"]}',
        "Bearer Bearer abc",
        "nsfw",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from([200, 400, 401, 402, 403, 404, 429, 500]) | LEAVES,
        "message": LEAVES,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "taskId": LEAVES,
                "state": st.sampled_from(["success", "failed", "pending"]) | DOCUMENTS,
                "resultJson": WORDS | DOCUMENTS,
                "failCode": DOCUMENTS,
                "error": DOCUMENTS,
            },
        )
        | DOCUMENTS,
    },
)
BODIES = st.binary(max_size=200) | (DOCUMENTS | ENVELOPES).map(lambda value: json.dumps(value).encode())
STATUSES = st.sampled_from([200, 201, 302, 400, 401, 402, 403, 404, 408, 409, 429, 500, 502, 503, 504]) | st.integers(
    100, 999
)
TYPES = st.sampled_from(["application/json", "application/json; charset=utf-16", "text/html", ""])


@st.composite
def responses(draw: st.DrawFn) -> httpx.Response:
    headers = {"content-type": draw(TYPES)}
    return httpx.Response(draw(STATUSES), headers=headers, content=draw(BODIES))


@given(responses())
@settings(max_examples=400, deadline=None)
def test_any_answer_to_a_submission_has_a_declared_outcome(response: httpx.Response) -> None:
    outcome = apixo.submit_outcome(response)
    assert outcome.outcome in OUTCOMES
    assert (outcome.outcome == "accepted") == (outcome.vendor_task_id is not None)
    assert (outcome.outcome in {"rejected", "throttled"}) == (outcome.error is not None)
    assert outcome.error is None or outcome.error.code in CATALOGUE
    assert response.status_code // 100 == 2 or outcome.outcome != "accepted"


@given(responses())
@settings(max_examples=400, deadline=None)
def test_any_answer_to_a_status_read_is_a_declared_reading_or_none(response: httpx.Response) -> None:
    status = apixo.read_status(response)
    if status is not None:
        assert status.reading.state in STATES
        assert (status.reading.state == "failed") == (status.reading.error is not None)
        assert not status.links or status.reading.state in {"succeeded", "open"}
        assert_safe(status.reading.vendor_state)


@given(BODIES)
@settings(max_examples=200, deadline=None)
def test_any_callback_is_a_hint(body: bytes) -> None:
    hint = apixo.callback_hint(body)
    assert isinstance(hint, CallbackHint)
    assert hint.task_id is None or task_id_of(hint.task_id)


def nested_lists(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("depth", [10, 200, 400, 600, 800, 900, 950, 990, 100_000])
@pytest.mark.parametrize("field", [b"message", b"data", b"code"])
def test_nesting_of_any_depth_is_survived(depth: int, field: bytes) -> None:
    """A depth that the reader just manages may be too much for the writer."""
    headers = {"content-type": "application/json"}
    body = b'{"%s":%s}' % (field, nested_lists(depth))
    inner = b'{"data":{"state":%s,"failMsg":%s}}' % (nested_lists(depth), nested_lists(depth))
    for status in (200, 400):
        assert apixo.submit_outcome(httpx.Response(status, headers=headers, content=body)).outcome in OUTCOMES
    apixo.read_status(httpx.Response(200, headers=headers, content=inner))
    apixo.callback_hint(inner)


def assert_safe(text: str) -> None:
    assert len(text) <= 200
    assert text == text.strip()
    assert text.isprintable(), "no control, format or separator character"
    assert not re.search(r"(?i)[a-z][a-z0-9+.-]{0,20}://", text)
    assert not re.search(r"(?i)bearer[\s:=]+(?!\[removed\])\S", text)
    assert not re.search(r"(?i)\bsk-\S", text)


PIECES = st.sampled_from(
    ["bearer", "Bearer ", "BEARER\n", "https://", "HTTP://x", "sk-", "a" * 30, " ", "://", "\u202e", "\u00ad", "\x9b"]
)


@given(st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join) | DOCUMENTS)
@example("Bearer Bearer abc")
@example("bearer: abc")
@example("https://" * 200)
@example("bearer " + " " * 300 + "abc")
@example("a" * 1990 + " bearer abcdef")
@settings(max_examples=600, deadline=None)
def test_safe_text_holds_no_control_characters_links_or_tokens(value: Any) -> None:
    assert_safe(safe_text(value))


def test_a_megabyte_of_words_takes_no_time() -> None:
    for text in ("a" * 1_000_000, "bearer " * 150_000, "a://" * 250_000, "\x00a" * 500_000):
        assert_safe(safe_text(text))


@given(DOCUMENTS)
@settings(max_examples=200, deadline=None)
def test_links_are_strings_with_a_scheme_of_the_web(value: object) -> None:
    assert all(link.startswith(("https://", "http://")) for link in links_of(value))


@given(st.text(max_size=40) | st.text("0123456789:,+- GMTWedOct", max_size=40), st.floats(0, 4e9))
@example(" ", 0.0)
@example("²", 0.0)
@example("9" * 400, 0.0)
@example("Mon, 01 Jan 2024 00:00:00 +99999999999", 0.0)
@settings(max_examples=400, deadline=None)
def test_any_retry_after_is_a_wait_of_at_most_five_minutes_or_none(header: str, now: float) -> None:
    wait_s = retry_after_s(header, now)
    assert wait_s is None or 0 < wait_s <= LONGEST_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", None),
        ("36000", 300.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("5, 7", None),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("Thu, 01 Jan 1970 00:16:50", 10.0),
        ("Thu, 01 Jan 1970 00:16:30 GMT", None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 300.0),
        ("Fri, 99 Foo 2100 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, expected: float | None) -> None:
    assert expected == retry_after_s(header, now=1000.0)
