"""A gateway none of whose servers listens is no gateway: the process ends, and is started again."""

import asyncio
import socket
from typing import Any, cast

from onetake.core.signals import Stop
from onetake.gateway import serve


class Server:
    """In the place of uvicorn's, which returns without an error when its application does not start."""

    def __init__(self, *, ends: bool) -> None:
        self.should_exit = False
        self._ends = ends

    async def serve(self, sockets: list[socket.socket]) -> None:
        del sockets
        while not (self._ends or self.should_exit):
            await asyncio.sleep(0.01)


async def test_a_server_that_ends_by_itself_ends_the_others() -> None:
    listener, stop = socket.socket(), Stop()
    servers: Any = [(Server(ends=True), listener), (Server(ends=False), listener)]
    try:
        async with asyncio.timeout(60):
            await cast("Any", serve)._serve(servers, stop)
    finally:
        stop.ended()  # this process goes on
        listener.close()
