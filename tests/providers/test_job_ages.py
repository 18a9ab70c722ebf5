"""How old a job is at least, by the vendor's own clock: a job that is older than our POST is another order's."""

import email.utils
import json
import time

import httpx
import pytest

from providers.driver import MINUTE_S, MOST_CLOCK_SKEW_S, OWN_CLOCK_ERROR_S
from providers.vendors import VENDORS
from tests.providers.parts import Connect, plan_of, request_for
from tests.providers.sockets import answer, answering, serving
from tests.providers.speaking import TASK_ID

FULL_MINUTE = int(time.time()) // 60 * 60


def date(now: int) -> str:
    return f"date: {email.utils.formatdate(now, usegmt=True)}"


async def least_age_s(connect: Connect, created: object, *headers: str) -> float | None:
    data = {"taskId": TASK_ID, "state": "processing", "createTime": created}
    body = json.dumps({"code": 200, "message": "success", "data": data}).encode()
    async with serving(answering(answer(200, body, *headers))) as server:
        return (await connect(server.url).read_status(plan_of(request_for()), TASK_ID)).least_age_s


@pytest.mark.parametrize("skew_s", [0, -86_400, 86_400])
async def test_the_vendors_own_clock_counts_however_wrong_it_is(connect: Connect, skew_s: int) -> None:
    now = FULL_MINUTE + 25 + skew_s
    assert await least_age_s(connect, (now - 90) * 1000, date(now)) == 90 - OWN_CLOCK_ERROR_S


async def test_a_time_without_seconds_may_be_up_to_a_minute_too_early(connect: Connect) -> None:
    for made_at, error_s in ((FULL_MINUTE, OWN_CLOCK_ERROR_S + MINUTE_S), (FULL_MINUTE + 1, OWN_CLOCK_ERROR_S)):
        assert await least_age_s(connect, made_at * 1000, date(made_at + 90)) == 90 - error_s
    age_s = await least_age_s(connect, FULL_MINUTE * 1000)
    assert age_s is not None
    assert age_s <= time.time() - FULL_MINUTE - MOST_CLOCK_SKEW_S - MINUTE_S


async def test_without_it_ours_counts_with_more_tolerance(connect: Connect) -> None:
    for headers in ((), ("date: yesterday",)):
        age_s = await least_age_s(connect, (time.time() - 600) * 1000, *headers)
        assert age_s is not None
        assert 480 <= age_s <= 540
        assert age_s < 600 - MOST_CLOCK_SKEW_S + 60


@pytest.mark.parametrize("created", [None, "soon", 0, -5, [], True])
async def test_a_vendor_that_does_not_say_when_says_nothing_of_the_age(connect: Connect, created: object) -> None:
    assert await least_age_s(connect, created) is None


@pytest.mark.parametrize(
    ("vendor", "body"),
    [
        ("apixo", {"code": 200, "data": {"taskId": "t", "state": "processing", "createTime": 1767965610000}}),
        ("wan26ai", {"code": 200, "data": {"task_id": "t", "status": "x", "created_at": "2026-01-09T13:33:30Z"}}),
        ("gptimage2", {"id": "t", "status": "processing", "created": 1767965610}),
        ("aivideoapi", {"id": "t", "status": "processing", "created_at": 1767965610}),
        ("gmi", {"request_id": "t", "status": "processing", "created_at": 1767965610}),
    ],
)
def test_every_vendors_time_of_creation_is_read(vendor: str, body: object) -> None:
    status = VENDORS[vendor].read_status(httpx.Response(200, json=body))
    assert status is not None
    assert status.created_at == 1767965610
