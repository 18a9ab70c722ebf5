"""The only sender over real sockets: whatever the other side does, a submission has exactly one of five ends."""

import asyncio
import gzip
import json
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from time import monotonic, time

import httpx
import pytest
from structlog.testing import capture_logs

from onetake.core.errors import TryLater
from onetake.core.ports import SubmitOrder, SubmitOutcome
from onetake.media.outbound import Outbound
from providers import aivideoapi, apixo, gmi
from providers.catalogue import SEED_MOST, load_catalogue
from providers.driver import (
    MOST_ANSWER_BYTES,
    MOST_CLOCK_SKEW_S,
    SHORTEST_ANSWER_S,
    TIMEOUT,
    VENDORS,
    Driver,
    new_http_client,
    timeout_for,
)
from providers.vendor import Accounts, Lists, Order
from tests.providers.parts import (
    API_KEY,
    CALLBACK_URL,
    PATIENT,
    PROMPT,
    SHORT_CONNECT,
    SHORT_READ,
    SHORT_WRITE,
    Connect,
    plan_of,
    request_for,
    request_on,
    submission,
)
from tests.providers.sockets import (
    LOOPBACK,
    Connection,
    Play,
    answer,
    answering,
    free_port,
    own_certificate,
    serving,
)

ACCEPTED = json.dumps({"code": 200, "message": "success", "data": {"taskId": "task_1"}}).encode()
OPEN = json.dumps({"code": 200, "data": {"taskId": "task_1", "state": "processing"}}).encode()
LONG_S = 10.0  # far above the short timeouts of these tests, and below the long ones: reaching it is a hang


async def _submitted(connect: Connect, base_url: str, timeout: httpx.Timeout = PATIENT) -> SubmitOutcome:  # noqa: ASYNC109
    """Submit, and hold the outcome against what every outcome must keep to."""
    started = monotonic()
    outcome = await connect(base_url, timeout).submit(submission(callback_url=CALLBACK_URL))
    assert monotonic() - started < LONG_S
    for secret in (API_KEY, PROMPT, "canary-token"):
        assert secret not in repr(outcome)
    return outcome


# -- Nothing was sent --------------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_not_sent(connect: Connect) -> None:
    outcome = await _submitted(connect, f"http://{LOOPBACK}:{free_port()}")
    assert (outcome.outcome, outcome.note) == ("not_sent", "ConnectError")
    assert outcome.error is not None
    assert outcome.error.code == "vendor_unreachable"


async def test_a_name_that_does_not_resolve_is_not_sent(connect: Connect) -> None:
    assert (await _submitted(connect, "http://nowhere.invalid", SHORT_CONNECT)).outcome == "not_sent"


