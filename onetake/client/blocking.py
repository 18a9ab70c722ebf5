"""The client for code without an event loop."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from onetake.client.answers import Quote, Started
from onetake.client.client import Onetake
from onetake.core.contracts import GenerationRecord, GenerationRequest, GenerationResult, Plan
from onetake.core.errors import Refused
from onetake.core.names import ReplayVerb
from onetake.core.settings import Settings
from onetake.operations.replaying import Replayed, ReplayQuote

_T = TypeVar("_T")


class BlockingOnetake:
    """`Onetake` for code without an event loop: each method runs its namesake on a loop in a thread of its own.

    Make one with `connect`. Safe to use from many threads, and not after a fork: in the new process every call raises
    Refused(`client_forked`).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, onetake: Onetake) -> None:
        self._loop_of_ours = loop
        self._onetake = onetake
        self._process = os.getpid()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Where calls run. After a fork the copy has no thread that would run them: they would wait for ever."""
        if os.getpid() != self._process:
            raise Refused("client_forked")
        return self._loop_of_ours

    @classmethod
    @contextmanager
    def connect(cls, settings: Settings | None = None) -> Generator[Self]:
        """See `Onetake.connect`."""
        process = os.getpid()
        with _loop_in_a_thread() as loop:
            context = Onetake.connect(settings)
            onetake = _run_on(loop, context.__aenter__())
            try:
                yield cls(loop, onetake)
            finally:
                if os.getpid() == process:
                    _run_on(loop, context.__aexit__(None, None, None))

    def plan(self, request: GenerationRequest | None = None, /, **fields: Any) -> Plan:
        """See `Onetake.plan`."""
        return _run_on(self._loop, self._onetake.plan(request, **fields))

    def quote(self, request: GenerationRequest | None = None, /, **fields: Any) -> Quote:
        """See `Onetake.quote`."""
        return _run_on(self._loop, self._onetake.quote(request, **fields))

    def start(self, request: GenerationRequest | None = None, /, **fields: Any) -> Started:
        """See `Onetake.start`."""
        return _run_on(self._loop, self._onetake.start(request, **fields))

    def result(self, generation_id: str, timeout_s: float | None = None) -> GenerationResult:
        """See `Onetake.result`."""
        return _run_on(self._loop, self._onetake.result(generation_id, timeout_s))

    def get(self, generation_id: str, *, tenant: str | None = None) -> GenerationRecord:
        """See `Onetake.get`."""
        return _run_on(self._loop, self._onetake.get(generation_id, tenant=tenant))

    def list(self, **filters: Any) -> tuple[GenerationRecord, ...]:
        """See `Onetake.list`."""
        return _run_on(self._loop, self._onetake.list(**filters))

    def watch(self, generation_id: str, timeout_s: float | None = None) -> Generator[GenerationRecord]:
        """See `Onetake.watch`."""
        changes = self._onetake.watch(generation_id, timeout_s)
        try:
            while (record := _run_on(self._loop, _next_of(changes))) is not None:
                yield record
        finally:
            _run_on(self._loop, changes.aclose())

    def cancel(self, generation_id: str, *, tenant: str | None = None) -> GenerationRecord:
        """See `Onetake.cancel`."""
        return _run_on(self._loop, self._onetake.cancel(generation_id, tenant=tenant))

    def quote_replay(self, verb: ReplayVerb, generation_id: str, **options: Any) -> ReplayQuote:
        """See `Replays.quote`."""
        return _run_on(self._loop, self._onetake.replays().quote(verb, generation_id, **options))

    def replay(self, verb: ReplayVerb, generation_id: str, *, who: str, **options: Any) -> Replayed:
        """See `Replays.replay`."""
        return _run_on(self._loop, self._onetake.replays().replay(verb, generation_id, who=who, **options))

    def download(self, generation_id: str, path: str | Path, *, tenant: str | None = None) -> Path:
        """See `Onetake.download`."""
        return _run_on(self._loop, self._onetake.download(generation_id, path, tenant=tenant))


@contextmanager
def _loop_in_a_thread() -> Generator[asyncio.AbstractEventLoop]:
    loop, process = asyncio.new_event_loop(), os.getpid()
    thread = threading.Thread(target=loop.run_forever, name="onetake client", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        if os.getpid() == process:  # a forked copy shares the loop's files with the loop that runs
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for the work; when the caller is interrupted meanwhile, the work is cancelled too."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _next_of(changes: AsyncIterator[GenerationRecord]) -> GenerationRecord | None:
    return await anext(changes, None)
