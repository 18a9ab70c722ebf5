"""What a status word means, in any spelling and by synonyms, at every vendor; and links in whatever shape."""

import httpx
import pytest
from pydantic import ValidationError

from providers import vendors
from providers.catalogue import load_catalogue
from providers.readings import (
    CONTRADICTED,
    MOST_LINKS,
    NOT_SHOWN,
    UNDOCUMENTED,
    UNKNOWN,
    links_of,
    moment_of,
    results_in,
)
from providers.states import SYNONYMS, States
from tests.providers.parts import VENDORS, plan_of, request_for
from tests.providers.speaking import DOCUMENTED, TASK_ID, A, B, said, with_clip
from workflows.outcomes import cost_of_failure

SUCCESSES = (
    *("succeeded", "SUCCESS", "success", "completed", "Completed", "COMPLETE", "success ", " Done", "done", "finished"),
    "ok",
)
FAILURES = ("failed", "FAIL", "Failure", "error", "ABORTED", "expired", "timeout", "timed out", "rejected", "cancelled")
OPEN = ("queued", "PENDING", "waiting", "processing", "Running", "in progress", "IN-PROGRESS", "generating")
UNKNOWN_WORDS: tuple[object, ...] = ("REVIEWING", "finalizing", "", None, 7, True, [], {"state": "done"})

every_vendor = pytest.mark.parametrize("vendor", VENDORS)


@every_vendor
@pytest.mark.parametrize("word", SUCCESSES)
def test_a_word_for_success_with_a_clip_is_a_success_in_any_spelling(vendor: str, word: str) -> None:
    status = with_clip(vendor, word)
    assert (status.reading.state, status.links, status.reading.vendor_state) == ("succeeded", (A,), word.strip())


@every_vendor
@pytest.mark.parametrize("word", FAILURES)
def test_a_word_for_failure_is_never_a_success(vendor: str, word: str) -> None:
    for status in (said(vendor, word), with_clip(vendor, word)):
        assert (status.reading.state, status.links) == ("failed", ())
        assert status.reading.error is not None
    assert with_clip(vendor, word).alarm == CONTRADICTED


@every_vendor
@pytest.mark.parametrize("word", OPEN)
def test_a_word_for_work_is_an_open_job_in_any_spelling(vendor: str, word: str) -> None:
    assert (said(vendor, word).reading.state, said(vendor, word).links) == ("open", ())


@every_vendor
@pytest.mark.parametrize("word", UNKNOWN_WORDS)
def test_an_unknown_word_is_an_open_job_with_an_alarm_and_shows_its_clip_if_there_is_one(
    vendor: str, word: object
) -> None:
    bare, shown = said(vendor, word), with_clip(vendor, word)
    assert (bare.reading.state, bare.alarm, bare.shows_clip) == ("open", UNKNOWN, False)
    assert (shown.reading.state, shown.alarm, shown.links, shown.shows_clip) == ("open", UNKNOWN, (A,), True)


@every_vendor
def test_a_clip_beside_a_word_for_work_is_shown_with_an_alarm(vendor: str) -> None:
    word = load_catalogue().vendors[vendor].states.open[0]
    status = with_clip(vendor, word)
    assert (status.reading.state, status.shows_clip, status.alarm) == ("open", True, CONTRADICTED)


@every_vendor
def test_operators_hear_of_every_word_that_no_document_names(vendor: str) -> None:
    states = load_catalogue().vendors[vendor].states
    documented = {word for meaning in SYNONYMS for word in states.documented(meaning)}
    assert {said(vendor, word).alarm for word in documented} == {""}
    for word in (*SUCCESSES, *OPEN, *FAILURES):
        assert said(vendor, word).alarm == ("" if word in documented else UNDOCUMENTED), word


