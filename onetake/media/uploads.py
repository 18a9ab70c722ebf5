"""Bodies on their way from the event loop to a thread that sends them while they arrive."""

import asyncio
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, ParamSpec, Protocol, TypeVar

from onetake.core.errors import TryLater

BLOCK_BYTES: Final = 512 * 1024
_BLOCKS_WAITING: Final = 2
_LONGEST_GAP_S: Final = 2.0  # stores hang up on a body that pauses for some twenty seconds

P = ParamSpec("P")
T = TypeVar("T")


class InThread(Protocol):
    async def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class Flow:
    """One body in blocks of some `BLOCK_BYTES`, a few of which wait between the loop and the thread."""

    def __init__(self, run: InThread, take: Callable[[Iterator[bytes]], None]) -> None:
        """`take` runs in a thread. It returns when it has taken all blocks, and raises what is wrong with them."""
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_BLOCKS_WAITING)
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._handed_at = time.monotonic()
        self._taking = asyncio.create_task(run(take, self._taken()))
        self._taking.add_done_callback(lambda _: self._room.release())

    async def write(self, chunk: bytes) -> None:
        """Raises what the thread raised, once it takes no blocks any more."""
        self._chunks.append(chunk)
        self._gathered += len(chunk)
        if self._gathered >= BLOCK_BYTES or time.monotonic() - self._handed_at > _LONGEST_GAP_S:
            await self._hand_over()

    async def end(self) -> None:
        """Return when the thread has taken all of it."""
        await self._hand_over()
        self._blocks.put(b"")
        await self._taking

    async def abort(self) -> None:
        """Break off what the thread does, and wait for its end; after `end` it may have taken everything."""
        self._blocks.put(None)
        await asyncio.wait([self._taking])
        with suppress(Exception):
            self._taking.result()

    async def _hand_over(self) -> None:
        self._handed_at = time.monotonic()
        await self._room.acquire()
        if self._taking.done():
            await self._taking
            raise TryLater("storage_unavailable", "It answered before it had all of it.")
        if self._chunks:
            self._blocks.put(b"".join(self._chunks))
            self._chunks, self._gathered = [], 0

    def _taken(self) -> Iterator[bytes]:
        while block := self._blocks.get():
            self._loop.call_soon_threadsafe(self._room.release)
            yield block
        if block is None:
            raise _AbortedError


class _AbortedError(Exception):
    """What is under way is to be broken off."""


def spooled(blocks: Iterator[bytes], spool: Path) -> Iterator[bytes]:
    """The same blocks, written to a file as they pass. Raises TryLater when the file cannot be written."""
    # No OSError may leave: the HTTP client that takes the blocks would blame its connection for it.
    try:
        with spool.open("wb") as file:
            for block in blocks:
                file.write(block)
                yield block
    except OSError as error:
        raise TryLater("spool_full", f"(It cannot be written: {error.strerror}.)") from None


def hashed(blocks: Iterator[bytes], digest: Hash) -> Iterator[bytes]:
    """The same blocks, hashed as they pass."""
    for block in blocks:
        digest.update(block)
        yield block


def drain(blocks: Iterator[bytes]) -> None:
    """Take all blocks, for what they do on their way."""
    for _ in blocks:
        pass
