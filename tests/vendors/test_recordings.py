"""Every example of the vendors' documents: the request we send byte for byte, and the reading of each answer."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from onetake.core.contracts import ErrorInfo, GenerationRequest
from onetake.core.errors import CATALOGUE
from providers.vendors import VENDORS
from tests.providers.parts import order_for, plan_of, request_on
from tests.vendors.recorded import names, recorded, response


@dataclass(frozen=True)
class Recorded:
    """Where a vendor's API is, and where its requests hold the fields of a generation (`None`: at the top)."""

    base_url: str
    fields_in: str | None = None
    calls_back: bool = True


RECORDED = {
    "aivideoapi": Recorded("https://api.aivideoapi.ai/v1", "input"),
    "apixo": Recorded("https://api.apixo.ai/api/v1", "input"),
    "gmi": Recorded("https://console.gmicloud.ai", "payload", calls_back=False),
    "gptimage2": Recorded("https://api.gptimage2.example/v1"),
    "wan26ai": Recorded("https://wan26ai.app/api"),
}


def _answers(vendor: str) -> list[str]:
    return [*names(vendor, "submitted"), *names(vendor, "submit_error_")]


def _submissions(vendor: str) -> list[str]:
    return [name for name in names(vendor, "submit_") if name not in _answers(vendor)]


def _readings(vendor: str) -> list[str]:
    return [name for name in names(vendor, "status_") if name != "status_read"]


SUBMISSIONS = [(vendor, name) for vendor in RECORDED for name in _submissions(vendor)]
ANSWERS = [(vendor, name) for vendor in RECORDED for name in _answers(vendor)]
READINGS = [(vendor, name) for vendor in RECORDED for name in _readings(vendor)]
CALLED_BACK = [vendor for vendor, known in RECORDED.items() if known.calls_back]


def test_every_vendor_has_recordings() -> None:
    assert RECORDED.keys() == VENDORS.keys()


@pytest.mark.parametrize(("vendor", "name"), SUBMISSIONS)
def test_a_submission_is_the_recorded_one_byte_for_byte(vendor: str, name: str) -> None:
    recording = recorded(vendor, name)
    generation = GenerationRequest.model_validate(recording["generation"])
    order = order_for(generation, callback_url=recording.get("callback_url"), seed=recording.get("seed"))
    _assert_is(vendor, recording["request"], VENDORS[vendor].submit_request(RECORDED[vendor].base_url, order))


@pytest.mark.parametrize(("vendor", "name"), SUBMISSIONS)
def test_what_we_send_says_what_the_document_says_and_only_the_named_fields_more(vendor: str, name: str) -> None:
    recording, inside = recorded(vendor, name), RECORDED[vendor].fields_in
    document, added = recording["document"], recording["added"]
    fields = document if inside is None else document[inside]
    more = {**fields, **added}
    assert (more if inside is None else {**document, inside: more}) == json.loads(recording["request"]["body"])
    assert not set(added) & set(fields)


@pytest.mark.parametrize("vendor", RECORDED)
def test_a_status_read_is_the_recorded_one(vendor: str) -> None:
    recording, plan = recorded(vendor, "status_read"), plan_of(request_on(f"{vendor}/wan-2.6/text-to-video"))
    request = VENDORS[vendor].status_request(RECORDED[vendor].base_url, plan, recording["vendor_task_id"])
    _assert_is(vendor, recording["request"], request)


def _assert_is(vendor: str, expected: dict[str, Any], request: httpx.Request) -> None:
    assert expected["method"] == request.method
    base = httpx.URL(RECORDED[vendor].base_url)
    assert (base.scheme, base.netloc) == (request.url.scheme, request.url.netloc)
    assert expected["path"] == request.url.raw_path.decode()
    assert expected["body"].encode() == request.content
    for name, value in expected["headers"].items():
        assert value == request.headers[name]
    assert "authorization" not in request.headers


@pytest.mark.parametrize(("vendor", "name"), ANSWERS)
def test_a_documented_answer_to_a_submission_has_its_outcome(vendor: str, name: str) -> None:
    recording = recorded(vendor, name)
    expected, outcome = recording["expected"], VENDORS[vendor].submit_outcome(response(recording))
    assert expected["outcome"] == outcome.outcome
    assert expected.get("vendor_task_id") == outcome.vendor_task_id
    assert _units(expected) == outcome.reported_units
    assert expected.get("code") == (outcome.error.code if outcome.error else None)
    if outcome.error:
        entry = CATALOGUE[outcome.error.code]
        assert f"{entry.sentence} It said: {expected['said']}" == outcome.error.message
        assert entry.hint == outcome.error.hint


@pytest.mark.parametrize(("vendor", "name"), READINGS)
def test_a_documented_status_has_its_reading(vendor: str, name: str) -> None:
    recording = recorded(vendor, name)
    expected, status = recording["expected"], VENDORS[vendor].read_status(response(recording))
    assert status is not None
    assert expected["state"] == status.reading.state
    assert expected["vendor_state"] == status.reading.vendor_state
    assert expected.get("vendor_task_id") == status.vendor_task_id
    assert tuple(expected.get("links", ())) == status.links
    assert expected.get("refunded") == status.reading.refunded
    assert _units(expected) == status.reported_units
    assert expected.get("code") == (status.reading.error.code if status.reading.error else None)
    if status.reading.error:
        assert status.reading.error.message.endswith(expected["said"])


def _units(expected: dict[str, Any]) -> Decimal | None:
    return Decimal(expected["reported_units"]) if "reported_units" in expected else None


def _failure(vendor: str, change: dict[str, Any]) -> ErrorInfo:
    """The error of the vendor's recorded failure, with these fields in it."""
    body = json.loads(recorded(vendor, "status_failed")["response"]["body"])
    (body["data"] if vendor == "apixo" else body).update(change)
    status = VENDORS[vendor].read_status(httpx.Response(200, json=body))
    assert status is not None
    assert status.reading.error is not None
    return status.reading.error


@pytest.mark.parametrize("line", recorded("apixo", "fail_codes")["codes"], ids=lambda line: line["failCode"])
def test_a_fail_code_of_apixo_has_its_code_and_keeps_the_vendors_words(line: dict[str, str]) -> None:
    error = _failure("apixo", {"failCode": line["failCode"], "failMsg": line["failMsg"]})
    assert line["expected"] == error.code
    assert error.message.endswith(f"{line['failCode']}: {line['failMsg']}")


@pytest.mark.parametrize("line", recorded("gptimage2", "fail_codes")["codes"], ids=lambda line: line["code"])
def test_a_failure_of_gptimage2_has_its_code_and_keeps_the_vendors_words(line: dict[str, str]) -> None:
    error = _failure("gptimage2", {"error": {"code": line["code"], "message": line["message"], "type": "task_error"}})
    assert line["expected"] == error.code
    assert error.message.endswith(f"{line['code']}: {line['message']}")


@pytest.mark.parametrize("vendor", CALLED_BACK)
def test_a_callback_names_its_task_and_its_state(vendor: str) -> None:
    recording = recorded(vendor, "callback")
    hint = VENDORS[vendor].callback_hint(recording["body"].encode())
    assert recording["expected"] == {"task_id": hint.task_id, "state": hint.state}


@pytest.mark.parametrize("vendor", RECORDED)
def test_every_recording_is_used(vendor: str) -> None:
    used = {*_submissions(vendor), *_answers(vendor), *_readings(vendor), "status_read"}
    used |= {"callback"} if RECORDED[vendor].calls_back else set()
    used |= {"fail_codes"} if vendor in ("apixo", "gptimage2") else set()
    assert sorted(used) == names(vendor)