@every_vendor
def test_a_synonym_ends_no_job_that_the_answer_does_not_name(vendor: str) -> None:
    """`{"status": "error"}` may be about the answer and not about the job."""
    states = load_catalogue().vendors[vendor].states
    assert states.meaning("error") == "failed"
    status = said(vendor, "error")
    assert (status.reading.state, status.vendor_task_id) == ("failed", TASK_ID)


@pytest.mark.parametrize("vendor", ["gptimage2", "aivideoapi", "gmi"])
def test_an_error_about_the_answer_is_not_taken_for_one_of_the_job(vendor: str) -> None:
    for word in ("error", "fail", "timeout"):
        status = vendors.VENDORS[vendor].read_status(httpx.Response(200, json={"status": word, "message": "try again"}))
        assert status is None or status.reading.state == "open"


@every_vendor
def test_a_success_with_an_error_is_a_success_when_it_has_its_clip_and_else_a_failure_of_unknown_cost(
    vendor: str,
) -> None:
    word = load_catalogue().vendors[vendor].states.succeeded[0]
    kept, lost = with_clip(vendor, word, error="late warning"), said(vendor, word, error="the provider gave up")
    assert (kept.reading.state, kept.links, kept.alarm) == ("succeeded", (A,), CONTRADICTED)
    assert (lost.reading.state, lost.reading.refunded, lost.alarm) == ("failed", False, CONTRADICTED)
    assert lost.reading.error is not None
    assert "the provider gave up" in lost.reading.error.message


@every_vendor
@pytest.mark.parametrize("word", ["done", "ok", "finished"])
def test_a_synonym_for_success_without_a_clip_is_an_open_job(vendor: str, word: str) -> None:
    assert said(vendor, word).reading.state == "open"


@every_vendor
def test_a_documented_success_without_a_clip_is_a_success_that_is_read_again(vendor: str) -> None:
    word = load_catalogue().vendors[vendor].states.succeeded[0]
    assert (said(vendor, word).reading.state, said(vendor, word).links) == ("succeeded", ())


@every_vendor
def test_only_what_looks_like_a_status_word_is_shown(vendor: str) -> None:
    """It goes into logs and failure texts, which show no prompt."""
    shown = {"REVIEWING": "REVIEWING", "post-processing": "post-processing", " Timed  out": "Timed out", "": "none"}
    hidden = ("moderating: a red fox", "a red fox", "moderating:a_red_fox", "w" * 33, 17, ["a", "red", "fox"])
    for word, expected in [*shown.items(), *((word, NOT_SHOWN) for word in hidden)]:
        assert said(vendor, word).reading.vendor_state == expected


@every_vendor
@pytest.mark.parametrize("cost", ["unknown", "free", "refunded", "charged"])
def test_what_a_failure_by_a_synonym_costs_is_in_doubt(vendor: str, cost: str) -> None:
    plan = plan_of(request_for()).model_copy(update={"failed_job_cost": cost})
    states = load_catalogue().vendors[vendor].states
    documented = [spelled for word in states.failed for spelled in (word, f" {word.upper()}")]
    by_documents = {"unknown": "suspend", "free": "release", "refunded": "release", "charged": "post"}[cost]
    assert {cost_of_failure(plan, said(vendor, word).reading) for word in documented} == {by_documents}
    others = [word for word in FAILURES if not states.is_documented_somehow(word)]
    assert {cost_of_failure(plan, said(vendor, word).reading) for word in others} == {"suspend"}


@pytest.mark.parametrize("word", ["FAILED", "expired"])
def test_an_answer_that_shows_the_refund_needs_no_documented_word(word: str) -> None:
    body = {"code": 200, "data": {"task_id": TASK_ID, "status": word, "consumed_credits": 0}}
    status = vendors.VENDORS["wan26ai"].read_status(httpx.Response(200, json=body))
    assert status is not None
    assert cost_of_failure(plan_of(request_for()), status.reading) == "release"


