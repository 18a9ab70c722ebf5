"""A load of callbacks as vendors send them: kept connections, one request after the other on each, on a pace.

It is light, so that it may run beside what it loads: no HTTP client, no parsing beyond the status and the length.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECTIONS = 32


@dataclass
class Storm:
    """What came back. `waits_s` count from the moment at which a request was due, so no queue is hidden."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    waits_s: list[float] = field(default_factory=list[float])
    duration_s: float = 0.0

    @property
    def per_s(self) -> float:
        return self.statuses.total() / self.duration_s


def callback(path: str, body: bytes) -> bytes:
    """One request as it goes over the wire."""
    headers = f"Host: gateway\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"POST {path} HTTP/1.1\r\n{headers}".encode() + body


async def storm(
    url: str, requests: Sequence[bytes], *, per_s: float | None = None, connections: int = CONNECTIONS
) -> Storm:
    """Send all, in their order, `per_s` a second or as fast as they are answered. Raises what the connections raise."""
    at, due, found = urlsplit(url), iter(enumerate(requests)), Storm()
    began = time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            for number, request in due:
                due_at = began + number / per_s if per_s else time.perf_counter()
                await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
                if reader.at_eof():  # the server has closed it, with its last answer
                    writer.close()
                    reader, writer = await asyncio.open_connection(at.hostname, at.port)
                writer.write(request)
                found.statuses[await _answer(reader)] += 1
                found.waits_s.append(time.perf_counter() - due_at)
        finally:
            writer.close()
            await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(connection())
    found.duration_s = time.perf_counter() - began
    return found


async def _answer(reader: asyncio.StreamReader) -> int:
    status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    for header in headers:
        name, _, value = header.partition(b":")
        if name == b"content-length":
            await reader.readexactly(int(value))
    return int(status.split()[1])
