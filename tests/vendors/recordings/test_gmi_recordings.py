"""What the documents show of GMI: the request we send byte for byte, and the reading we take of each answer."""

import json
from functools import partial
from typing import Any

import httpx
import pytest

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import CATALOGUE
from providers import gmi
from tests.providers.parts import order_for, plan_of, request_on
from tests.vendors.recordings import recordings
from tests.vendors.recordings.recordings import response

names, recorded = partial(recordings.names, vendor="gmi"), partial(recordings.recorded, vendor="gmi")
BASE_URL = "https://console.gmicloud.ai"
ANSWERS = [*names("submitted"), *names("submit_error_")]
SUBMISSIONS = [name for name in names("submit_") if name not in ANSWERS]
READINGS = [name for name in names("status_") if name != "status_read"]


def _assert_is(expected: dict[str, Any], request: httpx.Request) -> None:
    assert expected["method"] == request.method
    assert f"{BASE_URL}{expected['path']}" == str(request.url)
    assert expected["body"].encode() == request.content
    for name, value in expected["headers"].items():
        assert value == request.headers[name]
    assert "authorization" not in request.headers


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_is_the_recorded_one_byte_for_byte(name: str) -> None:
    recording = recorded(name)
    order = order_for(GenerationRequest.model_validate(recording["generation"]), seed=recording["seed"])
    _assert_is(recording["request"], gmi.submit_request(BASE_URL, order))


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_what_we_send_says_what_the_document_says_and_only_the_named_fields_more(name: str) -> None:
    recording = recorded(name)
    document, added = recording["document"], recording["added"]
    assert {**document, "payload": {**document["payload"], **added}} == json.loads(recording["request"]["body"])
    assert not set(added) & set(document["payload"])


def test_a_status_read_is_the_recorded_one() -> None:
    recording = recorded("status_read")
    plan = plan_of(request_on("gmi/wan-2.6/text-to-video"))
    _assert_is(recording["request"], gmi.status_request(BASE_URL, plan, recording["vendor_task_id"]))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_recorded_answer_to_a_submission_has_its_outcome(name: str) -> None:
    recording = recorded(name)
    expected, outcome = recording["expected"], gmi.submit_outcome(response(recording))
    assert expected["outcome"] == outcome.outcome
    assert expected.get("vendor_task_id") == outcome.vendor_task_id
    assert expected.get("code") == (outcome.error.code if outcome.error else None)
    if outcome.error:
        entry = CATALOGUE[outcome.error.code]
        assert f"{entry.sentence} It said: {expected['said']}" == outcome.error.message
        assert entry.hint == outcome.error.hint


@pytest.mark.parametrize("name", READINGS)
def test_a_recorded_status_has_its_reading(name: str) -> None:
    recording = recorded(name)
    expected, status = recording["expected"], gmi.read_status(response(recording))
    assert status is not None
    assert (expected["state"], expected["vendor_state"]) == (status.reading.state, status.reading.vendor_state)
    assert tuple(expected.get("links", ())) == status.links
    assert expected.get("code") == (status.reading.error.code if status.reading.error else None)
    assert status.vendor_task_id == json.loads(recording["response"]["body"]).get("request_id")
    if status.reading.error:
        assert status.reading.error.message.endswith(expected["said"])


def test_every_recording_is_used() -> None:
    assert sorted({*SUBMISSIONS, *ANSWERS, *READINGS, "status_read"}) == names("")
