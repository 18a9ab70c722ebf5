"""What a worker answers to whoever asks how it is: `/healthz`, whether it lives, and `/readyz`, whether it takes work.

Neither asks a server: one that is slow or away must not have every worker restarted. A queue counts as polled from the
moment when the SDK has found the namespace and begun to poll, until its poll loops have ended. The SDK's count of polls
in flight says less: it is zero whenever all slots are taken, and can be read only by who owns the process's metrics.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol

from onetake.core.errors import Refused

REQUEST_LIMIT_S: Final = 5.0
STARTING: Final = "starting"
STOPPING: Final = "stopping"
NO_VENDOR_KEY: Final = "no_vendor_key"

Lacks = Callable[[], Sequence[str]]


class Polls(Protocol):
    """A worker of one task queue, as Temporal's SDK has it."""

    @property
    def task_queue(self) -> str: ...

    @property
    def is_running(self) -> bool: ...


class Readiness:
    """Whether this process takes work from all its queues. `asked_to_end` says whether it takes no more."""

    def __init__(self, asked_to_end: Callable[[], bool]) -> None:
        self._asked_to_end = asked_to_end
        self._workers: Sequence[Polls] | None = None
        self._others: Lacks = list

    def watch(self, workers: Sequence[Polls], others: Lacks = list) -> None:
        """From now on the process has these workers; `others` names what else keeps it from work."""
        self._workers, self._others = workers, others

    def lacks(self) -> list[str]:
        """What keeps it from its work; empty when nothing does."""
        if self._asked_to_end():
            return [STOPPING]
        if self._workers is None:
            return [STARTING]
        idle = [f"queue {worker.task_queue}" for worker in self._workers if not worker.is_running]
        return [*idle, *self._others()]


@asynccontextmanager
async def probed(host: str, port: int, lacks: Lacks) -> AsyncGenerator[None]:
    """Answer probes for as long as the block runs. Raises Refused(`settings_invalid`) for a port that is taken."""
    try:
        server = await asyncio.start_server(partial(_answer, lacks), host, port)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        try:
            yield
        finally:
            server.close()
        return
    raise Refused("settings_invalid", f"Cannot listen on {host}:{port}: {reason}.")


async def _answer(lacks: Lacks, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(REQUEST_LIMIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head.split(b" ", 2)[1:2], lacks))
            await writer.drain()
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        pass  # whoever asked has gone, or has asked nothing
    finally:
        writer.close()


def _response(path: list[bytes], lacks: Lacks) -> bytes:
    match path:
        case [b"/healthz"]:
            return _of(HTTPStatus.OK, {"status": "ok"})
        case [b"/readyz"]:
            red = list(lacks())
            status = HTTPStatus.SERVICE_UNAVAILABLE if red else HTTPStatus.OK
            return _of(status, {"status": "red" if red else "ok", "red": red})
        case _:
            return _of(HTTPStatus.NOT_FOUND, {"status": "unknown"})


def _of(status: HTTPStatus, document: object) -> bytes:
    body = f"{json.dumps(document, separators=(',', ':'))}\n".encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