async def test_a_connection_that_is_never_answered_is_not_sent(connect: Connect) -> None:
    """A full accept queue drops the handshake."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(listening.getsockname())
            outcome = await _submitted(connect, f"http://{LOOPBACK}:{listening.getsockname()[1]}", SHORT_CONNECT)
        finally:
            for one in waiting:
                one.close()
    assert (outcome.outcome, outcome.note) == ("not_sent", "ConnectTimeout")


async def test_a_certificate_that_nobody_vouches_for_is_not_sent(connect: Connect, tmp_path: Path) -> None:
    async with serving(answering(answer(200, ACCEPTED)), tls=own_certificate(tmp_path)) as server:
        outcome = await _submitted(connect, server.url)
        assert (outcome.outcome, outcome.note) == ("not_sent", "ConnectError")
        assert server.received == []


async def _silent(connection: Connection) -> None:
    await connection.reader.read()


async def _resetting(connection: Connection) -> None:
    connection.reset()


async def _closing(connection: Connection) -> None:
    del connection


@pytest.mark.parametrize(
    ("play", "note"),
    [(_silent, "ConnectTimeout"), (_resetting, "ConnectError"), (_closing, "ConnectError")],
)
async def test_a_tls_handshake_that_fails_is_not_sent(connect: Connect, play: Play, note: str) -> None:
    async with serving(play) as server:
        outcome = await _submitted(
            connect, server.url.replace("http:", "https:"), SHORT_CONNECT if play is _silent else PATIENT
        )
    assert ("not_sent", note) == (outcome.outcome, outcome.note)


async def test_a_server_that_speaks_no_tls_is_not_sent(connect: Connect) -> None:
    async def plain(connection: Connection) -> None:
        await connection.reader.read(1)
        await connection.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with serving(plain) as server:
        assert (await _submitted(connect, server.url.replace("http:", "https:"))).outcome == "not_sent"


async def test_a_wait_for_our_own_pool_is_not_sent() -> None:
    """No free connection of ours: the vendor has seen nothing."""

    arrived = asyncio.Event()

    async def hold(connection: Connection) -> None:
        await connection.read_request()
        arrived.set()
        await asyncio.sleep(LONG_S)

    patient = httpx.Timeout(connect=1, read=0.5, write=0.5, pool=0.1)
    outbound = Outbound()
    async with (
        serving(hold) as server,
        httpx.AsyncClient(timeout=patient, limits=httpx.Limits(max_connections=1), trust_env=False) as http,
    ):
        driver = Driver("apixo", apixo, server.url, API_KEY, http=http, outbound=outbound)
        first = asyncio.create_task(driver.submit(submission()))
        await arrived.wait()
        second = await driver.submit(submission())
        assert (second.outcome, second.note) == ("not_sent", "PoolTimeout")
        assert (await first).outcome == "ambiguous"
        assert len(server.received) == 1
    await outbound.aclose()


# -- Bytes have left: nobody sends again -------------------------------------------------------------------------------


async def _read_and_reset(connection: Connection) -> None:
    await connection.read_request()
    connection.reset()


async def _read_and_hang(connection: Connection) -> None:
    await connection.read_request()
    await connection.reader.read()


async def _half_and_reset(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(answer(200, ACCEPTED[:20], length=len(ACCEPTED)), every_s=0.02)
    connection.reset()


async def _half_and_hang(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(answer(200, ACCEPTED[:20], length=len(ACCEPTED)))
    await connection.reader.read()


WHOLE = answer(200, ACCEPTED)
BOMB = gzip.compress(b"0" * (64 * 1024 * 1024), compresslevel=1)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
TOO_MUCH = b'{"x":"' + b"y" * (2 * MOST_ANSWER_BYTES) + b'"}'


def _redirect(status: int, location: str) -> Play:
    return answering(answer(status, ACCEPTED, f"location: {location}"))


AMBIGUOUS: dict[str, Play] = {
    "reset before the request was read": _resetting,
    "closed before the request was read": _closing,
    "reset after the request was read": _read_and_reset,
    "closed after the request was read": answering(),
    "silence": _read_and_hang,
    "no HTTP": answering(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "half a head": answering(WHOLE[:30]),
    "a head of 200 kB": answering(answer(200, ACCEPTED, f"x: {'y' * 200_000}")),
    "half a body": answering(answer(200, ACCEPTED[:20], length=len(ACCEPTED))),
    "half a body and a reset": _half_and_reset,
    "half a body and silence": _half_and_hang,
    "two lengths": answering(answer(200, ACCEPTED, "content-length: 7")),
    "chunks without an end": answering(CHUNKED + b"%x\r\n%s\r\n" % (len(ACCEPTED), ACCEPTED)),
    "a chunk that is none": answering(CHUNKED + b"zz\r\n"),
    "2 MiB": answering(answer(200, TOO_MUCH)),
    "2 MiB in chunks": answering(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(TOO_MUCH), TOO_MUCH)),
    "2 MiB refused": answering(answer(400, TOO_MUCH)),
    "a gzip bomb": answering(answer(200, BOMB, "content-encoding: gzip")),
    "gzip": answering(answer(200, gzip.compress(ACCEPTED), "content-encoding: gzip")),
    "gzip that is none": answering(answer(200, ACCEPTED, "content-encoding: gzip")),
    "br": answering(answer(200, ACCEPTED, "content-encoding: br")),
    "another protocol": answering(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "no content": answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": answering(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "slow drip of the head": answering(*(WHOLE[n : n + 1] for n in range(len(WHOLE))), every_s=0.05),
    "slow drip of the body": answering(
        answer(200, b"", length=len(ACCEPTED)), *(ACCEPTED[n : n + 1] for n in range(len(ACCEPTED))), every_s=0.05
    ),
    "redirect to a path": _redirect(307, "/elsewhere"),
    "redirect to a host": _redirect(308, "https://evil.example/"),
    "redirect to mail": _redirect(302, "mailto:someone"),
    "redirect to another protocol": _redirect(302, "ftp://evil.example/"),
    "redirect to nonsense": _redirect(302, "http://["),
    "redirect to a port of letters": _redirect(301, "http://a:b/"),
    "redirect into bytes": _redirect(303, "/\xff\xfe"),
    "500": answering(answer(500, ACCEPTED)),
    "503 with Retry-After": answering(answer(503, b'{"code":503}', "retry-after: 7")),
}


HANGING = {"silence", "half a body and silence", "slow drip of the head", "slow drip of the body"}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_once_bytes_may_have_left_the_end_is_ambiguous(connect: Connect, name: str) -> None:
    async with serving(AMBIGUOUS[name]) as server:
        outcome = await _submitted(connect, server.url, SHORT_READ if name in HANGING else PATIENT)
        assert outcome.outcome == "ambiguous", outcome
        assert outcome.vendor_task_id is None
        assert outcome.error is None
        assert server.connections == 1, "nothing is sent twice"
        assert len(server.received) <= 1


async def test_a_write_that_nobody_reads_is_ambiguous(connect: Connect) -> None:
    """A body larger than the buffers, sent to a server that never reads it."""

    async def deaf(connection: Connection) -> None:
        connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.sleep(LONG_S)

    outcome = await _submitted_at_length(connect, deaf)
    assert outcome.outcome == "ambiguous"


async def test_a_write_cut_off_half_way_is_ambiguous(connect: Connect) -> None:
    async def cut(connection: Connection) -> None:
        await connection.reader.readexactly(2000)
        connection.reset()

    outcome = await _submitted_at_length(connect, cut)
    assert outcome.outcome == "ambiguous"


async def _submitted_at_length(connect: Connect, play: Play) -> SubmitOutcome:
    order = submission()
    order = replace(order, request=order.request.model_copy(update={"prompt": "x" * 32_000_000}))
    async with serving(play) as server:
        outcome = await connect(server.url, SHORT_WRITE).submit(order)
        assert server.connections == 1
    return outcome


# -- An answer ---------------------------------------------------------------------------------------------------------


async def test_an_accepted_submission_is_one_post_with_the_key_in_its_header_only(connect: Connect) -> None:
    async with serving(answering(WHOLE)) as server:
        outcome = await _submitted(connect, f"{server.url}/api/v1/")
        assert SubmitOutcome("accepted", "task_1") == outcome
        (sent,) = server.received
        head, body = sent.split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /api/v1/generateTask/wan-2-6-video HTTP/1.1"
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    assert f"Bearer {API_KEY}" == headers["authorization"]
    assert (headers["content-type"], headers["accept-encoding"]) == ("application/json", "identity")
    assert f"{LOOPBACK}:{server.port}" == headers["host"]
    assert API_KEY.encode() not in body
    assert "cookie" not in headers
    document = json.loads(body)
    assert (
        document["request_type"],
        document["callback_url"],
        document["input"]["prompt"],
    ) == ("callback", CALLBACK_URL, PROMPT)


ACCEPTING: dict[str, bytes] = {
    "after early hints": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + WHOLE,
    "after continue": b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    "with a header of other letters": answer(200, ACCEPTED, "x-region: São Paulo", "x-more: \xff\xfe"),
    "with cookies": answer(200, ACCEPTED, "set-cookie: a=b; Domain=evil.example", "set-cookie: \x80=; expires=never"),
    "in chunks": CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(ACCEPTED), ACCEPTED),
    "without a length": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + ACCEPTED,
    "identity": answer(200, ACCEPTED, "content-encoding: identity"),
    "at the limit": answer(200, ACCEPTED + b" " * (MOST_ANSWER_BYTES - len(ACCEPTED))),
}


@pytest.mark.parametrize("name", ACCEPTING)
async def test_an_odd_and_honest_acceptance_keeps_its_id(connect: Connect, name: str) -> None:
    async with serving(answering(ACCEPTING[name])) as server:
        assert SubmitOutcome("accepted", "task_1") == await _submitted(connect, server.url)


async def test_a_byte_above_the_limit_is_too_much(connect: Connect) -> None:
    body = ACCEPTED + b" " * (MOST_ANSWER_BYTES - len(ACCEPTED) + 1)
    async with serving(answering(answer(200, body))) as server:
        assert (await _submitted(connect, server.url)).outcome == "ambiguous"


async def test_a_refusal_that_quotes_our_key_and_hides_text_shows_neither(connect: Connect) -> None:
    words = f"Invalid API key '{API_KEY}' (Bearer {API_KEY}), see https://apixo.ai/keys\r\n\x1b[31m"
    body = json.dumps({"code": 401, "message": words}).encode()
    async with serving(answering(answer(401, body))) as server:
        outcome = await _submitted(connect, server.url)
    assert outcome.outcome == "rejected"
    assert outcome.error is not None
    assert outcome.error.message.endswith("It said: Invalid API key '[key]' ([removed] see [removed] [31m")


async def test_proxies_and_netrc_of_the_environment_are_ignored(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dead = f"http://user:password@{LOOPBACK}:{free_port()}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, dead)
        monkeypatch.setenv(name.lower(), dead)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {LOOPBACK} login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(answering(WHOLE)) as server:
        assert (await _submitted(connect, server.url)).outcome == "accepted"
        assert f"Authorization: Bearer {API_KEY}".lower().encode() in server.received[0].lower()


async def test_a_cookie_is_never_sent_back(connect: Connect) -> None:
    async with serving(answering(answer(200, ACCEPTED, "set-cookie: a=b; Path=/"))) as server:
        for _ in range(2):
            await connect(server.url).submit(submission())
        assert server.connections == 2, "each call has a connection of its own"
        assert b"cookie" not in b"".join(server.received).lower()


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        ("retry-after: 7", 7, 7),
        ("retry-after: 36000", 300, 300),
        pytest.param(f"retry-after: {formatdate(time() + 3600, usegmt=True)}", 300, 300, id="a date in an hour"),
        (f"retry-after: {formatdate(0, usegmt=True)}", None, None),
        ("retry-after: -5", None, None),
        ("retry-after: soon\xff", None, None),
        ("x-none: 1", None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 200])
async def test_throttled_says_when_to_come_back(
    connect: Connect, header: str, least_s: float | None, most_s: float | None, status: int
) -> None:
    body = json.dumps({"code": 429, "message": "slow down"}).encode()
    async with serving(answering(answer(status, body, header))) as server:
        outcome = await _submitted(connect, server.url)
    assert outcome.outcome == "throttled"
    if least_s is None or most_s is None:
        assert outcome.retry_after_s is None
    else:
        assert outcome.retry_after_s is not None
        assert least_s <= outcome.retry_after_s <= most_s


async def test_a_retry_after_date_is_counted_from_now(connect: Connect) -> None:
    body = json.dumps({"code": 429, "message": "slow down"}).encode()
    header = f"retry-after: {formatdate(time() + 100, usegmt=True)}"
    async with serving(answering(answer(429, body, header))) as server:
        outcome = await _submitted(connect, server.url)
    assert outcome.retry_after_s is not None
    assert 90 < outcome.retry_after_s <= 100


# -- Status reads ------------------------------------------------------------------------------------------------------


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
    order = Order(LISTED_ORDER.plan, LISTED, None, 7)
    sent = json.loads(gmi.submit_request("https://gmi.example", order).content)
    return {"request_id": task_id, "created_at": SENT_AT.timestamp() - age_s, **sent}


async def _found(url: str) -> tuple[str, ...]:
    async with new_http_client(PATIENT) as http:
        outbound = Outbound()
        try:
            driver = Driver("gmi", gmi, url, API_KEY, http=http, outbound=outbound)
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
    async with serving(answering(answer(200, body))) as server, new_http_client(PATIENT) as http:
        outbound = Outbound()
        driver = Driver("aivideoapi", aivideoapi, server.url, API_KEY, http=http, outbound=outbound)
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


# -- Hashes, seeds, downloads ------------------------------------------------------------------------------------------


async def test_the_hash_of_a_submission_leaves_its_callback_out_and_holds_everything_else(connect: Connect) -> None:
    plain, called = submission(), submission(callback_url=CALLBACK_URL)
    driver, other = connect("http://a.example"), connect("http://b.example", api_key="another")
    first = driver.request_sha256(plain)
    assert len(first) == 32
    assert first == driver.request_sha256(called) == other.request_sha256(called)
    assert first == driver.request_sha256(submission(callback_url="https://elsewhere.example/x"))
    changed = (submission(prompt="b"), submission(seed=1), submission(duration_s=6), submission(watermark=False))
    assert len({first, *map(driver.request_sha256, changed)}) == 5


async def test_the_seed_is_the_callers_or_a_new_one_where_the_vendor_takes_seeds(connect: Connect) -> None:
    driver = connect("http://a.example")
    assert driver.chosen_seed(PLAN, request_for(seed=42)) == 42
    assert driver.chosen_seed(PLAN, request_for(seed=0)) == 0
    chosen = {driver.chosen_seed(PLAN, request_for()) for _ in range(20)}
    assert all(seed is not None and 0 <= seed <= SEED_MOST for seed in chosen)
    assert len(chosen) > 15
    seedless = PLAN.model_copy(update={"takes_seed": False})
    assert driver.chosen_seed(seedless, request_for()) is None


async def test_a_download_never_carries_our_key() -> None:
    async with serving(answering(answer(200, b"clip", content_type="video/mp4"))) as server:
        http, outbound = new_http_client(), Outbound(frozenset({f"{LOOPBACK}:{server.port}"}))
        driver = Driver("apixo", apixo, server.url, API_KEY, http=http, outbound=outbound)
        async with driver.download(f"{server.url}/video.mp4") as body:
            assert b"".join([chunk async for chunk in body.chunks]) == b"clip"
        await http.aclose()
        await outbound.aclose()
    assert b"authorization" not in server.received[0].lower()
    assert API_KEY.encode() not in server.received[0]


async def test_production_waits_long_enough_for_a_vendor_and_never_for_ever() -> None:
    assert httpx.Timeout(connect=10, read=60, write=30, pool=10) == TIMEOUT
    async with new_http_client() as http:
        assert http.timeout == TIMEOUT
        assert not http.follow_redirects
        assert not http.trust_env


def test_only_the_wait_for_an_answer_is_scaled_and_not_without_end() -> None:
    assert timeout_for(1) == TIMEOUT
    assert timeout_for(0.5).read == 30
    assert timeout_for(0.001) == httpx.Timeout(connect=10, read=SHORTEST_ANSWER_S, write=30, pool=10)


async def test_a_trusted_certificate_and_a_cut_inside_tls_is_ambiguous(tmp_path: Path) -> None:
    """After the handshake bytes leave: from then on TLS is no excuse."""
    tls = own_certificate(tmp_path)
    verify = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    outbound = Outbound()
    async with (
        serving(_read_and_reset, tls=tls) as server,
        httpx.AsyncClient(timeout=PATIENT, verify=verify, trust_env=False) as http,
    ):
        driver = Driver("apixo", apixo, server.url, API_KEY, http=http, outbound=outbound)
        outcome = await driver.submit(submission())
        assert outcome.outcome == "ambiguous"
        assert len(server.received) == 1
    await outbound.aclose()
