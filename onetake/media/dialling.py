"""The only dial of `onetake.media.outbound`: a name is resolved once, every address it has is judged, one is connected.

The socket goes to the very address that was judged. Of several addresses the next is tried while an earlier one has
not answered yet, so that dead ones cost a fraction of a second each; whoever connects first is taken.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, cast
from weakref import WeakValueDictionary

import httpcore

from onetake.core.errors import TryLater
from onetake.media.addresses import is_trusted, judge_address

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
Connect = Callable[[str], Awaitable[httpcore.AsyncNetworkStream]]

STAGGER_S: Final = 0.25  # as RFC 8305 has it
MOST_LOOKUPS: Final = 32  # of names, side by side
MOST_OF_A_DOMAIN: Final = 8  # of these, for names with the same last two labels
TURN_S: Final = 1.5  # the wait for a thread; a look-up has what is left of its time
_READ_BYTES: Final = 256 * 1024


class NoThread(TryLater):
    """No thread was free to look a name up: our own slowness, which says nothing of its host."""

    def __init__(self) -> None:
        super().__init__("vendor_unavailable", "No thread was free to look its name up.")


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Resolves a name once, judges every address it has, and connects to one of those."""

    def __init__(self, trusted: frozenset[str], resolver: Resolver | None, resolve_s: float) -> None:
        self._trusted = trusted
        self._resolve = resolver or _SystemResolver()
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
        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._dial.connect_tcp(address, port, timeout, local_address, socket_options)

        return _LargeReads(await _first(await self._judged(host, port), connect))

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


async def _first(addresses: Sequence[str], connect: Connect) -> httpcore.AsyncNetworkStream:
    """The first connection that stands; the others are given up. Raises what the last attempt to fail failed with."""
    waiting, running = list(addresses), set[asyncio.Task[httpcore.AsyncNetworkStream]]()
    failure: BaseException = httpcore.ConnectError("no address")
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(connect(waiting.pop(0))))
            pause_s = STAGGER_S if waiting else None
            done, _ = await asyncio.wait(running, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.discard(task)
                if (error := task.exception()) is None:
                    return task.result()
                failure = error
        raise failure
    finally:
        await _give_up(running)


async def _give_up(attempts: set[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    """End attempts that nobody needs; one that has just connected is closed."""
    for task in attempts:
        task.cancel()
    if attempts:
        await asyncio.wait(attempts)
    for task in attempts:
        if not task.cancelled() and task.exception() is None:
            await task.result().aclose()


class _LargeReads(httpcore.AsyncNetworkStream):
    """A connection that hands out all that has arrived. httpcore asks for 64 KiB, which doubles the time of a clip."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's
        return await self._stream.read(max(max_bytes, _READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _LargeReads(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _SystemResolver:
    """The system's, in threads of its own: a look-up that hangs must not use up the event loop's.

    It keeps its thread also when nobody waits for it any more, and a dead name server makes many hang. So the names of
    one domain have a share of the threads, and who finds none free is told that it was not its host's fault."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MOST_LOOKUPS, thread_name_prefix="resolve")
        self._free = asyncio.Semaphore(MOST_LOOKUPS)
        self._shares = WeakValueDictionary[str, asyncio.Semaphore]()  # of domains whose names are being looked up

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        domain = ".".join(host.lower().rstrip(".").split(".")[-2:])
        share = self._shares.setdefault(domain, asyncio.Semaphore(MOST_OF_A_DOMAIN))
        await self._turn(share)
        loop = asyncio.get_running_loop()

        def leave(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._leave, share)

        looking = self._threads.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        looking.add_done_callback(leave)  # not when the wait for it ends: the thread may hang on
        found = await asyncio.wrap_future(looking)
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def _turn(self, share: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(TURN_S):
                await share.acquire()
                try:
                    await self._free.acquire()
                except BaseException:
                    share.release()
                    raise
        except TimeoutError:
            raise NoThread from None

    def _leave(self, share: asyncio.Semaphore) -> None:
        self._free.release()
        share.release()
