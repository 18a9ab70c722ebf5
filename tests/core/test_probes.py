"""What a worker answers to probes: from its state alone, with the reason by name."""

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from onetake.core.errors import Refused
from onetake.core.probes import Readiness, probed
from onetake.dev.devstack.ports import free_port
from tests.connections import LOOPBACK, dialled


@dataclass
class Queue:
    """In the place of the SDK's worker."""

    task_queue: str
    is_running: bool = False


async def asked(port: int, path: str, *, request: bytes | None = None) -> tuple[int, Any]:
    async with dialled(LOOPBACK, port) as (reader, writer):
        writer.write(request or f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 240)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def test_a_worker_without_queues_is_not_starting_for_ever() -> None:
    ready = Readiness(lambda: False)
    ready.watch([], lambda: ["no_vendor_key"])
    assert ready.lacks() == ["no_vendor_key"]


async def test_readiness_goes_from_the_start_to_the_end() -> None:
    stopping, queues = False, [Queue("onetake"), Queue("onetake-read-gmi")]
    ready, full = Readiness(lambda: stopping), list[str]()
    assert ready.lacks() == ["starting"]
    ready.watch(queues, lambda: full)
    assert ready.lacks() == ["queue onetake", "queue onetake-read-gmi"]
    queues[0].is_running = True
    assert ready.lacks() == ["queue onetake-read-gmi"]
    queues[1].is_running = True
    assert ready.lacks() == []
    full.append("spool_full")
    assert ready.lacks() == ["spool_full"]
    stopping = True  # its queues are polled until the last one has ended
    assert ready.lacks() == ["stopping"]


@pytest.mark.parametrize(("lacks", "status"), [((), 200), (("queue onetake", "spool_full"), 503)])
async def test_readyz_names_what_is_lacking_and_healthz_asks_nothing(lacks: Sequence[str], status: int) -> None:
    port = free_port(set())
    async with probed("127.0.0.1", port, lambda: lacks):
        word = "red" if lacks else "ok"
        assert await asked(port, "/readyz") == (status, {"status": word, "red": list(lacks)})
        assert await asked(port, "/healthz") == (200, {"status": "ok"})
        assert (await asked(port, "/"))[0] == 404
        assert (await asked(port, "", request=b"\r\n\r\n"))[0] == 404


async def test_who_says_nothing_or_too_much_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port(set())
    async with probed("127.0.0.1", port, list):
        with monkeypatch.context() as hurried:
            hurried.setattr("onetake.core.probes.REQUEST_LIMIT_S", 0.1)
            for said in (b"", b"GET /readyz", b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000):
                async with dialled(LOOPBACK, port) as (reader, writer):
                    writer.write(said)
                    with suppress(ConnectionError):  # it had not read all of it
                        assert await asyncio.wait_for(reader.read(), 240) == b""
        assert (await asked(port, "/healthz"))[0] == 200


async def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Refused, match=f"Cannot listen on 127.0.0.1:{port}"):
            async with probed("127.0.0.1", port, list):
                pass
