"""What each answer to a status read means; what cannot be understood is an outage and never a failure."""

import json
from collections.abc import Mapping
from types import ModuleType

import httpx
import pytest

from providers import aivideoapi, apixo, gmi, gptimage2, wan26ai
from tests.collecting import assert_all_as_expected
from tests.providers.parts import BASE_URL, plan_of, request_for
from tests.providers.readings import aivideoapi as of_aivideoapi
from tests.providers.readings import apixo as of_apixo
from tests.providers.readings import gmi as of_gmi
from tests.providers.readings import gptimage2 as of_gptimage2
from tests.providers.readings import wan26ai as of_wan26ai
from tests.providers.readings.readings import Readings, Row

ADAPTERS: Mapping[str, ModuleType] = {
    "aivideoapi": aivideoapi,
    "apixo": apixo,
    "gmi": gmi,
    "gptimage2": gptimage2,
    "wan26ai": wan26ai,
}
READINGS: Mapping[str, Readings] = {
    "aivideoapi": of_aivideoapi.READINGS,
    "apixo": of_apixo.READINGS,
    "gmi": of_gmi.READINGS,
    "gptimage2": of_gptimage2.READINGS,
    "wan26ai": of_wan26ai.READINGS,
}
STATES = [
    (vendor, state) for vendor, known in READINGS.items() for state in dict.fromkeys(row.state for row in known.rows)
]


@pytest.mark.parametrize(("vendor", "state"), STATES)
def test_an_answer_has_one_reading(vendor: str, state: str | None) -> None:
    rows = [row for row in READINGS[vendor].rows if row.state == state]
    assert_all_as_expected((row, _expected(vendor, row), _came(vendor, row)) for row in rows)


def _expected(vendor: str, row: Row) -> object:
    if row.state is None:
        return None
    task_id = READINGS[vendor].task_id if row.state == "open" else None
    return row.state, row.shown, row.code, row.links, task_id, NOTHING_GUESSED


def _came(vendor: str, row: Row) -> object:
    status = ADAPTERS[vendor].read_status(row.response)
    if status is None:
        return None
    reading = status.reading
    return (
        reading.state,
        reading.vendor_state if row.shown is not None else None,
        reading.error.code if reading.error else None,
        status.links,
        status.vendor_task_id if reading.state == "open" else None,
        (reading.refunded, status.reported_units, reading.reported_micros),
    )


NOTHING_GUESSED = (None, None, None)  # refund, units, micros: no row here says any


@pytest.mark.parametrize("vendor", ADAPTERS)
@pytest.mark.parametrize(
    "body",
    [
        {"message": "no Route matched with those values"},
        {"detail": "Not Found"},
        {"message": "Not Found", "status": 404},
    ],
    ids=["kong", "fastapi", "spring"],
)
def test_a_404_of_a_proxy_says_nothing_of_a_job(vendor: str, body: object) -> None:
    assert ADAPTERS[vendor].read_status(httpx.Response(404, json=body)) is None


def test_a_job_that_says_nothing_of_itself_is_open() -> None:
    status = apixo.read_status(httpx.Response(200, json={"code": 200, "message": "success", "data": {}}))
    assert status is not None
    assert status.reading.state == "open"


@pytest.mark.parametrize(
    ("task_id", "path"),
    [
        ("task_12345678", "task_12345678"),
        ("a:b", "a%3Ab"),
        ("a/b?c=d&e#f g", "a%2Fb%3Fc%3Dd%26e%23f%20g"),
        ("é", "%C3%A9"),
    ],
)
def test_an_id_never_reaches_the_address_unescaped(task_id: str, path: str) -> None:
    request = apixo.status_request(BASE_URL, plan_of(request_for()), task_id)
    assert f"/api/v1/statusTask/wan-2-6-video?taskId={path}" == request.url.raw_path.decode()
    assert request.url.host == "api.apixo.ai"


@pytest.mark.parametrize(
    ("body", "task_id", "state"),
    [
        (b"", None, None),
        (b"<html>", None, None),
        (b"[]", None, None),
        (json.dumps({"data": {"taskId": "t-1", "state": "failed"}}).encode(), "t-1", "failed"),
        (json.dumps({"data": {"taskId": "../x", "state": 3}}).encode(), None, "3"),
        (json.dumps({"taskId": "t-1"}).encode(), None, None),
    ],
)
def test_a_callback_claims_what_can_be_read_and_nothing_else(
    body: bytes, task_id: str | None, state: str | None
) -> None:
    hint = apixo.callback_hint(body)
    assert (task_id, state) == (hint.task_id, hint.state)
