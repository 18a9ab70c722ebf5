"""A TCP relay between a client and its server that can lose the server's answers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tests.connections import LOOPBACK, dialled, first_of, listening


class Relay:
    """While `losing`, the connection is closed instead of handing on what the server answers; `lost` counts these.
    A line that is `cut` breaks every connection, and each new one, until it is mended. A line that was silenced keeps
    its connections and hands on nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._open = AsyncExitStack()
        self._is_cut = asyncio.Event()
        self.losing = False
        self.lost = 0
        self._speaks = asyncio.Event()
        self._speaks.set()

    def cut(self) -> None:
        self._is_cut.set()

    def silence(self) -> None:
        self._speaks.clear()

    def mend(self) -> None:
        self._is_cut = asyncio.Event()

    def lead_to(self, address: str) -> None:
        """Bring the connections that are made from now on to another server at `host:port`."""
        host, _, port = address.partition(":")
        self._target = (host, int(port))

    async def start(self) -> int:
        return await self._open.enter_async_context(listening(self._serve))

    async def stop(self) -> None:
        await self._open.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut.is_set():
            return
        async with dialled(*self._target) as (server_reader, server_writer):
            await first_of(
                self._copy(reader, server_writer, answers=False),
                self._copy(server_reader, writer, answers=True),
                self._broken(),
            )
            writer.close()
            server_writer.close()

    async def _broken(self) -> None:
        await self._is_cut.wait()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(OSError):
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
    through = f"{LOOPBACK}:{await relay.start()}"
    try:
        yield relay, through
    finally:
        await relay.stop()
