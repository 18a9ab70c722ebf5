"""The one guard for every connection whose address comes from outside: result links, and input media.

`judge` (onetake.media.addresses) reads the text of an address; `judge_address` reads what the name resolved to. The
second runs inside the dial, for each new connection, and the socket goes to the very address that was judged: a name
that answers differently a moment later (DNS rebinding) changes nothing, while TLS still proves the name.

It speaks through httpcore and not through `httpx.AsyncClient`: that client keeps cookies and writes each URL, signature
included, to the log. No credential, cookie or proxy setting is ever sent or read here. Errors name the broken rule and
never what a name resolved to.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import httpcore
import httpx

from onetake.core.errors import Failed, TryLater
from onetake.core.ports import Body
from onetake.media.addresses import Judged, blocked, is_trusted, judge, judge_address

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_MAX_REDIRECTS: Final = 3
_MAX_RETRY_AFTER_S: Final = 300.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429})
_BROKEN: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    TimeoutError,
)


@dataclass(frozen=True)
class Limits:
    """How long a foreign server may take: a body brings `min_bytes_per_s` over each `window_s` spent waiting for it."""

    resolve_s: float = 3.0
    connect_s: float = 5.0
    headers_s: float = 20.0
    read_s: float = 20.0
    window_s: float = 30.0
    min_bytes_per_s: int = 32 * 1024
    total_s: float = 900.0


# -- Dialling what was judged ------------------------------------------------------------------------------------------


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, judges every address it has, and connects to one of those: the only dial of `Outbound`."""

    def __init__(self, trusted: frozenset[str], resolver: Resolver, resolve_s: float) -> None:
        self._trusted = trusted
        self._resolve = resolver
        self._resolve_s = resolve_s
        self._dial = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for address in await self._judged(host, port):
            try:
                return await self._dial.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:  # noqa: ASYNC109, ARG002
        raise httpcore.UnsupportedProtocol("never a local socket")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _judged(self, host: str, port: int) -> Sequence[str]:
        """All addresses of a host, or an error when a single one of them is bad."""
        addresses = await self._addresses(host, port)
        trusted = is_trusted(host, port, self._trusted)
        for address in addresses:
            judge_address(address, trusted=trusted)
        return addresses

    async def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            pass
        try:
            async with asyncio.timeout(self._resolve_s):
                return await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(type(error).__name__) from None


def _system_resolver() -> Resolver:
    # Threads of its own: a resolver that hangs must not use up the event loop's.
    threads = ThreadPoolExecutor(8, thread_name_prefix="resolve")

    async def resolve(host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    return resolve


# -- Opening -----------------------------------------------------------------------------------------------------------


class Outbound:
    """Opens foreign addresses for reading. One per process and event loop; close it with `aclose`."""

    def __init__(
        self,
        trusted: frozenset[str] = frozenset(),
        *,
        resolver: Resolver | None = None,
        limits: Limits | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._trusted = trusted
        self._limits = limits or Limits()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=30.0,
            network_backend=GuardedBackend(trusted, resolver or _system_resolver(), self._limits.resolve_s),
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    @asynccontextmanager
    async def open(self, url: str) -> AsyncGenerator[Body]:
        """GET a foreign address and stream its body.

        Follows up to three redirects, each judged anew. Raises Failed (`asset_url_blocked` naming the rule,
        `asset_unavailable`), or TryLater: `vendor_unavailable`, also from the chunks (reset, too slow);
        `asset_unavailable` for an answer that is not HTTP; from the chunks, `asset_truncated` for one that ends early.
        """
        deadline = time.monotonic() + self._limits.total_s
        response = await self._arrive(judge(url, self._trusted))
        try:
            async with aclosing(self._chunks(response, deadline)) as chunks:
                yield Body(_declared_bytes(response), _header(response, b"content-type")[:200], chunks)
        finally:
            await response.aclose()

    async def _arrive(self, target: Judged) -> httpcore.Response:
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._get(target)
            try:
                if response.status not in _REDIRECTS:
                    _require_readable(response)
                    return response
                target = self._next(target, _header(response, b"location"))
            except BaseException:
                await response.aclose()
                raise
            await response.aclose()
        raise blocked("redirect")

    def _next(self, current: Judged, location: str) -> Judged:
        if not re.fullmatch(r"[!-~]+", location) or "\\" in location:
            raise blocked("redirect")
        try:
            target = judge(str(current.url.join(location)), self._trusted)
        except (httpx.InvalidURL, ValueError):
            raise blocked("redirect") from None
        if current.url.scheme == "https" and target.url.scheme != "https":
            raise blocked("redirect")
        return target

    async def _get(self, target: Judged) -> httpcore.Response:
        limits = self._limits
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=target.url.raw_scheme, host=target.host, port=target.port, target=target.url.raw_path),
            headers=[
                (b"Host", target.url.netloc),
                (b"User-Agent", b"onetake"),
                (b"Accept", b"*/*"),
                (b"Accept-Encoding", b"identity"),
            ],
            extensions={
                "timeout": {
                    "connect": limits.connect_s,
                    "read": limits.read_s,
                    "write": limits.read_s,
                    "pool": limits.headers_s,
                }
            },
        )
        try:
            async with asyncio.timeout(limits.headers_s):
                return await self._pool.handle_async_request(request)
        except _BROKEN as error:
            raise _unavailable(error, "asset_unavailable") from None

    async def _chunks(self, response: httpcore.Response, deadline: float) -> AsyncGenerator[bytes]:
        """The raw body. Only the time spent waiting for the server counts against its rate, not the reader's own."""
        waited_s, received = 0.0, 0
        stream = aiter(response.aiter_stream())
        while True:
            asked = time.monotonic()
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except _BROKEN as error:
                raise _unavailable(error, "asset_truncated") from None
            arrived = time.monotonic()
            waited_s, received = waited_s + arrived - asked, received + len(chunk)
            if arrived > deadline:
                raise TryLater("vendor_unavailable", "The download took too long.")
            if waited_s >= self._limits.window_s:
                if received < self._limits.min_bytes_per_s * waited_s:
                    raise TryLater("vendor_unavailable", "The download was too slow.")
                waited_s, received = 0.0, 0
            yield chunk


def _unavailable(error: Exception, if_not_http: str) -> TryLater:
    """What breaks the rules of HTTP is an answer, and comes again; all else is the network's, which may heal."""
    # httpcore raises the same error, out of nothing, for a server that hung up before it answered.
    broke_rules = isinstance(error, httpcore.RemoteProtocolError) and error.__context__ is not None
    code = if_not_http if broke_rules else "vendor_unavailable"
    return TryLater(code, f"The connection failed ({type(error).__name__}).")


def _header(response: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def _declared_bytes(response: httpcore.Response) -> int | None:
    text = _header(response, b"content-length")
    chunked = _header(response, b"transfer-encoding") != ""
    return int(text) if text.isascii() and text.isdigit() and not chunked else None


def _require_readable(response: httpcore.Response) -> None:
    status = response.status
    if status >= 500 or status in _PASSING:
        raise TryLater("vendor_unavailable", f"It answered {status}.", after_s=_retry_after_s(response))
    if status != 200:
        raise Failed("asset_unavailable", f"Its server answered {status}.")
    if _header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise Failed("asset_unavailable", "It came compressed, which is never decoded.")


def _retry_after_s(response: httpcore.Response) -> float | None:
    """Seconds from `Retry-After`, as a number or a date, at most five minutes; None when there is nothing usable."""
    text = _header(response, b"retry-after").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(wait_s, 0.0), _MAX_RETRY_AFTER_S)
