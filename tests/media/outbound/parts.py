"""A server that speaks raw bytes, and the guard set up to reach it by name."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest

from onetake.media import dialling
from onetake.media.outbound import Limits, Outbound
from tests.connections import Serve, listening

LIMIT_S = 300.0  # only what hangs takes longer, on however busy a machine
# No server of a test is too slow for these, so that what ends the reading is what the test is about.
PATIENT = Limits(
    resolve_s=LIMIT_S,
    connect_s=LIMIT_S,
    headers_s=LIMIT_S,
    read_s=LIMIT_S,
    window_s=LIMIT_S,
    undeclared_s=LIMIT_S,
    resume_gap_s=0.02,
)
# For servers that are to be given up: a busy machine only gives them up sooner.
QUICK = replace(PATIENT, resolve_s=0.3, connect_s=1.0, headers_s=1.0, read_s=0.5)


class Visits(list[str]):
    """The request heads that a server has seen."""

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self]


@asynccontextmanager
async def serving(script: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[tuple[int, Visits]]:
    """Run a script for each connection after its request head; yields the port and the heads seen."""
    visits = Visits()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await script(reader, writer)

    async with listening(handle, tls=tls) as port:
        yield port, visits


def saying(answer: bytes, *, pause_s: float = 0.0) -> Serve:
    """Send these bytes, wait, and close."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(pause_s)

    return script


def ok(body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def guard(
    trusted: frozenset[str] = frozenset({"127.0.0.1"}), *, limits: Limits = PATIENT
) -> AsyncGenerator[Outbound]:
    outbound = Outbound(trusted, limits=limits)
    try:
        yield outbound
    finally:
        await outbound.aclose()


async def read(outbound: Outbound, url: str) -> bytes:
    async with outbound.open(url) as body:
        return b"".join([chunk async for chunk in body.chunks])


class Answers:
    """A resolver that gives one prepared answer after another, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.count = 0
        self._answers = answers

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        self.count += 1
        return self._answers[min(self.count, len(self._answers)) - 1]


class NameServers:
    """What answers the system's look-ups with 127.0.0.1: those of names below `dead.example` hang until `wake`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._over = threading.Event()

    def look_up(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        if host.endswith(".dead.example"):
            self._over.wait(LIMIT_S)
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    def wake(self) -> None:
        self._over.set()


@contextmanager
def name_servers(monkeypatch: pytest.MonkeyPatch) -> Generator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(dialling.socket, "getaddrinfo", servers.look_up)
    try:
        yield servers
    finally:
        servers.wake()
