"""What only a socket can do: reset a connection, or close it in the middle of a body.

These responses reach below ASGI for the transport, which uvicorn's `send` carries; `expose_transport` fetches it
before any middleware hides it.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_TRANSPORT = "onetake.dev.simulator.transport"
_UNTIL_READ_S = 0.1


def expose_transport(scope: Scope, send: Send) -> None:
    """Put the connection's transport into the scope. `send` must be the server's own, not a wrapper."""
    scope[_TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get(_TRANSPORT)
    if not isinstance(transport, asyncio.Transport):
        raise TypeError("this fault needs the connection itself: serve the simulator with uvicorn")
    return transport


def _abort(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    # With a linger time of zero the kernel sends RST where it would send FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _gone(receive: Receive) -> None:
    """Wait until the server knows that the connection is closed, or it would complain of a missing answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Reset(Response):
    """Answer nothing; the peer sees a TCP reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - below ASGI
        _abort(_transport(scope))
        await _gone(receive)


class Silence(Response):
    """Answer nothing for as long as the peer waits."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - below ASGI
        await _gone(receive)


class CutShort(Response):
    """Write these headers and these bytes as they are, whatever the headers promise, and close the connection."""

    def __init__(self, headers: Mapping[str, str], body: bytes, *, reset: bool = False, status: str = "200 OK") -> None:
        super().__init__()
        self._status = status
        self._reset = reset
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._bytes = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - below ASGI
        transport = _transport(scope)
        transport.write(f"HTTP/1.1 {self._status}\r\n{self._lines}connection: close\r\n\r\n".encode())
        transport.write(self._bytes)
        if self._reset:
            await asyncio.sleep(_UNTIL_READ_S)  # a reset overtakes what the peer has not read
            _abort(transport)
        else:
            transport.close()
        await _gone(receive)
