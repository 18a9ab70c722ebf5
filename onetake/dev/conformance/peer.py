"""A server of raw bytes on loopback: what a vendor's machine, or something in front of it, can do to a connection."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"
LIMIT_S = 300.0  # of what comes for certain, also on a machine that stands still for a while


@dataclass
class Peer:
    """A running server: its address, and every request that came in whole."""

    url: str
    requests: list[bytes] = field(default_factory=list[bytes])


Play = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def playing(play: Play) -> AsyncGenerator[Peer]:
    """Read each connection's request, then let `play` answer it; the connection ends when `play` returns."""
    running, is_over = set[asyncio.Task[None]](), False

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.LimitOverrunError):
            peer.requests.append(await _request(reader))
            await play(writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_over:  # it was accepted just before the end
            writer.transport.abort()
            return
        task = asyncio.create_task(answer(reader, writer))
        running.add(task)
        task.add_done_callback(lambda _: writer.transport.abort())  # also where it was canceled before it had begun

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    peer = Peer(f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}")
    try:
        yield peer
    finally:
        is_over = True
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)


def answering(status: int, body: bytes, *headers: str, content_type: str = "application/json") -> Play:
    """One whole answer."""
    lines = [f"HTTP/1.1 {status} kit", f"content-type: {content_type}", f"content-length: {len(body)}", *headers]
    return writing("\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1") + body)


def writing(content: bytes) -> Play:
    """These bytes, and the end of the connection."""

    async def play(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return play


async def hanging(writer: asyncio.StreamWriter) -> None:
    """No answer until the client goes away."""
    await writer.wait_closed()


async def resetting(writer: asyncio.StreamWriter) -> None:
    """A reset instead of an answer."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
