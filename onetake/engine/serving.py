"""Runs the workers of one process until it is asked to end, and lets them finish what is under way.

It does not wait for Temporal then: before a worker of the SDK ends, it tells the server so and waits 30 s for an
answer, which is as long as a media worker is given. Once nothing is under way for `FAREWELL_S`, it is cut short.
"""

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from temporalio.worker import Worker

from onetake.core import logs
from onetake.core.leaving import leave
from onetake.core.signals import Stop
from onetake.engine.under_way import under_way

INTERRUPTED: Final = 130
FAREWELL_S: Final = 5.0
TIDY_S: Final = 10.0  # beyond the longest grace: the farewell, and what closing the connections may take
LOOK_S: Final = 0.5

_log = logs.logger(__name__)


async def serve(workers: Sequence[Worker], grace: timedelta, stop: Stop) -> None:
    """Take work from all queues until the end is asked for. Each worker then has its own grace, up to `grace`.

    A worker that fails ends the others, as if the end had been asked for, and is raised."""
    running = dict[Worker, asyncio.Task[None]]()
    stop.finish_first(grace.total_seconds() + TIDY_S, partial(_tell_overdue, running))
    async with asyncio.TaskGroup() as group:
        running |= {worker: group.create_task(worker.run()) for worker in workers}
        _log.info("worker_started", queues=[worker.task_queue for worker in workers])
        try:
            await stop.asked()
        finally:
            stop.ask()
        _log.info("worker_stopping")
        # Whoever presses Ctrl-C again does not want to wait: a worker may die at any time, others take over.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _leave_at_once)
        await _end(running)


async def _end(running: Mapping[Worker, asyncio.Task[None]]) -> None:
    """Together: a queue that stopped later would go on taking submissions that nobody has time to finish."""
    ending = [asyncio.create_task(_finish(worker, task)) for worker, task in running.items()]
    await _ended_or_idle(ending)
    if lasting := _lasting(running):
        _log.warning("worker_cut_short", queues=lasting)
    for task in (*ending, *running.values()):
        task.cancel()


async def _ended_or_idle(ending: Sequence[asyncio.Task[None]]) -> None:
    asked_s, waiting = time.monotonic(), set(ending)
    while waiting and min(under_way.idle_s, time.monotonic() - asked_s) < FAREWELL_S:
        _, waiting = await asyncio.wait(waiting, timeout=LOOK_S)


async def _finish(worker: Worker, running: asyncio.Task[None]) -> None:
    """Finish what the worker has under way. One that still looks for its namespace has nothing, and is cut short."""
    if worker.is_running:
        await worker.shutdown()
    else:
        running.cancel()
    await asyncio.wait({running})


def _lasting(running: Mapping[Worker, asyncio.Task[None]]) -> list[str]:
    """The queues of the workers that have not ended."""
    return [worker.task_queue for worker, task in running.items() if not task.done()]


def _tell_overdue(running: Mapping[Worker, asyncio.Task[None]]) -> None:
    _log.error("worker_overdue", activity=", ".join(under_way.names), queues=_lasting(running))


def _leave_at_once() -> None:
    _log.warning("worker_left")
    leave(INTERRUPTED)