SHAPES: dict[str, object] = {
    "a text": A,
    "a list of texts": [A],
    "a list of objects with url": [{"url": A}],
    "a list of objects with id and url": [{"id": "0", "url": A}],
    "an object with url": {"url": A},
    "an object with urls as a text": {"urls": A},
    "an object with urls as a list": {"urls": [A]},
    "an object with urls as objects": {"urls": [{"url": A}]},
    "an object with a video": {"video": {"url": A}},
    "an object with video_url": {"video_url": A},
    "an object with resultUrls": {"resultUrls": [A]},
    "an object with resultUrls as a text": {"resultUrls": A},
    "an object with media_urls as a text": {"media_urls": A},
    "a text of a list": f'["{A}"]',
    "a text of an object": f'{{"resultUrls":["{A}"]}}',
    "a text of a text": f'"{A}"',
    "a list of texts of objects": [f'{{"url":"{A}"}}'],
    "blanks around it": [f" {A}\n"],
    "a picture first": {"cover": "https://media.example/p.png", "url": A},
    "a picture in the list": [{"type": "image", "url": "https://media.example/p.png"}, {"type": "video", "url": A}],
    "the same twice": [A, {"url": A}],
}


@every_vendor
@pytest.mark.parametrize("shape", SHAPES)
def test_a_clip_is_found_in_any_shape(vendor: str, shape: str) -> None:
    word = load_catalogue().vendors[vendor].states.succeeded[0]
    status = said(vendor, word, SHAPES[shape])
    assert (status.reading.state, status.links) == ("succeeded", (A,))


@every_vendor
def test_several_clips_keep_their_order(vendor: str) -> None:
    word = load_catalogue().vendors[vendor].states.succeeded[0]
    for result in (DOCUMENTED[vendor]((B, A)), [B, {"url": A}], {"urls": [B, A]}):
        assert said(vendor, word, result).links == (B, A)


@every_vendor
def test_what_was_sent_is_never_taken_for_a_result(vendor: str) -> None:
    word = load_catalogue().vendors[vendor].states.succeeded[0]
    assert said(vendor, word).links == ()


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        True,
        "",
        "no link",
        "see https://media.example/1.mp4 now",
        "ftp://media.example/1.mp4",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        '["https://media.example/1.m',
        "[" * 100_000,
        {"thumbnail": A, "payload": {"url": A}},
        {"type": "image/png", "url": A},
        [[[[[[[A]]]]]]],
    ],
)
def test_what_is_no_link_of_a_clip_is_none(value: object) -> None:
    assert links_of(value) == ()


def test_links_are_bounded_in_number() -> None:
    assert len(links_of([f"https://media.example/{at}" for at in range(10_000)])) == MOST_LINKS


def test_a_result_that_moved_is_found_among_the_fields_of_results_only() -> None:
    assert results_in({"input": {"url": B}, "image_urls": [B], "video_urls": [B], "result": {"url": A}}) == (A,)
    assert results_in({"image_urls": [B], "video_urls": [B], "url": B, "urls": {"get": B}}) == ()


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1767965610, 1767965610.0),
        (1767965610929, 1767965610.929),
        ("1767965610", 1767965610.0),
        ("2026-01-09T13:33:30Z", 1767965610.0),
        ("2026-01-09T14:33:30+01:00", 1767965610.0),
        ("2026-01-09T13:33:30", None),
        ("yesterday", None),
        (0, None),
        (-1, None),
        (True, None),
        (None, None),
        (10**30, None),
        ([], None),
    ],
)
def test_a_time_is_read_in_seconds_milliseconds_or_with_its_zone(value: object, moment: float | None) -> None:
    assert moment_of(value) == moment


def test_a_table_in_which_a_word_means_two_things_is_refused() -> None:
    with pytest.raises(ValidationError, match="stands there twice"):
        States(open=("pending",), succeeded=("Done",), failed=("done ",))
    assert States(open=("ok",), succeeded=("yes",), failed=("no",)).meaning("OK") == "open"
