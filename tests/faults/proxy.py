"""The proxy between a worker and the simulated vendors: it can damage a submission and its answer, down to the bytes.

A worker with the variables of `FaultyProxy.environment` reaches the simulator through it. What happens to a submission
stands in its prompt, like the simulator's own markers: `[[proxy:NAME]]` or `[[proxy:NAME=VALUE]]`. All else, and every
read, passes unchanged. A damaged answer always stands for a job that the vendor has accepted.
"""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from onetake.dev.simulator.app import VENDORS
from tests.connections import dialled, length_of, read_message
from tests.providers.sockets import Connection, Server, answer, serving

BOMB_BYTES: Final = 16 * 1024 * 1024
REFUSALS: Final = {"": "failed", "parameter": "no such size", "content": "this violates our policy"}
LONG_ID: Final = "t" * 10_000
HOSTILE_IDS: Final = {"empty": "", "long": LONG_ID, "newline": "task_1\nx: y", "path": "../../etc/passwd?a=b#c"}

_MARKER = re.compile(rb"\[\[proxy:([a-z-]+)(?:=([^\]]*))?\]\]")
_PAGE = b"<!doctype html><title>Sign in</title><h1>Please sign in</h1>"


@dataclass
class FaultyProxy:
    """`lines` holds the request lines that came this way."""

    simulator: str
    lines: list[str] = field(default_factory=list[str])
    server: Server | None = None
    _arrived: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    _gates: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    _ids: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def netloc(self) -> str:
        assert self.server
        return f"127.0.0.1:{self.server.port}"

    def environment(self, *vendors: str, trusted: str) -> dict[str, str]:
        """A worker's variables that send these vendors' traffic over this proxy."""
        urls = {
            f"ONETAKE_{name.upper()}_BASE_URL": f"http://{self.netloc}{VENDORS[name].base_path}" for name in vendors
        }
        return urls | {"ONETAKE_TRUSTED_HOSTS": f"{trusted},{self.netloc}"}

    async def arrived(self, word: str) -> None:
        """Wait until a submission with `[[proxy:wait=WORD]]` is here; the vendor gets it at `release`."""
        await _event(self._arrived, word).wait()

    def release(self, word: str) -> None:
        """Let go what `[[proxy:wait=WORD]]` keeps from the vendor, or `[[proxy:hold=WORD]]` from the worker."""
        _event(self._gates, word).set()

    async def play(self, connection: Connection) -> None:
        """Carry one request, and what comes of it."""
        head = await connection.reader.readuntil(b"\r\n\r\n")
        self.lines.append(head.split(b"\r\n", 1)[0].decode())
        length, body = length_of(head), b""
        while len(body) < length:
            if not (more := await connection.reader.read(256)):
                return  # its sender has died
            body += more
            if b"[[proxy:half]]" in body and len(body) < length:
                connection.reset()
                return
        name, value = _marker_of(body)
        if name in _ANSWERED_HERE:
            await connection.send(_ANSWERED_HERE[name](head, value))
            return
        if name == "wait":
            _event(self._arrived, value).set()
            await _event(self._gates, value).wait()
        try:
            content = await self._asked(head + body)
        except (OSError, EOFError):
            connection.reset()
            return
        if name == "hold":
            await _event(self._gates, value).wait()
        await connection.send(self._damaged(name, value, content))

    async def _asked(self, request: bytes) -> bytes:
        """The simulator's whole answer. Raises OSError or EOFError when it gives none."""
        place = urlsplit(self.simulator)
        async with dialled(place.hostname, place.port) as (reader, writer):
            writer.write(request)
            return await read_message(reader)

    def _damaged(self, name: str, value: str, content: bytes) -> bytes:
        _, _, body = content.partition(b"\r\n\r\n")
        if name == "same-id":
            return self._with_the_first_id(value, body)
        return _DAMAGED[name](body, value) if name in _DAMAGED else content

    def _with_the_first_id(self, word: str, body: bytes) -> bytes:
        """APIXO's receipt: every later job of this word is given the first one's id."""
        receipt = json.loads(body)
        receipt["data"]["taskId"] = self._ids.setdefault(word, receipt["data"]["taskId"])
        return answer(200, json.dumps(receipt).encode())


@asynccontextmanager
async def open_proxy(simulator: str) -> AsyncGenerator[FaultyProxy]:
    """A proxy to the simulator at this address, for as long as the block runs."""
    proxy = FaultyProxy(simulator)
    async with serving(proxy.play) as proxy.server:
        yield proxy


def _event(events: dict[str, asyncio.Event], word: str) -> asyncio.Event:
    return events.setdefault(word, asyncio.Event())


def _marker_of(body: bytes) -> tuple[str, str]:
    found = _MARKER.search(body)
    return (found[1].decode(), (found[2] or b"").decode()) if found else ("", "")


def _refused(_head: bytes, value: str) -> bytes:
    """`STATUS[,WHY]` in the envelope of APIXO, with more behind the words than anybody should be shown; no job."""
    status, _, why = value.partition(",")
    message = f"{REFUSALS[why]}\r\n\x1b[31m see https://evil.example/x {'w' * 5000}"
    return answer(int(status), json.dumps({"code": int(status), "message": message}).encode())


def _quoting_the_key(head: bytes, value: str) -> bytes:
    """A refusal whose words hold the whole request's head; no job."""
    words = head.decode("latin-1")
    return answer(int(value), json.dumps({"error": {"message": words}, "message": words}).encode())


def _other_id(body: bytes, value: str) -> bytes:
    """The receipt of APIXO or of GMI with another id in it."""
    receipt: dict[str, Any] = json.loads(body)
    place, name = (receipt["data"], "taskId") if "data" in receipt else (receipt, "request_id")
    place[name] = HOSTILE_IDS[value]
    return answer(200, json.dumps(receipt).encode())


def _bomb(_body: bytes, _value: str) -> bytes:
    return answer(200, gzip.compress(bytes(BOMB_BYTES), 1), "content-encoding: gzip")


_ANSWERED_HERE: Mapping[str, Callable[[bytes, str], bytes]] = {"refuse": _refused, "quote": _quoting_the_key}
_DAMAGED: Mapping[str, Callable[[bytes, str], bytes]] = {
    "page": lambda _body, _value: answer(200, _PAGE, content_type="text/html"),
    "malformed": lambda body, _value: answer(200, body[:-3]),
    "truncated": lambda body, _value: answer(200, body[:-3], length=len(body)),
    "text": lambda body, _value: answer(200, body, content_type="text/plain"),
    "bomb": _bomb,
    "endless": lambda body, _value: answer(200, body + b" " * (2 * 1024 * 1024)),
    "id": _other_id,
    "status": lambda body, value: answer(int(value), body),
}
