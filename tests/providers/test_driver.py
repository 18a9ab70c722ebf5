"""The only sender over real sockets: what it makes of an answer, what it hashes, seeds, downloads and waits for."""

import json
from email.utils import formatdate
from pathlib import Path
from time import time

import httpx
import pytest

from onetake.core.ports import SubmitOutcome
from onetake.media.outbound import Outbound
from providers import apixo
from providers.catalogue import SEED_MOST
from providers.driver import (
    MOST_ANSWER_BYTES,
    SHORTEST_ANSWER_S,
    TIMEOUT,
    Clients,
    Driver,
    for_reads,
    timeout_for,
)
from tests.providers.breaking import ACCEPTED, CHUNKED, WHOLE, submitted
from tests.providers.parts import API_KEY, CALLBACK_URL, PROMPT, Connect, plan_of, request_for, submission
from tests.providers.sockets import LOOPBACK, answer, answering, free_port, serving

PLAN = plan_of(request_for())

# -- An answer ---------------------------------------------------------------------------------------------------------


async def test_an_accepted_submission_is_one_post_with_the_key_in_its_header_only(connect: Connect) -> None:
    async with serving(answering(WHOLE)) as server:
        outcome = await submitted(connect, f"{server.url}/api/v1/")
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
        assert SubmitOutcome("accepted", "task_1") == await submitted(connect, server.url)


async def test_a_byte_above_the_limit_is_too_much(connect: Connect) -> None:
    body = ACCEPTED + b" " * (MOST_ANSWER_BYTES - len(ACCEPTED) + 1)
    async with serving(answering(answer(200, body))) as server:
        assert (await submitted(connect, server.url)).outcome == "ambiguous"


async def test_a_refusal_that_quotes_our_key_and_hides_text_shows_neither(connect: Connect) -> None:
    words = f"Invalid API key '{API_KEY}' (Bearer {API_KEY}), see https://apixo.ai/keys\r\n\x1b[31m"
    body = json.dumps({"code": 401, "message": words}).encode()
    async with serving(answering(answer(401, body))) as server:
        outcome = await submitted(connect, server.url)
    assert outcome.outcome == "rejected"
    assert outcome.error is not None
    assert outcome.error.message.endswith("It said: Invalid API key '[key]' ([removed] see [removed] [31m")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("written", [r"AbC\/dEf+12345678==", r"\u0041bC\u002FdEf+12345678\u003d="])
async def test_a_key_that_json_writes_in_another_way_is_not_shown_either(
    connect: Connect, written: str, encoding: str
) -> None:
    body = f'{{"code":401,"message":"the key {written} is unknown"}}'.encode(encoding)
    async with serving(answering(answer(401, body))) as server:
        outcome = await connect(server.url, api_key="AbC/dEf+12345678==").submit(submission())
    assert outcome.error is not None
    assert outcome.error.message.endswith("It said: the key [key] is unknown")


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
        assert (await submitted(connect, server.url)).outcome == "accepted"
        assert f"Authorization: Bearer {API_KEY}".lower().encode() in server.received[0].lower()


async def test_a_cookie_is_never_sent_back_nor_kept() -> None:
    outbound = Outbound()
    async with (
        serving(answering(answer(200, ACCEPTED, "set-cookie: a=b; Path=/", "set-cookie: c=d"))) as server,
        Clients.opened() as clients,
    ):
        driver = Driver("apixo", apixo, server.url, API_KEY, clients=clients, outbound=outbound)
        for _ in range(2):
            await driver.submit(submission())
        await driver.read_status(PLAN, "task_1")
        assert server.connections == 3, "each call has a connection of its own"
        assert b"cookie" not in b"".join(server.received).lower()
        assert not [*clients.submits.cookies.jar, *clients.reads.cookies.jar]
    await outbound.aclose()


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        ("retry-after: 7", 7, 7),
        ("retry-after: 36000", 300, 300),
        pytest.param(f"retry-after: {formatdate(time() + 864_000, usegmt=True)}", 300, 300, id="a date in ten days"),
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
        outcome = await submitted(connect, server.url)
    assert outcome.outcome == "throttled"
    if least_s is None or most_s is None:
        assert outcome.retry_after_s is None
    else:
        assert outcome.retry_after_s is not None
        assert least_s <= outcome.retry_after_s <= most_s


async def test_a_retry_after_date_is_counted_from_now(connect: Connect) -> None:
    body = json.dumps({"code": 429, "message": "slow down"}).encode()
    until = int(before := time()) + 200
    async with serving(answering(answer(429, body, f"retry-after: {formatdate(until, usegmt=True)}"))) as server:
        outcome = await submitted(connect, server.url)
    assert outcome.retry_after_s is not None
    assert until - time() <= outcome.retry_after_s <= until - before


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
        clients, outbound = Clients.opened(), Outbound(frozenset({f"{LOOPBACK}:{server.port}"}))
        driver = Driver("apixo", apixo, server.url, API_KEY, clients=clients, outbound=outbound)
        async with driver.download(f"{server.url}/video.mp4") as body:
            assert b"".join([chunk async for chunk in body.chunks]) == b"clip"
        await clients.aclose()
        await outbound.aclose()
    assert b"authorization" not in server.received[0].lower()
    assert API_KEY.encode() not in server.received[0]


async def test_production_waits_long_enough_for_a_vendor_and_never_for_ever() -> None:
    assert httpx.Timeout(connect=10, read=60, write=30, pool=10) == TIMEOUT
    async with Clients.opened() as clients:
        assert clients.submits.timeout == TIMEOUT
        assert clients.reads.timeout == httpx.Timeout(connect=10, read=30, write=30, pool=10)
        for http in (clients.submits, clients.reads):
            assert not http.follow_redirects
            assert not http.trust_env


def test_only_the_wait_for_an_answer_is_scaled_and_not_without_end() -> None:
    assert timeout_for(1) == TIMEOUT
    assert timeout_for(0.5).read == 30
    assert for_reads(timeout_for(0.5)).read == for_reads(timeout_for(0.001)).read == SHORTEST_ANSWER_S
    assert for_reads(httpx.Timeout(0.3)).read == 0.3
    assert timeout_for(0.001) == httpx.Timeout(connect=10, read=SHORTEST_ANSWER_S, write=30, pool=10)
