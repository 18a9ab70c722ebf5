"""What each answer to a status read means; what cannot be understood is an outage and never a failure."""

import json
from typing import Any

import httpx
import pytest

from providers import apixo
from providers.catalogue import load_catalogue
from providers.vendor import still_open
from providers.vendors import VENDORS
from tests.providers.parts import BASE_URL, plan_of, request_for


def read(data: object, *, status: int = 200, code: object = 200) -> Any:
    return apixo.read_status(httpx.Response(status, json={"code": code, "message": "success", "data": data}))


def success(result_json: object) -> Any:
    return read({"taskId": "t", "state": "success", "resultJson": result_json})


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("pending", "pending"),
        ("processing", "processing"),
        ("REVIEWING", "REVIEWING"),
        ("Success", "Success"),
        ("FAILED", "FAILED"),
        (" success ", "success"),
        ("", "none"),
        (None, "none"),
        (7, "7"),
        (True, "True"),
        ([], "[]"),
        ("x" * 5000, "x" * 200),
        ("a\nb", "a b"),
    ],
)
def test_a_state_that_is_not_an_end_is_an_open_job(state: object, shown: str) -> None:
    status = read({"taskId": "t", "state": state})
    assert ("open", shown) == (status.reading.state, status.reading.vendor_state)
    assert status.links == ()
    assert status.reading.error is None


def test_a_missing_state_is_an_open_job() -> None:
    assert read({}).reading.state == "open"


@pytest.mark.parametrize(
    ("result_json", "links"),
    [
        ('{"resultUrls":["https://a.example/1.mp4"]}', ("https://a.example/1.mp4",)),
        (
            '{"resultUrls":["https://a.example/1","https://a.example/2"]}',
            ("https://a.example/1", "https://a.example/2"),
        ),
        ('{"resultUrls":[]}', ()),
        ('{"resultUrls":"https://a.example/1"}', ()),
        ('{"resultUrls":[1,null,{"url":"https://a.example"},"ftp://a.example","javascript:x"]}', ()),
        ('{"resultUrls":["https://a.exa', ()),
        ('["https://a.example/1"]', ()),
        ("", ()),
        (None, ()),
        ({"resultUrls": ["https://a.example/1"]}, ()),
        ("[" * 100_000, ()),
    ],
)
def test_a_success_has_the_links_of_its_inner_document(result_json: object, links: tuple[str, ...]) -> None:
    status = success(result_json)
    assert status.reading.state == "succeeded"
    assert links == status.links


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        ("PromptInvalid", "rejected", "vendor_failed"),
        ("SensitiveContent", "", "content_rejected"),
        ("InputImageSensitiveContentDetected", "", "content_rejected"),
        ("CONTENT_VIOLATION", None, "content_rejected"),
        ("nsfw_detected", None, "content_rejected"),
        ("ProhibitedContentDetected", None, "content_rejected"),
        (None, "the prompt failed safety checks", "content_rejected"),
        ("GENERATION_FAILED", "gpu", "vendor_failed"),
        (None, None, "vendor_failed"),
        ({"a": 1}, [2], "vendor_failed"),
    ],
)
def test_a_failure_is_mapped_by_family(code: object, words: object, expected: str) -> None:
    status = read({"state": "failed", "failCode": code, "failMsg": words})
    assert status.reading.state == "failed"
    assert expected == status.reading.error.code
    assert status.reading.refunded is None, "the document says nothing of refunds: nothing is guessed"


@pytest.mark.parametrize("status", [200, 404])
def test_a_404_of_the_vendor_is_a_missing_job(status: int) -> None:
    assert read(None, status=status, code=404).reading.state == "missing"


def test_a_404_of_anything_else_is_an_outage() -> None:
    assert apixo.read_status(httpx.Response(404, html="<html>not found</html>")) is None
    assert apixo.read_status(httpx.Response(404, content=b"", headers={"content-type": "application/json"})) is None


@pytest.mark.parametrize("status", [301, 400, 401, 403, 408, 429, 500, 502, 503, 504])
def test_another_status_says_nothing_about_the_job_whatever_its_body_claims(status: int) -> None:
    assert read({"state": "failed"}, status=status) is None
    assert read({"state": "failed"}, code=status) is None


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"data":[]}', b'{"code":200,"data":{"state":"fail'])
def test_a_body_without_a_job_is_an_outage(body: bytes) -> None:
    assert apixo.read_status(httpx.Response(200, content=body, headers={"content-type": "application/json"})) is None


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


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_an_open_state_that_no_document_names_is_an_open_job_with_an_alarm(name: str) -> None:
    documented = load_catalogue().vendors[name].vendor.open_states
    assert [still_open(documented, state, None).alarm for state in documented] == [""] * len(documented)
    unknown = still_open(documented, "REVIEWING\x07", "task_1")
    assert (unknown.reading.state, unknown.reading.vendor_state) == ("open", "REVIEWING")
    assert unknown.alarm == "vendor_state_unknown"
