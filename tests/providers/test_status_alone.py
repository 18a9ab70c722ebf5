"""What a status says by itself, at every vendor: a page of a proxy or a CDN turns a request away as the vendor does."""

import json
from collections.abc import Mapping
from contextlib import suppress

import httpx
import pytest

from onetake.core.errors import TryLater
from onetake.core.ports import SubmitOutcome
from providers import vendors
from tests.providers.parts import SHORT_READ, VENDORS, Connect, plan_of, request_for, submission
from tests.providers.sockets import Connection, Play, answer, answering, serving

PAGES: dict[str, tuple[bytes, str | None]] = {
    "a page": (b"<!doctype html><title>Attention</title>", "text/html; charset=utf-8"),
    "a page called JSON": (b"<html>no</html>", "application/json"),
    "nothing": (b"", None),
    "words": (b"error code: 1015", "text/plain"),
    "half of the JSON": (b'{"error":{"code":"rate_li', "application/json"),
    "JSON of a proxy": (b'{"reason":"blocked"}', "application/json"),
    "JSON called a page": (b'{"error":{"message":"slow down"}}', "text/html"),
    "a list": (b"[]", "application/json"),
}
MEANING = {
    429: ("throttled", "vendor_throttled"),
    401: ("rejected", "vendor_auth"),
    402: ("rejected", "vendor_account_empty"),
    403: ("rejected", "vendor_auth"),
}
every_vendor = pytest.mark.parametrize("vendor", VENDORS)


def outcome_of(vendor: str, status: int, page: tuple[bytes, str | None]) -> SubmitOutcome:
    content, kind = page
    return vendors.VENDORS[vendor].submit_outcome(
        httpx.Response(status, content=content, headers={"content-type": kind} if kind else {})
    )


@every_vendor
@pytest.mark.parametrize("status", MEANING)
@pytest.mark.parametrize("page", PAGES)
def test_a_status_that_turns_away_needs_no_json(vendor: str, status: int, page: str) -> None:
    outcome = outcome_of(vendor, status, PAGES[page])
    assert (outcome.outcome, outcome.error and outcome.error.code) == MEANING[status]
    assert outcome.about == ("model" if status == 403 else "account")


@every_vendor
@pytest.mark.parametrize("status", [200, 201, 301, 400, 404, 408, 409, 418, 500, 502, 503, 504, 520, 524])
@pytest.mark.parametrize("page", ["a page", "nothing", "words", "half of the JSON"])
def test_any_other_status_without_json_stays_in_doubt(vendor: str, status: int, page: str) -> None:
    assert outcome_of(vendor, status, PAGES[page]).outcome == "ambiguous"


NAMES = ("id", "ID", "taskId", "task_id", "task-id", "jobId", "job_id", "video_id", "generationId")


def naming(status: int, task: Mapping[str, object]) -> list[object]:
    """Refusals that every vendor's file understands, with a task in one place or another."""
    said: dict[str, object] = {"code": status, "message": "busy, queued", "error": {"code": status, "message": "busy"}}
    inside = [
        {"data": task},
        {"data": [task]},
        {"data": {"job": {"info": {"of": task}}}},
        {"error": {**task, "code": 1}},
    ]
    return [*({**said, **each} for each in inside), {**task, **said}, [task], [{**said, "data": task}]]


@every_vendor
@pytest.mark.parametrize("status", [*MEANING, 400, 404, 422, 503])
@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_that_names_a_task_stays_in_doubt_in_whatever_form_it_comes(
    vendor: str, status: int, name: str
) -> None:
    for task in ({name: "task-unified-1-abc"}, {name: 17}, {name: "a/b"}):
        for body in naming(status, task):
            for kind in ("application/json", "text/html"):
                content = json.dumps(body).encode()
                assert outcome_of(vendor, status, (content, kind)).outcome == "ambiguous", (body, kind)
        inside = json.dumps(naming(status, task)[0]).encode()
        assert outcome_of(vendor, 200, (inside, "application/json")).outcome == "ambiguous"


NO_TASKS: list[dict[str, object]] = [
    *({name: "af31"} for name in ("trace_id", "traceId", "ray_id", "error_id", "user_id", "requestId")),
    *({"id": None}, {"task_id": ""}, {"taskId": 0}, {"job_id": []}, {"id": False}),
]


