"""Callbacks over real HTTP into a real database, and the signals that follow on a real Temporal server."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from onetake.devstack.ports import free_port
from onetake.gateway import app as gateway_app
from onetake.gateway import serve
from onetake.ledger.database import connect_once
from tests.gateway.house import CANARY, INTERVAL_S, Generation, House, eventually, gateway_part, url_of


def body(task_id: str, **more: object) -> bytes:
    return json.dumps({"code": 200, "data": {"taskId": task_id, "state": "success", **more}}).encode()


def path(generation: Generation) -> str:
    return f"/callbacks/apixo/{generation.token}"


async def test_a_callback_is_stored_answered_and_then_wakes_the_workflow(house: House, http: httpx.AsyncClient) -> None:
    generation = await house.generation()
    answer = await http.post(path(generation), content=body("task-1", resultJson=CANARY))
    assert (answer.status_code, answer.content) == (200, b"")

    async def woken() -> bool:
        return await generation.heard() == ["task-1"] and await house.unsignalled(generation) == 0

    await eventually(woken)


async def test_a_hundred_duplicates_become_few_signals_and_the_last_is_heard(
    house: House, http: httpx.AsyncClient
) -> None:
    generation = await house.generation()
    began = time.monotonic()
    answers = await asyncio.gather(*(http.post(path(generation), content=body("task-1")) for _ in range(100)))
    answers.append(await http.post(path(generation), content=body("task-2")))
    storm_s = time.monotonic() - began
    assert {answer.status_code for answer in answers} == {200}

    async def last_heard() -> bool:
        return (await generation.heard())[-1:] == ["task-2"]

    await eventually(last_heard)
    assert len(await generation.heard()) <= storm_s / INTERVAL_S + 2


async def test_a_storm_over_twenty_tokens_is_answered_200_throughout(house: House, http: httpx.AsyncClient) -> None:
    generations = [await house.generation() for _ in range(20)]
    room = asyncio.Semaphore(64)

    async def post(number: int) -> int:
        async with room:
            return (await http.post(path(generations[number % 20]), content=body(f"task-{number}"))).status_code

    began = time.monotonic()
    statuses = await asyncio.gather(*(post(number) for number in range(500)))
    storm_s = time.monotonic() - began
    assert set(statuses) == {200}

    async def all_quiet() -> bool:
        return not any([await house.unsignalled(generation) for generation in generations])

    await eventually(all_quiet)
    for generation in generations:
        assert 1 <= len(await generation.heard()) <= storm_s / INTERVAL_S + 2


@pytest.mark.parametrize("hostile", [b"", b"\xff\xfe", b"[" * 60_000, b"null", b'{"data": {"taskId": {"a": 1}}}'])
async def test_whatever_the_body_says_it_only_wakes(house: House, http: httpx.AsyncClient, hostile: bytes) -> None:
    generation = await house.generation()
    assert (await http.post(path(generation), content=hostile)).status_code == 200

    async def woken() -> bool:
        return await generation.heard() == [None]

    await eventually(woken)


async def test_tokens_and_vendors_that_do_not_exist_look_the_same(house: House, http: httpx.AsyncClient) -> None:
    generation = await house.generation()
    for place in (
        f"apixo/{'A' * 32}",
        f"gmi/{generation.token}",
        f"{CANARY}/{generation.token}",
        "apixo/short",
        f"apixo/{generation.token}%00",
        f"apixo/{'a' * 5000}",
    ):
        answer = await http.post(f"/callbacks/{place}", content=body("task-1"))
        assert (place, answer.status_code, answer.content) == (place, 404, b"")
    assert await generation.heard() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_only_post_is_taken(house: House, http: httpx.AsyncClient, method: str) -> None:
    generation = await house.generation()
    assert (await http.request(method, path(generation))).status_code == 405


async def test_what_is_too_large_or_encoded_is_refused_unread(house: House, http: httpx.AsyncClient) -> None:
    generation = await house.generation()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 8192

    def post(content: bytes | AsyncIterator[bytes], **headers: str) -> "asyncio.Future[httpx.Response]":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.ensure_future(http.post(path(generation), content=content, headers=named))

    assert (await post(b"x" * 65_536)).status_code == 200
    assert (await post(b"x" * 65_537)).status_code == 413
    with pytest.raises(httpx.HTTPError):
        # The door closes while the vendor still talks; some clients see 413, some a reset.
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


async def test_a_callback_after_the_workflows_end_stays_in_the_inbox(house: House, http: httpx.AsyncClient) -> None:
    generation = await house.generation()
    await generation.handle.terminate()
    assert (await http.post(path(generation), content=body("late"))).status_code == 200
    log = house.stack.log_of("gateway")

    async def logged() -> bool:
        lines = log.read_text().splitlines()
        return any("callback_after_end" in line and generation.id in line for line in lines)

    await eventually(logged)
    assert await house.unsignalled(generation) == 1
    assert (await http.get("/healthz")).status_code == 200


async def test_what_was_stored_but_never_signalled_is_signalled_by_the_sweep(house: House) -> None:
    """A gateway that was killed between the store and the signal leaves exactly this behind."""
    generation = await house.generation()
    claims = {"claimed_task_id": "orphan", "claimed_state": "success"}
    await house.inbox.take("apixo", generation.token, **claims, body_sha256=b"\0" * 32, size_bytes=2)

    async def swept() -> bool:
        return await generation.heard() == ["orphan"] and await house.unsignalled(generation) == 0

    await eventually(swept)


async def test_with_temporal_away_callbacks_are_stored_and_signalled_by_the_next_gateway(house: House) -> None:
    generation = await house.generation()
    nowhere = gateway_part("gateway-alone", TEMPORAL_ADDRESS=f"127.0.0.1:{free_port(set())}")
    house.stack.start_part(nowhere)
    async with httpx.AsyncClient(base_url=url_of(nowhere), trust_env=False, timeout=15) as http:
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "red", "red": ["temporal"]})
        assert (await http.post(path(generation), content=body("kept"))).status_code == 200
    house.stack.kill_part("gateway-alone", signal.SIGKILL)

    async def swept() -> bool:
        return await generation.heard() == ["kept"]

    await eventually(swept)


async def test_what_cannot_be_stored_is_answered_503_so_that_the_vendor_tries_again(
    house: House, http: httpx.AsyncClient
) -> None:
    generation = await house.generation()
    blocker = await connect_once(house.stack.addresses.database_url)
    try:
        async with blocker.transaction():
            await blocker.execute("lock table onetake.callback_inbox in access exclusive mode")
            answer = await http.post(path(generation), content=body("task-1"))
    finally:
        await blocker.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_ready_when_all_parts_answer_and_nothing_else_is_public(http: httpx.AsyncClient) -> None:
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ok", "red": []})
    for place in ("/", "/docs", "/redoc", "/openapi.json", "/callbacks", "/decode"):
        assert (await http.get(place)).status_code == 404


async def test_a_connection_that_sends_no_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "FIRST_REQUEST_LIMIT_S", 0.2)
    async with AsyncExitStack() as cleanup:
        server, listener = serve.new_server(FastAPI(), "127.0.0.1", 0, cleanup)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"POST /callbacks/apixo/x HTTP/1.1\r\nHost: ")
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()
        server.should_exit = True
        await serving


async def test_large_headers_are_refused(house: House) -> None:
    at = urlsplit(house.gateway_url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=5) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 100_000)
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


async def test_sigterm_ends_it_in_good_order(house: House) -> None:
    part = gateway_part("gateway-brief")
    house.stack.start_part(part)
    began = time.monotonic()
    house.stack.stop_part("gateway-brief")
    assert time.monotonic() - began < 5
    assert "gateway_stopped" in house.stack.log_of("gateway-brief").read_text()


async def test_a_taken_port_is_one_clear_error(house: House) -> None:
    taken = urlsplit(house.gateway_url).port
    process = await asyncio.create_subprocess_exec(
        *gateway_part("x").argv[:-1],
        str(taken),
        env={**house.stack.environment(), "PATH": ""},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{taken}" in errors.decode()


async def test_the_log_holds_no_token_and_no_body(house: House, http: httpx.AsyncClient) -> None:
    generation = await house.generation()
    await http.post(path(generation), content=body("task-1", note=CANARY))
    log = house.stack.log_of("gateway").read_text()
    assert generation.token not in log
    assert CANARY not in log
    assert all(json.loads(line) for line in log.splitlines())
