"""A TCP relay between a client and its server that can lose the server's answers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing


class Relay:
    """While `losing`, the connection is closed instead of handing on what the server answers; `lost` counts these.
    A line that is `cut` breaks every connection, and each new one, until it is mended. A line that was silenced keeps
    its connections and hands on nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.losing = False
        self.lost = 0
        self._speaks = asyncio.Event()
        self._speaks.set()

    def cut(self) -> None:
        self._is_cut = True
        for task in self._tasks:
            task.cancel()

    def silence(self) -> None:
        self._speaks.clear()

    def mend(self) -> None:
        self._is_cut = False

    def lead_to(self, address: str) -> None:
        """Bring the connections that are made from now on to another server at `host:port`."""
        host, _, port = address.partition(":")
        self._target = (host, int(port))

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Leave no connection open, also none that was accepted just now."""
        self._server.close()
        ending = {*self._tasks, *self._serving}
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            if self._is_cut:
                return
            try:
                server_reader, server_writer = await asyncio.open_connection(*self._target)
            except OSError:  # the server is dead
                return
            with closing(server_writer):
                both = [
                    self._copy(reader, server_writer, answers=False),
                    self._copy(server_reader, writer, answers=True),
                ]
                tasks = [asyncio.create_task(copying) for copying in both]
                self._tasks.update(tasks)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(65536):
            await self._speaks.wait()
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
