"""The only sender over real sockets: reads of a status, of a list of jobs and of an account."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from onetake.core.errors import TryLater
from onetake.core.ports import SubmitOrder
from onetake.media.outbound import Outbound
from providers import aivideoapi, gmi
from providers.catalogue import load_catalogue
from providers.driver import MOST_ANSWER_BYTES, MOST_CLOCK_SKEW_S, VENDORS, Clients, Driver
from providers.vendor import Accounts, Lists
from tests.providers.breaking import AMBIGUOUS, HANGING
from tests.providers.parts import API_KEY, PATIENT, SHORT_READ, Connect, plan_of, request_for, request_on
from tests.providers.sockets import LOOPBACK, Play, answer, answering, free_port, serving

# -- Status reads ------------------------------------------------------------------------------------------------------


OPEN = json.dumps({"code": 200, "data": {"taskId": "task_1", "state": "processing"}}).encode()
PLAN = plan_of(request_for())
UNREADABLE: dict[str, Play] = {
    **{name: play for name, play in AMBIGUOUS.items() if name not in {"500", "503 with Retry-After"}},
    "500": answering(answer(500, OPEN)),
    "HTML": answering(answer(200, b"<html>", content_type="text/html")),
    "404 HTML": answering(answer(404, b"<html>", content_type="text/html")),
    "truncated": answering(answer(200, OPEN[:-5])),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_status_that_cannot_be_read_is_an_outage(connect: Connect, name: str) -> None:
    async with serving(UNREADABLE[name]) as server:
        with pytest.raises(TryLater) as caught:
            await connect(server.url, SHORT_READ if name in HANGING else PATIENT).read_status(PLAN, "task-canary")
    assert caught.value.code == "vendor_unavailable"
    for secret in (API_KEY, "task-canary", LOOPBACK):
        assert secret not in str(caught.value)


async def test_a_status_read_is_one_get_with_the_key(connect: Connect) -> None:
    silent = json.dumps({"code": 200, "data": {"state": "processing"}}).encode()
    async with serving(answering(answer(200, silent, "x-region: \xe9"))) as server:
        status = await connect(server.url).read_status(PLAN, "task 1/&")
        assert status.reading.state == "open"
        (sent,) = server.received
    assert sent.startswith(b"GET /statusTask/wan-2-6-video?taskId=task%201%2F%26 HTTP/1.1\r\n")
    assert f"authorization: Bearer {API_KEY}".lower().encode() in sent.lower()


async def test_an_answer_about_another_task_is_no_answer(connect: Connect) -> None:
    other = json.dumps({"code": 200, "data": {"taskId": "task_2", "state": "success"}}).encode()
    async with serving(answering(answer(200, other))) as server:
        with pytest.raises(TryLater, match="about another task"):
            await connect(server.url).read_status(PLAN, "task_1")


async def test_a_refused_connection_is_an_outage_of_reads(connect: Connect) -> None:
    with pytest.raises(TryLater) as caught:
        await connect(f"http://{LOOPBACK}:{free_port()}").read_status(PLAN, "task_1")
    assert (caught.value.code, caught.value.detail) == ("vendor_unavailable", "(ConnectError)")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_read_that_our_key_may_not_make_is_an_alarm_without_the_key(connect: Connect, status: int) -> None:
    body = json.dumps({"code": status, "message": f"the key {API_KEY} is not valid"}).encode()
    async with serving(answering(answer(status, body))) as server:
        with capture_logs() as alarms, pytest.raises(TryLater):
            await connect(server.url).read_status(PLAN, "task_1")
    (alarm,) = alarms
    assert (alarm["event"], alarm["log_level"], alarm["code"]) == ("vendor_refuses_us", "error", "vendor_auth")
    assert API_KEY not in json.dumps(alarm)


@pytest.mark.parametrize(
    ("status", "code", "after_s"),
    [(401, "vendor_auth", 300.0), (403, "vendor_auth", 300.0), (429, "vendor_throttled", 9)],
)
async def test_a_read_that_is_refused_says_why_and_when_to_come_back(
    connect: Connect, status: int, code: str, after_s: float
) -> None:
    async with serving(answering(answer(status, b"<html>", "retry-after: 9", content_type="text/html"))) as server:
        with pytest.raises(TryLater) as caught:
            await connect(server.url).read_status(PLAN, "task_1")
    assert (code, after_s) == (caught.value.code, caught.value.after_s)


# -- Lists and accounts ------------------------------------------------------------------------------------------------

SENT_AT = datetime.fromtimestamp(1_800_000_000, UTC)
LISTED = request_on("gmi/wan-2.6/text-to-video", seed=7)
LISTED_ORDER = SubmitOrder(plan_of(LISTED), LISTED, None, 7)


def _listed_job(task_id: str, age_s: float) -> dict[str, object]:
    sent = json.loads(gmi.submit_request("https://gmi.example", LISTED_ORDER).content)
    return {"request_id": task_id, "created_at": SENT_AT.timestamp() - age_s, **sent}


async def _found(url: str) -> tuple[str, ...]:
    async with Clients.opened(PATIENT) as clients:
        outbound = Outbound()
        try:
            driver = Driver("gmi", gmi, url, API_KEY, clients=clients, outbound=outbound)
            return await driver.find_jobs(LISTED_ORDER, SENT_AT)
        finally:
            await outbound.aclose()


async def test_listed_jobs_that_are_older_than_the_submission_are_left_out_but_for_what_clocks_differ() -> None:
    ages = {"much-older": MOST_CLOCK_SKEW_S + 1, "older-by-a-clock": MOST_CLOCK_SKEW_S, "new": 0, "newer": -3600}
    body = json.dumps({"requests": [_listed_job(name, age_s) for name, age_s in ages.items()]}).encode()
    async with serving(answering(answer(200, body))) as server:
        assert await _found(server.url) == ("older-by-a-clock", "new", "newer")
    assert f"authorization: bearer {API_KEY}".encode() in server.received[0].lower()


async def test_a_list_may_be_larger_than_any_other_answer() -> None:
    jobs = [_listed_job("mine", 0), *({"request_id": f"r{n}", "payload": "x" * 1000} for n in range(2000))]
    body = json.dumps(jobs).encode()
    assert len(body) > MOST_ANSWER_BYTES
    async with serving(answering(answer(200, body))) as server:
        assert await _found(server.url) == ("mine",)


@pytest.mark.parametrize(
    "parts",
    [
        (answer(200, b"[]", length=200_000_000), *[b" " * 1024 * 1024] * 200),
        (answer(500, b"{}"),),
        (answer(200, b"<!doctype html>", content_type="text/html"),),
        (answer(200, b'{"requests": [{'),),
        (answer(200, b"[1, 2]"),),
        (answer(200, gzip.compress(b"[]"), "content-encoding: gzip"),),
        (b"",),
    ],
    ids=["200 MB", "500", "a page", "half a list", "no objects", "packed", "nothing"],
)
async def test_a_list_that_cannot_be_read_is_read_again_later(parts: tuple[bytes, ...]) -> None:
    async with serving(answering(*parts)) as server:
        with pytest.raises(TryLater) as caught:
            await _found(server.url)
    assert caught.value.code == "vendor_unavailable"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"code": 200, "data": {}}'])
async def test_an_account_that_cannot_be_read_is_read_again_later(body: bytes) -> None:
    async with serving(answering(answer(200, body))) as server, Clients.opened(PATIENT) as clients:
        outbound = Outbound()
        driver = Driver("aivideoapi", aivideoapi, server.url, API_KEY, clients=clients, outbound=outbound)
        with pytest.raises(TryLater):
            await driver.read_account()
        await outbound.aclose()


async def test_every_vendor_offers_what_its_facts_promise() -> None:
    lists: Lists = gmi
    accounts: Accounts = aivideoapi
    facts = load_catalogue().vendors
    assert {name for name in VENDORS if facts[name].vendor.lists_jobs} == {"gmi"} == {lists.__name__.rpartition(".")[2]}
    assert {name for name in VENDORS if facts[name].vendor.balance} == {"aivideoapi"}
    assert accounts.account_request("https://a.example").method == "GET"


def test_a_balance_is_only_read_where_the_key_is_said_to_be_ours_alone() -> None:
    request = request_on("aivideoapi/wan-2.6/text-to-video")
    assert not plan_of(request).reads_balance
    plan = plan_of(request, exclusive_keys="aivideoapi, gmi", time_scale=0.5)
    assert (plan.reads_balance, plan.absence_window_s) == (True, 60)
    assert not plan_of(LISTED, exclusive_keys="gmi").reads_balance
