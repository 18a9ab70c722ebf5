"""Heartbeats while a long call is under way, and calls that cancellation may not cut in half."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity

from onetake.core.contracts import Message

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class Memory:
    """What the engine keeps for the next attempt. Each beat repeats it: a beat without details would erase it."""

    def __init__(self) -> None:
        self._kept: tuple[Any, ...] = tuple(activity.info().heartbeat_details)

    def recall(self, kind: type[M]) -> M | None:
        """What an earlier attempt kept, or None."""
        return kind.model_validate(self._kept[0]) if self._kept and self._kept[0] is not None else None

    def keep(self, value: Message) -> None:
        """Keep this for the next attempt, at once."""
        self._kept = (value,)
        self.beat()

    def forget(self) -> None:
        """Keep nothing for the next attempt."""
        self._kept = ()
        self.beat()

    def beat(self) -> None:
        activity.heartbeat(*self._kept)


@asynccontextmanager
async def heartbeats() -> AsyncGenerator[Memory]:
    """Beat three times per heartbeat timeout, so that a dead worker is noticed and a cancellation arrives."""
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=15)
    memory = Memory()
    beating = asyncio.create_task(_beat(memory, timeout.total_seconds() / 3))
    try:
        yield memory
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _beat(memory: Memory, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        memory.beat()


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Await `work` even when this activity is cancelled meanwhile: a POST under way must tell its outcome."""
    task = asyncio.create_task(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    return task.result()


def elapsed_s() -> float:
    """Seconds between the activity's scheduling and this attempt's, by the server's clock alone."""
    info = activity.info()
    return (info.current_attempt_scheduled_time - info.scheduled_time).total_seconds()


def remaining_s() -> float:
    """Seconds until the schedule-to-close deadline, by the server's clock at this attempt's start."""
    limit = activity.info().schedule_to_close_timeout
    return float("inf") if limit is None else limit.total_seconds() - elapsed_s()
