"""Calls for a tenant that met a lock wait apart, so that they do not hold up the calls for other tenants."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from onetake.ledger.database import TURN_S, Locked

MOST_WAITING: Final = 50  # half of the activities that a worker runs at once

Answer = TypeVar("Answer")
Call = Callable[[], Awaitable[Answer]]


class Lanes:
    """Runs calls in the quick lane, up to `width` at once, until one meets a lock.

    From then on one call at a time for this tenant goes to the slow lane; when it succeeds, the others return to the
    quick one. Up to 50 wait for that, three seconds each: the rest fail with Locked, and their callers repeat them.
    """

    def __init__(self, width: int) -> None:
        self._width = asyncio.Semaphore(width)
        self._stuck: dict[str, asyncio.Lock] = {}
        self._waiting = 0

    def is_stuck(self, tenant: str) -> bool:
        """Whether the last call for the tenant met a lock."""
        return tenant in self._stuck

    async def run(self, tenant: str, quick: Call[Answer], slow: Call[Answer]) -> Answer:
        """The answer of `quick`, which raises Locked when it met a lock, or of `slow`. Raises Locked."""
        while True:
            async with self._width:
                # Asked here: while a call waited for its turn, another one may have met the lock.
                if tenant not in self._stuck:
                    try:
                        return await quick()
                    except Locked:
                        self._stuck.setdefault(tenant, asyncio.Lock())
            gate = self._stuck.get(tenant)
            if gate is None:
                continue
            async with self._turn(gate):
                if self._stuck.get(tenant) is gate:
                    answer = await slow()
                    del self._stuck[tenant]
                    return answer

    @asynccontextmanager
    async def _turn(self, gate: asyncio.Lock) -> AsyncGenerator[None]:
        if self._waiting >= MOST_WAITING:
            raise Locked
        self._waiting += 1
        try:
            async with asyncio.timeout(TURN_S):
                await gate.acquire()
        except TimeoutError:
            raise Locked from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            gate.release()
