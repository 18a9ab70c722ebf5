"""Callbacks over real HTTP into a real database, and the signals that follow on a real Temporal server.

It is over 400 lines because one endpoint is open to everybody: each thing that somebody may send has its test here.
"""

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from bench.processes import rss_bytes
from bench.storm import callback, storm
from onetake.core.names import Resolution, SubmissionState
from onetake.gateway import app as gateway_app
from onetake.gateway import serve
from onetake.ledger.database import connect_once
from tests.cli.processes import run
from tests.connections import dialled
from tests.gateway.parts import (
    CANARY,
    INTERVAL_S,
    LIMIT_S,
    QUEUE,
    Gateway,
    Generation,
    Recovering,
    eventually,
    gateway_part,
    url_of,
)
from tests.system.relay import relaying


def body(task_id: str, **more: object) -> bytes:
    return json.dumps({"code": 200, "data": {"taskId": task_id, "state": "success", **more}}).encode()


def path(generation: Generation) -> str:
    return f"/callbacks/apixo/{generation.token}"


async def posted(http: httpx.AsyncClient, place: str, body: bytes) -> httpx.Response:
    """The answer to a callback. As a vendor does, it sends again what a busy database could not store."""
    while (answer := await http.post(place, content=body)).status_code == 503:
        await asyncio.sleep(0.05)
    return answer


