"""The one guard for every connection whose address comes from outside: result links, and input media.

`judge` (onetake.media.addresses) reads the text of an address; what its name resolved to is judged inside the dial
(onetake.media.dialling), for each new connection, and the socket goes to the very address that was judged: a name that
answers differently a moment later (DNS rebinding) changes nothing, while TLS still proves the name.

A body that breaks off is gone on with where it was, as far as its server offers that (onetake.media.resuming).

It speaks through httpcore and not through `httpx.AsyncClient`: that client keeps cookies and writes each URL, signature
included, to the log. No credential, cookie or proxy setting is ever sent or read here. Errors name the broken rule and
never what a name resolved to.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpcore
import httpx

from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.ports import LEAST_BYTES_PER_S, Body
from onetake.media.addresses import Judged, blocked, judge, over_https
from onetake.media.authorities import tls_context
from onetake.media.dialling import GuardedBackend, Resolver
from onetake.media.resuming import Place, declared_bytes, header

_MAX_REDIRECTS: Final = 3
_MAX_RETRY_AFTER_S: Final = 300.0
_MOST_FRUITLESS: Final = 4  # resumptions in a row that bring little
_FRUIT_BYTES: Final = 32 * 1024
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
    """How long a foreign server may take: a body brings `min_bytes_per_s` over each `window_s` spent waiting for it.

    So a body that declares its size may take as long as that size needs; one that does not ends after `undeclared_s`.
    """

    resolve_s: float = 3.0
    connect_s: float = 5.0
    headers_s: float = 20.0
    read_s: float = 10.0  # a line that is silent for longer is given up, before the store tires of waiting
    window_s: float = 30.0
    min_bytes_per_s: int = LEAST_BYTES_PER_S
    undeclared_s: float = 3600.0
    resume_gap_s: float = 1.0


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
            ssl_context=ssl_context or tls_context(),
            max_connections=64,
            max_keepalive_connections=16,
            keepalive_expiry=30.0,
            network_backend=GuardedBackend(trusted, resolver, self._limits.resolve_s),
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    @asynccontextmanager
    async def open(self, url: str, *, https_instead: bool = False) -> AsyncGenerator[Body]:
        """GET a foreign address and stream its body. A plain http link is asked for over https where `https_instead`.

        Follows up to three redirects, each judged anew. Raises Failed (`asset_url_blocked` naming the rule,
        `asset_unavailable`), or TryLater: `vendor_unavailable`, also from the chunks (reset, too slow);
        `asset_unavailable` for an answer that is not HTTP; from the chunks, `asset_truncated` for one that ends early.
        Chunks that break off are gone on with first, when the server offers it and nothing has changed there.
        """
        changed = over_https(url, self._trusted) if https_instead else None
        target = judge(changed or url, self._trusted)
        try:
            response = await self._arrive(target)
        except TryLater as error:
            raise _with_scheme(error) if changed else error from None
        download: _Download | None = None
        try:
            download = _Download(self, self._limits, target, response)
            async with aclosing(download.chunks()) as chunks:
                yield Body(declared_bytes(response), header(response, b"content-type")[:200], chunks)
        finally:
            await (download.response if download else response).aclose()

    async def again(self, target: Judged, place: Place) -> httpcore.Response:
        """The rest of a body from a place on: every hop and every dial is judged once more. Raises as `open`."""
        return await self._arrive(target, place)

    async def _arrive(self, target: Judged, place: Place | None = None) -> httpcore.Response:
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._get(target, place)
            try:
                if response.status not in _REDIRECTS:
                    _require_readable(response, resumed=place is not None)
                    return response
                target = self._next(target, header(response, b"location"))
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

    async def _get(self, target: Judged, place: Place | None) -> httpcore.Response:
        limits = self._limits
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=target.url.raw_scheme, host=target.host, port=target.port, target=target.url.raw_path),
            headers=[
                (b"Host", target.url.netloc),
                (b"User-Agent", b"onetake"),
                (b"Accept", b"*/*"),
                (b"Accept-Encoding", b"identity"),
                *(place.headers if place else ()),
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


# -- Reading -----------------------------------------------------------------------------------------------------------


@dataclass
class _Rate:
    """How fast a server is. Only the time spent waiting for it counts, not its reader's own."""

    limits: Limits
    waited_s: float = 0.0
    received: int = 0

    def count(self, waited_s: float, received: int) -> None:
        """Raises TryLater for a server that was too slow over a window."""
        self.waited_s, self.received = self.waited_s + waited_s, self.received + received
        if self.waited_s < self.limits.window_s:
            return
        if self.received < self.limits.min_bytes_per_s * self.waited_s:
            raise TryLater("vendor_unavailable", "The download was too slow.")
        self.waited_s, self.received = 0.0, 0


