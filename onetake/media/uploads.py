"""Objects on their way into the bucket: in one part while the bytes arrive, or in several of equal size.

An upload makes an object only when it is complete; until then `abort` undoes it, and what a killed process left is
swept at the next start.
"""

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, ParamSpec, Protocol, TypeVar

from onetake.core.errors import OnetakeError
from onetake.media.s3 import Requests

PART_BYTES: Final = 5 * 1024 * 1024
_PARTS_IN_FLIGHT: Final = 2
_BLOCK_BYTES: Final = 256 * 1024
_BLOCKS_WAITING: Final = 4

P = ParamSpec("P")
T = TypeVar("T")


class InThread(Protocol):
    async def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class Upload(Protocol):
    """One object on its way. Before `complete` the store does not have all of it, so that `abort` can still undo."""

    async def write(self, chunk: bytes) -> None: ...

    async def complete(self) -> bool:
        """Make the object; False when its key is taken."""
        ...

    async def abort(self) -> None: ...


class _Multipart:
    """The frame of an upload in parts: the object appears with `complete` and not before, whoever dies in between."""

    def __init__(self, run: InThread, requests: "Requests", key: str, content_type: str) -> None:
        self.id = ""
        self._run = run
        self._requests = requests
        self._key = key
        self.content_type_of = content_type

    async def open(self) -> None:
        if not self.id:
            await self._run(self._create)

    async def complete(self, etags: list[str]) -> bool:
        return await self._run(self._requests.complete, self._key, self.id, etags) is not None

    async def abort(self, *parts: asyncio.Task[str]) -> None:
        """Wait for the parts in flight, then abort. What fails here is swept at the next start."""
        await asyncio.gather(*parts, return_exceptions=True)
        if self.id:
            with suppress(OnetakeError):
                await self._run(self._requests.abort, self._key, self.id)

    def _create(self) -> None:
        """In a thread: sets the id there, so that an upload is known even when its creator was cancelled."""
        self.id = self._requests.create(self._key, self.content_type_of)


class OnePart:
    """A body of known length as one part, sent by a thread while it arrives; a few blocks wait between the two.

    Not a plain put: some stores keep the beginning of one whose sender died, and say so to nobody.
    """

    def __init__(self, run: InThread, requests: "Requests", key: str, content_type: str, length: int) -> None:
        self._upload = _Multipart(run, requests, key, content_type)
        self._send = lambda: run(requests.put_flow, key, self._upload.id, self._flow(), length)
        self._sending: asyncio.Task[str] | None = None
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_BLOCKS_WAITING)
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        if len(self._buffer) >= _BLOCK_BYTES:
            await self._hand_over()

    async def complete(self) -> bool:
        sending = await self._hand_over()
        self._blocks.put(b"")
        return await self._upload.complete([await sending])

    async def abort(self) -> None:
        self._blocks.put(None)
        await self._upload.abort(*([self._sending] if self._sending else []))

    async def _hand_over(self) -> asyncio.Task[str]:
        if self._sending is None:
            await self._upload.open()
            self._sending = asyncio.create_task(self._send())
            self._sending.add_done_callback(lambda _: self._room.release())
        await self._room.acquire()
        if self._sending.done():
            await self._sending  # nobody takes blocks any more: this raises why
        if self._buffer:
            self._blocks.put(bytes(self._buffer))
            self._buffer.clear()
        return self._sending

    def _flow(self) -> Iterator[bytes]:
        """The blocks, for the thread that sends; breaks the request off when the upload is aborted."""
        while block := self._blocks.get():
            self._loop.call_soon_threadsafe(self._room.release)
            yield block
        if block is None:
            raise _AbortedError


class _AbortedError(Exception):
    """The request in flight is to be broken off."""


class InParts:
    """A body of unknown length: equal parts, a few being sent while the next fills. A short one is a plain put, whose
    signature covers its bytes."""

    def __init__(self, run: InThread, requests: "Requests", key: str, content_type: str) -> None:
        self._upload = _Multipart(run, requests, key, content_type)
        self._run = run
        self._requests = requests
        self._key = key
        self.content_type_of = content_type
        self._parts: list[asyncio.Task[str]] = []
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) > PART_BYTES:
            await self._start(self._take(PART_BYTES))

    async def complete(self) -> bool:
        last = self._take(len(self._buffer))
        if not self._upload.id:
            return await self._run(self._requests.put, self._key, last, self.content_type_of) is not None
        await self._start(last)
        return await self._upload.complete([await part for part in self._parts])

    async def abort(self) -> None:
        await self._upload.abort(*self._parts)

    def _take(self, size: int) -> bytes:
        part = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return part

    async def _start(self, part: bytes) -> None:
        await self._upload.open()
        if len(self._parts) >= _PARTS_IN_FLIGHT:
            await self._parts[-_PARTS_IN_FLIGHT]
        number = len(self._parts) + 1
        put = self._run(self._requests.put_part, self._key, self._upload.id, number, part)
        self._parts.append(asyncio.create_task(put))