async def test_a_callback_is_stored_answered_and_then_wakes_the_workflow(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    answer = await posted(http, path(generation), body("task-1", resultJson=CANARY))
    assert (answer.status_code, answer.content) == (200, b"")

    async def woken() -> bool:
        return set(await generation.heard()) == {"task-1"} and await gateway.unsignalled(generation) == 0

    await eventually(woken)


async def test_a_hundred_duplicates_become_few_signals_and_the_last_is_heard(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    began = time.monotonic()
    answers = await asyncio.gather(*(posted(http, path(generation), body("task-1")) for _ in range(100)))
    answers.append(await posted(http, path(generation), body("task-2")))
    assert {answer.status_code for answer in answers} == {200}

    async def last_heard() -> bool:
        return "task-2" in await generation.heard()

    await eventually(last_heard)
    assert len(await generation.heard()) <= (time.monotonic() - began) / INTERVAL_S + 2


async def test_a_storm_over_twenty_tokens_is_answered_200_and_loses_no_last_one(gateway: Gateway) -> None:
    """A thousand a second for four seconds, as far as this machine can, with wakes every two. Nobody else wakes."""
    part, interval_s, number_of = gateway_part("gateway-storm", ONETAKE_TIME_SCALE="0.4"), 2.0, 4000
    gateway.stack.start_part(part)
    generations = [await gateway.generation() for _ in range(20)]
    requests = [
        callback(path(generations[number % 20]), body(f"task-{number // 100}00")) for number in range(number_of)
    ]
    began = time.monotonic()
    with gateway.standing_still():
        found = await storm(url_of(part), requests, per_s=1000)
        assert found.statuses.keys() <= {200, 503}
        # What a busy database could not store is sent again, and a stored one whose answer came too late with it.
        again = [callback(path(each), body(f"task-{number_of}")) for each in generations] * min(found.statuses[503], 1)
        assert (await storm(url_of(part), again)).statuses.keys() <= {200}
        for generation in generations:

            async def last_heard(generation: Generation = generation) -> bool:
                """Nothing waits for a wake, and one came for the last ones: which was last, many connections decide."""
                named = [int(task_id.removeprefix("task-")) for task_id in await generation.heard() if task_id]
                return max(named, default=0) >= number_of - 1000 and await gateway.unsignalled(generation) == 0

            await eventually(last_heard)
            assert len(await generation.heard()) <= (time.monotonic() - began) / interval_s + 2
        seen = [(await gateway.seen(generation))[0] for generation in generations]
        assert sum(seen) >= found.statuses[200]
        assert found.statuses[503] or seen == [number_of // 20] * 20
        gateway.stack.stop_part("gateway-storm")


async def test_two_gateways_together_wake_as_seldom_as_one(gateway: Gateway, http: httpx.AsyncClient) -> None:
    """A storm on one token comes to both in turns."""
    part = gateway_part("gateway-second")
    gateway.stack.start_part(part)
    generation = await gateway.generation()
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=url_of(part), trust_env=False, timeout=LIMIT_S) as second:
        while time.monotonic() - began < 8 * INTERVAL_S:
            for client in (http, second):
                answer = await posted(client, path(generation), body("task-1"))
                assert answer.status_code == 200
        await asyncio.gather(*(posted(client, path(generation), body("task-2")) for client in (http, second)))

    async def last_heard() -> bool:
        return "task-2" in await generation.heard() and await gateway.unsignalled(generation) == 0

    await eventually(last_heard)
    assert 2 <= len(await generation.heard()) <= (time.monotonic() - began) / INTERVAL_S + 2
    await ends_in_good_order(gateway, "gateway-second")


async def ends_in_good_order(gateway: Gateway, name: str) -> None:
    """On SIGTERM; nothing kills it before it has said so."""
    gateway.stack.kill_part(name, signal.SIGTERM)

    async def stopped() -> bool:
        return "gateway_stopped" in gateway.stack.log_of(name).read_text()

    await eventually(stopped)
    gateway.stack.stop_part(name)


HOSTILE = {
    "empty": b"",
    "no text": b"\xff\xfe",
    "deep": b"[" * 60_000,
    "null": b"null",
    "a list": b'[{"data": {"taskId": "task-1"}}]',
    "wrong types": b'{"code": "200", "data": {"taskId": {"a": 1}, "state": ["success"]}}',
    "not a number": b'{"code": NaN, "data": {"taskId": NaN, "state": Infinity}}',
    "lone surrogate": b'{"code": 200, "data": {"taskId": "\\ud800", "state": "\\udfff"}}',
    "nul": b'{"code": 200, "data": {"taskId": "task\\u0000", "state": "success"}}',
    "a huge number": b'{"code": 200, "data": {"taskId": ' + b"9" * 50_000 + b"}}",
}


async def test_whatever_the_body_says_it_only_wakes(gateway: Gateway, http: httpx.AsyncClient) -> None:
    async def only_wakes(hostile: bytes) -> None:
        generation = await gateway.generation()
        assert (await posted(http, path(generation), hostile)).status_code == 200

        async def woken() -> bool:
            return set(await generation.heard()) == {None}

        await eventually(woken)

    await asyncio.gather(*map(only_wakes, HOSTILE.values()))


async def test_of_two_claims_in_one_body_one_is_noted_and_none_believed(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    twice = b'{"code": 200, "data": {"taskId": "task-1", "taskId": "task-2", "state": "success"}}'
    assert (await posted(http, path(generation), twice)).status_code == 200

    async def woken() -> bool:
        return set(await generation.heard()) == {"task-2"}

    await eventually(woken)


async def test_tokens_and_vendors_that_do_not_exist_look_the_same(gateway: Gateway, http: httpx.AsyncClient) -> None:
    generation = await gateway.generation()
    for place in (
        f"apixo/{'A' * 32}",
        f"gmi/{generation.token}",
        f"{CANARY}/{generation.token}",
        "apixo/short",
        f"apixo/{generation.token}%00",
        f"apixo/{'a' * 5000}",
        f"apixo/{generation.token}'--",
        f"apixo/{generation.token}%ed%a0%80",
    ):
        answer = await posted(http, f"/callbacks/{place}", body("task-1"))
        assert (place, answer.status_code, answer.content) == (place, 404, b"")
    assert await generation.heard() == []


async def test_a_token_is_never_a_path(gateway: Gateway) -> None:
    generation = await gateway.generation()
    places = ("../apixo/{}", "{}/../{}", "{}/..", "..%2f{}", "%2e%2e%2f{}", "{}%2f..", "{}/", "{};{}")
    paths = [f"/callbacks/apixo/{place.format(*[generation.token] * 2)}" for place in places]
    found = await storm(gateway.url, [callback(each, body("task-1")) for each in paths], connections=1)
    assert found.statuses == {404: len(paths)}
    assert (await generation.heard(), await gateway.seen(generation)) == ([], (0, 0))


async def test_only_post_is_taken(gateway: Gateway, http: httpx.AsyncClient) -> None:
    generation = await gateway.generation()
    for method in ("GET", "PUT", "DELETE", "PATCH", "HEAD"):
        assert (method, (await http.request(method, path(generation))).status_code) == (method, 405)


async def test_what_is_too_large_or_encoded_is_refused(gateway: Gateway, http: httpx.AsyncClient) -> None:
    generation = await gateway.generation()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1 << 20)  # so that what is read away has come long before the limit of time

    def post(content: bytes | AsyncIterator[bytes], **headers: str) -> "asyncio.Future[httpx.Response]":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.ensure_future(http.post(path(generation), content=content, headers=named))

    assert (await posted(http, path(generation), b"x" * 65_536)).status_code == 200
    assert (await post(b"[" * 100_000)).status_code == 413
    assert (await post(b"x" * 65_537)).status_code == 413
    with pytest.raises(httpx.HTTPError):
        # The gateway closes the connection while the vendor still talks; some clients see 413, some a reset.
        raise_if_413(await post(endless()))
    assert (await post(b"\x1f\x8b", content_encoding="gzip")).status_code == 415
    assert (await post(b"a=b", content_type="application/x-www-form-urlencoded")).status_code == 415
    assert (await post(b"--x", content_type="multipart/form-data; boundary=x")).status_code == 415


def raise_if_413(answer: httpx.Response) -> None:
    assert answer.status_code == 413
    answer.raise_for_status()


async def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_app, "BODY_LIMIT_S", 0.05)

    async def never() -> dict[str, object]:
        await asyncio.sleep(3600)
        return {}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"10")]}
    with pytest.raises(gateway_app.BodyRefused) as caught:
        await gateway_app.read_body(Request(scope, never), 100)
    assert caught.value.http_status == 408