@dataclass
class _Download:
    """One body under way, over as many connections as it takes."""

    outbound: Outbound
    limits: Limits
    target: Judged
    response: httpcore.Response
    place: Place = field(init=False)
    rate: _Rate = field(init=False)
    resumed_at: int = 0
    fruitless: int = 0

    def __post_init__(self) -> None:
        self.place, self.rate = Place.of(self.response), _Rate(self.limits)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The raw body. Raises TryLater as `Outbound.open` says."""
        deadline = float("inf") if self.place.total is not None else time.monotonic() + self.limits.undeclared_s
        stream = aiter(self.response.aiter_stream())
        while True:
            chunk = await self._next(stream)
            if isinstance(chunk, TryLater):
                await self._go_on(chunk)
                stream = aiter(self.response.aiter_stream())
                continue
            if chunk is None:
                return
            if time.monotonic() > deadline:
                raise TryLater("vendor_unavailable", "The download took too long.")
            self.place.done += len(chunk)
            yield chunk

    async def _next(self, stream: AsyncIterator[bytes]) -> bytes | TryLater | None:
        """The next bytes, None at the end of all, or how it broke off. Raises TryLater for a server too slow."""
        asked, chunk = time.monotonic(), b""
        try:
            chunk = await anext(stream)
        except StopAsyncIteration:
            whole = self.place.total in {None, self.place.done}
            return None if whole else TryLater("asset_truncated", "A part of it came.")
        except _BROKEN as error:
            return _unavailable(error, "asset_truncated")
        finally:
            self.rate.count(time.monotonic() - asked, len(chunk))
        return chunk

    async def _go_on(self, failure: TryLater) -> None:
        """Ask for the rest. Raises the failure when there is no way to, or after several tries that brought little."""
        if not self.place.can_resume:
            raise failure
        await self.response.aclose()
        while self._is_worth_while():
            asked = time.monotonic()
            await asyncio.sleep(self.limits.resume_gap_s * self.fruitless)
            try:
                self.response = await self.outbound.again(self.target, self.place)
            except TryLater:
                self.rate.count(time.monotonic() - asked, 0)
                continue
            except OnetakeError:  # the link has run out meanwhile: a fresh one starts from zero
                break
            self.place.require_rest(self.response)
            return
        raise failure

    def _is_worth_while(self) -> bool:
        """Count one more try; those that bring something may be many, for the file has an end."""
        brought, self.resumed_at = self.place.done - self.resumed_at, self.place.done
        self.fruitless = 0 if brought >= _FRUIT_BYTES else self.fruitless + 1
        return self.fruitless <= _MOST_FRUITLESS


def _with_scheme(error: TryLater) -> TryLater:
    detail = f"{error.detail} The link is plain http; https was asked instead."
    return TryLater(error.code, detail, after_s=error.after_s)


def _unavailable(error: Exception, if_not_http: str) -> TryLater:
    """What breaks the rules of HTTP is an answer, and comes again; all else is the network's, which may heal."""
    # httpcore raises the same error, out of nothing, for a server that hung up before it answered.
    broke_rules = isinstance(error, httpcore.RemoteProtocolError) and error.__context__ is not None
    code = if_not_http if broke_rules else "vendor_unavailable"
    return TryLater(code, f"The connection failed ({type(error).__name__}).")


def _require_readable(response: httpcore.Response, *, resumed: bool) -> None:
    status = response.status
    if status >= 500 or status in _PASSING:
        raise TryLater("vendor_unavailable", f"It answered {status}.", after_s=_retry_after_s(response))
    if status != 200 and not (resumed and status == 206):
        raise Failed("asset_unavailable", f"Its server answered {status}.")
    if header(response, b"content-encoding").lower() not in {"", "identity"}:
        raise Failed("asset_unavailable", "It came compressed, which is never decoded.")


def _retry_after_s(response: httpcore.Response) -> float | None:
    """Seconds from `Retry-After`, as a number or a date, at most five minutes; None when there is nothing usable."""
    text = header(response, b"retry-after").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), _MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    wait_s = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(wait_s, 0.0), _MAX_RETRY_AFTER_S)