@every_vendor
@pytest.mark.parametrize("status", MEANING)
def test_an_id_that_is_no_tasks_takes_no_refusal_back(vendor: str, status: int) -> None:
    for other in NO_TASKS:
        body = json.dumps({"code": status, "message": "busy", "error": {"code": status, "message": "busy", **other}})
        for kind in ("application/json", "text/html"):
            expected = "ambiguous" if vendor == "gmi" and "requestId" in other else MEANING[status][0]
            assert outcome_of(vendor, status, (body.encode(), kind)).outcome == expected, (body, kind)


@pytest.mark.parametrize("status", MEANING)
def test_the_request_id_of_a_vendor_whose_jobs_bear_that_name_is_a_task(status: int) -> None:
    for name in ("request_id", "requestId"):
        for body in naming(status, {name: "af31"}):
            for kind in ("application/json", "text/html"):
                assert outcome_of("gmi", status, (json.dumps(body).encode(), kind)).outcome == "ambiguous", (body, kind)


GZIP = "content-encoding: gzip"
CUT = answer(429, b"<html>", "retry-after: 7", length=5000)


@pytest.mark.parametrize(
    "sent",
    [
        answer(429, b"\x1f\x8b\x08 packed", GZIP, "retry-after: 7"),
        answer(429, b" " * 3_000_000, "retry-after: 7"),
        CUT,
    ],
    ids=["packed", "huge", "cut"],
)
async def test_a_page_that_cannot_be_read_takes_nothing_back(connect: Connect, sent: bytes) -> None:
    async with serving(answering(sent)) as server:
        outcome = await connect(server.url).submit(submission())
        assert (outcome.outcome, outcome.retry_after_s) == ("throttled", 7)
        with pytest.raises(TryLater) as later:
            await connect(server.url).read_status(plan_of(request_for()), "task_1")
    assert (later.value.code, later.value.after_s) == ("vendor_throttled", 7)


async def stalls(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(CUT)
    await connection.reader.read()


async def trickles(connection: Connection) -> None:
    await connection.read_request()
    with suppress(ConnectionError):
        await connection.send(CUT, *[b"x"] * 1000, every_s=0.1)


@pytest.mark.parametrize("play", [stalls, trickles])
async def test_a_page_that_does_not_end_takes_nothing_back(connect: Connect, play: Play) -> None:
    async with serving(play) as server:
        driver = connect(server.url, SHORT_READ)
        outcome = await driver.submit(submission())
        assert (outcome.outcome, outcome.retry_after_s) == ("throttled", 7)
        with pytest.raises(TryLater) as later:
            await driver.read_status(plan_of(request_for()), "task_1")
    assert (later.value.code, later.value.after_s) == ("vendor_throttled", 7)


@pytest.mark.parametrize("status", [500, 503, 200])
async def test_a_server_error_that_cannot_be_read_stays_in_doubt(connect: Connect, status: int) -> None:
    async with serving(answering(answer(status, b"\x1f\x8b\x08 packed", GZIP))) as server:
        assert (await connect(server.url).submit(submission())).outcome == "ambiguous"


@pytest.mark.parametrize(("status", "code"), [(429, "vendor_throttled"), (401, "vendor_auth"), (403, "vendor_auth")])
async def test_a_read_is_refused_by_the_status_inside_a_200_as_by_that_of_http(
    connect: Connect, status: int, code: str
) -> None:
    body = json.dumps({"code": status, "message": "no", "data": None}).encode()
    async with serving(answering(answer(200, body))) as server:
        with pytest.raises(TryLater) as later:
            await connect(server.url).read_status(plan_of(request_for()), "task_1")
    assert later.value.code == code


async def test_a_read_that_meets_an_outage_waits_as_long_as_the_vendor_asks(connect: Connect) -> None:
    async with serving(answering(answer(503, b"{}", "retry-after: 90"))) as server:
        with pytest.raises(TryLater) as later:
            await connect(server.url).read_status(plan_of(request_for()), "task_1")
    assert (later.value.code, later.value.after_s) == ("vendor_unavailable", 90)