async def test_ten_megabytes_are_answered_413_and_not_kept(gateway: Gateway) -> None:
    generation = await gateway.generation()
    pid = gateway.stack.pid_of("gateway")
    whole, chunk = b"x" * 10_485_760, b"100000\r\n" + b"x" * 1_048_576 + b"\r\n"
    head = f"POST {path(generation)} HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    requests = [callback(path(generation), whole), head + 10 * chunk + b"0\r\n\r\n"] * 4
    before = rss_bytes(pid)
    found = await asyncio.gather(*(storm(gateway.url, [request], connections=1) for request in requests))
    statuses = sum((each.statuses for each in found), Counter[int]())
    assert statuses[413] > 0
    assert statuses[413] + statuses[408] == len(
        requests
    )  # 408: the machine stood still for longer than a body may take
    assert rss_bytes(pid) - before < 30 * 1024 * 1024
    assert (await generation.heard(), await gateway.seen(generation)) == ([], (0, 0))


async def test_a_callback_after_an_end_in_suspense_starts_the_recovery(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    await gateway.end(generation, "suspend")
    assert (await posted(http, path(generation), body("task-1"))).status_code == 200

    async def recovering() -> bool:
        return set(await generation.recovery_heard()) == {"task-1"} and await gateway.unsignalled(generation) == 0

    await eventually(recovering)
    asked = await generation.recovery.query(Recovering.asked)
    assert asked is not None
    assert (asked.generation_id, asked.tenant, asked.goal, asked.who) == (generation.id, "default", "attach", "gateway")
    assert (await generation.recovery.describe()).task_queue == QUEUE
    assert await generation.heard() == []


async def test_a_storm_after_the_end_is_one_recovery_with_few_signals(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    await gateway.end(generation, "suspend")
    began = time.monotonic()
    answers = await asyncio.gather(*(posted(http, path(generation), body(f"task-{n}")) for n in range(99)))
    answers.append(await posted(http, path(generation), body("the-last")))
    assert {answer.status_code for answer in answers} == {200}

    async def last_heard() -> bool:
        return "the-last" in await generation.recovery_heard()

    await eventually(last_heard)
    assert len(await generation.recovery_heard()) <= (time.monotonic() - began) / INTERVAL_S + 2


async def test_a_callback_after_any_other_end_is_counted_and_wakes_nobody(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    ends: list[tuple[SubmissionState, Resolution]] = [("accepted", "post"), ("rejected", "release")]
    ended = [await gateway.generation() for _ in ends]
    for generation, (sent, resolution) in zip(ended, ends, strict=True):
        await gateway.sent(generation, sent)
        await gateway.end(generation, resolution)
        for _ in range(3):
            answer = await posted(http, path(generation), body("late"))
            assert (answer.status_code, answer.content) == (200, b"")
        seen, due = await gateway.seen(generation)
        assert seen >= 3  # more, where one was stored and the answer came too late
        assert due == 0
    await asyncio.sleep(3 * INTERVAL_S)
    for generation in ended:
        assert (await generation.heard(), await generation.recovery_heard()) == ([], [])


async def test_a_callback_for_a_lost_run_waits_until_its_end_is_written_and_starts_the_recovery(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    await generation.handle.terminate()
    assert (await posted(http, path(generation), body("late"))).status_code == 200
    log = gateway.stack.log_of("gateway")

    async def logged() -> bool:
        lines = log.read_text().splitlines()
        return any("callback_after_end" in line and generation.id in line for line in lines)

    await eventually(logged)
    assert await gateway.unsignalled(generation) == 1
    await gateway.end(generation, "suspend")  # as the reconciler does

    async def recovering() -> bool:
        return set(await generation.recovery_heard()) == {"late"} and await gateway.unsignalled(generation) == 0

    await eventually(recovering)


async def test_a_callback_that_a_run_in_its_end_swallowed_starts_the_recovery(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    assert (await posted(http, path(generation), body("too-late"))).status_code == 200

    async def swallowed() -> bool:
        return set(await generation.heard()) == {"too-late"} and await gateway.unsignalled(generation) == 0

    await eventually(swallowed)
    await gateway.end(generation, "suspend")

    async def recovering() -> bool:
        return set(await generation.recovery_heard()) == {"too-late"}

    await eventually(recovering)


async def test_what_was_stored_but_never_signalled_is_signalled_by_the_sweep(gateway: Gateway) -> None:
    """A gateway that was killed between the store and the signal leaves exactly this behind."""
    generation = await gateway.generation()
    claims = {"claimed_task_id": "orphan", "claimed_state": "success"}
    await gateway.inbox.take("apixo", generation.token, **claims, body_sha256=b"\0" * 32, size_bytes=2)

    async def swept() -> bool:
        return set(await generation.heard()) == {"orphan"} and await gateway.unsignalled(generation) == 0

    await eventually(swept)


async def test_with_temporal_away_it_is_ready_and_callbacks_are_signalled_after_its_return(gateway: Gateway) -> None:
    """A probe that asked Temporal would take every gateway out, and lose the callbacks that they are there to keep."""
    generation = await gateway.generation()
    async with relaying(gateway.stack.addresses.temporal_address) as (line, through):
        line.cut()
        alone = gateway_part("gateway-alone", TEMPORAL_ADDRESS=through)
        gateway.stack.start_part(alone)
        async with httpx.AsyncClient(base_url=url_of(alone), trust_env=False, timeout=LIMIT_S) as http:
            with gateway.standing_still():  # it has Temporal, and would signal what the other one has stored
                await eventually(lambda: says(http, "/status", "temporal"))
                assert (await posted(http, path(generation), body("kept"))).status_code == 200
                await eventually(lambda: says(http, "/readyz"))
                assert await gateway.unsignalled(generation) == 1
                line.mend()

                async def told() -> bool:
                    return set(await generation.heard()) == {"kept"} and await says(http, "/status")

                await eventually(told)
    gateway.stack.kill_part("gateway-alone", signal.SIGKILL)


async def test_what_cannot_be_stored_is_answered_503_so_that_the_vendor_tries_again(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    generation = await gateway.generation()
    blocker = await connect_once(gateway.stack.addresses.database_url)
    try:
        async with blocker.transaction():
            await blocker.execute("lock table onetake.callback_inbox in access exclusive mode")
            answer = await http.post(path(generation), content=body("task-1"))
    finally:
        await blocker.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def says(http: httpx.AsyncClient, place: str, *red: str) -> bool:
    """Whether it names these parts and no other; on a busy machine one that is there may answer too late."""
    answer = await http.get(place)
    told = {"status": "red" if red else "ok", "red": [*red]}
    return (answer.status_code, answer.json()) == (503 if red else 200, told)


async def test_ready_when_all_parts_answer_and_nothing_else_is_public(http: httpx.AsyncClient) -> None:
    for place in ("/readyz", "/status"):
        await eventually(partial(says, http, place))
    for place in ("/", "/docs", "/redoc", "/openapi.json", "/callbacks", "/decode"):
        assert (await http.get(place)).status_code == 404


@pytest.mark.parametrize("fails", ["database", "temporal"])
async def test_only_what_a_callback_needs_makes_it_unready(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    monkeypatch.setattr(gateway_app, "CHECK_LIMIT_S", 0.05)

    async def hangs() -> None:
        await asyncio.sleep(3600)

    async def answers() -> None: ...

    checks = {name: hangs if name == fails else answers for name in ("database", "temporal")}
    unused: Any = None
    needed, others = {"database": checks["database"]}, {"temporal": checks["temporal"]}
    app = gateway_app.create_app(gateway_app.GatewayParts(unused, unused, (), unused, needed, others))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        assert (await client.get("/healthz")).status_code == 200
        ready, status = await client.get("/readyz"), await client.get("/status")
    assert ready.json()["red"] == (["database"] if fails == "database" else [])
    assert ready.status_code == (503 if fails == "database" else 200)
    assert (status.status_code, status.json()["red"]) == (503, [fails])


async def test_a_connection_that_sends_no_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "FIRST_REQUEST_LIMIT_S", 0.2)
    async with AsyncExitStack() as cleanup:
        server, listener = serve.new_server(FastAPI(), "127.0.0.1", 0, cleanup)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with dialled(*listener.getsockname()) as (reader, writer):
            writer.write(b"POST /callbacks/apixo/x HTTP/1.1\r\nHost: ")
            with suppress(ConnectionResetError):  # it was closed before these words came
                assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""
        server.should_exit = True
        await serving


async def test_a_load_balancer_never_sends_over_a_connection_that_the_gateway_is_closing() -> None:
    """Of two that keep a connection the one that sends closes it first; balancers do after 60 seconds, or sooner."""
    async with AsyncExitStack() as cleanup:
        server, _ = serve.new_server(FastAPI(), "127.0.0.1", 0, cleanup)
        assert server.config.timeout_keep_alive > 60


async def test_large_headers_are_refused(gateway: Gateway) -> None:
    at = urlsplit(gateway.url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=LIMIT_S) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 20_000)  # little enough to be sent before the answer
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_a_taken_port_is_one_clear_error(gateway: Gateway, tmp_path: Path) -> None:
    taken = str(urlsplit(gateway.url).port)
    finished = run("gateway", "--port", taken, env=gateway.stack.environment(), cwd=tmp_path)
    assert finished.code == 2
    assert f"Cannot listen on 127.0.0.1:{taken}" in finished.stderr


async def test_the_log_holds_no_token_and_no_body(gateway: Gateway, http: httpx.AsyncClient) -> None:
    generation = await gateway.generation()
    await posted(http, path(generation), body("task-1", note=CANARY))
    log = gateway.stack.log_of("gateway").read_text()
    assert generation.token not in log
    assert CANARY not in log
    assert all(json.loads(line) for line in log.splitlines())
