"""Heartbeats while a long call is under way, and calls that cancellation may not cut in half."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TypeVar

from temporalio import activity

T = TypeVar("T")


@asynccontextmanager
async def heartbeats() -> AsyncGenerator[None]:
    """Beat three times per heartbeat timeout, so that a dead worker is noticed and a cancellation arrives."""
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=15)
    beating = asyncio.create_task(_beat(timeout.total_seconds() / 3))
    try:
        yield
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating


async def _beat(every_s: float) -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(every_s)


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
