"""A TCP relay between a client and its server that can lose the server's answers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Relay:
    """While `losing`, the connection is closed instead of handing on what the server answers; `lost` counts these.
    A line that is `cut` breaks every connection, and each new one, until it is mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.losing = False
        self.lost = 0

    def cut(self) -> None:
        self._is_cut = True
        for task in self._tasks:
            task.cancel()

    def mend(self) -> None:
        self._is_cut = False

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        both = [self._copy(reader, server_writer, answers=False), self._copy(server_reader, writer, answers=True)]
        tasks = [asyncio.create_task(copying) for copying in both]
        self._tasks.update(tasks)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.close()
        server_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(65536):
            if answers and self.losing:
                self.lost += 1
                return
            writer.write(data)


@asynccontextmanager
async def relayed(url: str) -> AsyncGenerator[tuple[Relay, str]]:
    """A relay to a database, and the database's address through it."""
    user, place = url.rsplit("@", 1)
    address, name = place.rsplit("/", 1)
    async with relaying(address) as (relay, through):
        yield relay, f"{user}@{through}/{name}"


@asynccontextmanager
async def relaying(address: str) -> AsyncGenerator[tuple[Relay, str]]:
    """A relay to a server at `host:port`, and the address of the relay."""
    host, port = address.split(":")
    relay = Relay(host, int(port))
    through = f"127.0.0.1:{await relay.start()}"
    try:
        yield relay, through
    finally:
        await relay.stop()
