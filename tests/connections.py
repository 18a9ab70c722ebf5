"""TCP connections of the tests, and small servers. When its block ends nothing of one is left open: what the garbage
collector finds open turns a later test red."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from onetake.dev.devstack.ports import LOOPBACK

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def dialled(host: str | None, port: int | None) -> AsyncGenerator[Ends]:
    """A connection to a server. Raises OSError where nobody listens."""
    reader, writer = await asyncio.open_connection(host, port)
    async with _closed_at_end(writer):
        yield reader, writer


@asynccontextmanager
async def listening(
    serve: Serve, port: int = 0, *, on: socket.socket | None = None, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[int]:
    """Run `serve` for each connection to a port of loopback, or `on` a bound socket, and close the connection when that
    returns; yields the port. At the end of the block what still runs is cancelled, and every connection is broken.
    Raises the first error of a `serve`, other than that its client had gone."""
    running, failed, is_over = set[asyncio.Task[None]](), list[Exception](), False

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closed_at_end(writer):
            try:
                with suppress(OSError, EOFError):  # the client has gone
                    await serve(reader, writer)
            except Exception as error:  # noqa: BLE001 - it is raised where it is seen
                failed.append(error)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_over:  # it was accepted just before the end
            writer.transport.abort()
            return
        task = asyncio.create_task(served(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also where it was canceled before it had begun

    bound = on or socket.create_server((LOOPBACK, port))
    server = await asyncio.start_server(accept, sock=bound, ssl=tls)
    try:
        yield bound.getsockname()[1]
    finally:
        is_over = True
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    if failed:
        raise failed[0]


async def read_message(reader: asyncio.StreamReader, *, has_body: bool = True) -> bytes:
    """The bytes of an HTTP message whose length its head tells. Raises EOFError when it does not come whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + (await reader.readexactly(length_of(head)) if has_body else b"")


def length_of(head: bytes) -> int:
    """What a head says of its body, in bytes."""
    found = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


async def handed_on(one: Ends, other: Ends) -> None:
    """Copy both ways until either side closes; then both connections close."""
    await first_of(copied(one[0], other[1]), copied(other[0], one[1]))
    one[1].close()
    other[1].close()


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, until there is no more."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def first_of(*all_of_them: Awaitable[None]) -> None:
    """Wait until one of them has ended, and end the others."""
    tasks = [asyncio.ensure_future(each) for each in all_of_them]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _closed_at_end(writer: asyncio.StreamWriter) -> AsyncGenerator[None]:
    """What was written is sent first, unless the block was ended from outside."""
    try:
        yield
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()
