"""Every example of the document: the request we send byte for byte, and the reading we take of each answer."""

import json
from typing import Any

import httpx
import pytest

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import CATALOGUE
from onetake.core.ports import VendorStatus
from providers import apixo
from tests.providers.parts import BASE_URL, order_for, plan_of
from tests.vendors.recordings.recordings import names, recorded, response

SUBMISSIONS = [name for name in names("submit_") if not name.startswith("submit_error_")]
ANSWERS = ["submitted", *names("submit_error_")]
READINGS = [name for name in names("status_") if name != "status_read"]


def _assert_is(expected: dict[str, Any], request: httpx.Request) -> None:
    assert expected["method"] == request.method
    assert expected["path"] == request.url.raw_path.decode()
    assert expected["body"].encode() == request.content
    for name, value in expected["headers"].items():
        assert value == request.headers[name]
    assert "authorization" not in request.headers


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_a_submission_is_the_recorded_one_byte_for_byte(name: str) -> None:
    recording = recorded(name)
    generation = GenerationRequest.model_validate(recording["generation"])
    order = order_for(generation, callback_url=recording["callback_url"], seed=recording["seed"])
    _assert_is(recording["request"], apixo.submit_request(BASE_URL, order))


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_what_we_send_says_what_the_document_says_and_only_the_named_fields_more(name: str) -> None:
    recording = recorded(name)
    document, added = recording["document"], recording["added"]
    expected = {**document, "input": {**document["input"], **added}}
    assert expected == json.loads(recording["request"]["body"])
    assert not set(added) & set(document["input"])


def test_a_status_read_is_the_recorded_one() -> None:
    recording = recorded("status_read")
    plan = plan_of(GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox"))
    _assert_is(recording["request"], apixo.status_request(BASE_URL, plan, recording["vendor_task_id"]))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_documented_answer_to_a_submission_has_its_outcome(name: str) -> None:
    recording = recorded(name)
    expected = recording["expected"]
    outcome = apixo.submit_outcome(response(recording))
    assert expected["outcome"] == outcome.outcome
    assert expected.get("vendor_task_id") == outcome.vendor_task_id
    assert expected.get("code") == (outcome.error.code if outcome.error else None)
    if outcome.error:
        entry = CATALOGUE[outcome.error.code]
        assert f"{entry.sentence} It said: {expected['said']}" == outcome.error.message
        assert entry.hint == outcome.error.hint


@pytest.mark.parametrize("name", READINGS)
def test_a_documented_status_has_its_reading(name: str) -> None:
    recording = recorded(name)
    expected = recording["expected"]
    status = apixo.read_status(response(recording))
    assert status is not None
    assert expected["state"] == status.reading.state
    assert expected["vendor_state"] == status.reading.vendor_state
    assert tuple(expected.get("links", ())) == status.links
    assert expected.get("code") == (status.reading.error.code if status.reading.error else None)
    if status.reading.error:
        assert status.reading.error.message.endswith(expected["said"])


@pytest.mark.parametrize("line", recorded("fail_codes")["codes"], ids=lambda line: line["failCode"])
def test_a_documented_fail_code_has_its_code_and_keeps_the_vendors_words(line: dict[str, str]) -> None:
    failed = recorded("status_failed")
    body = json.loads(failed["response"]["body"])
    body["data"] |= {"failCode": line["failCode"], "failMsg": line["failMsg"]}
    status = apixo.read_status(httpx.Response(200, json=body))
    assert isinstance(status, VendorStatus)
    assert status.reading.error is not None
    assert line["expected"] == status.reading.error.code
    assert status.reading.error.message.endswith(f"{line['failCode']}: {line['failMsg']}")


def test_a_callback_names_its_task_and_its_state() -> None:
    recording = recorded("callback")
    hint = apixo.callback_hint(recording["body"].encode())
    assert recording["expected"] == {"task_id": hint.task_id, "state": hint.state}


def test_every_recording_is_used() -> None:
    used = {*SUBMISSIONS, *ANSWERS, *READINGS, "status_read", "fail_codes", "callback"}
    assert sorted(used) == names("")
