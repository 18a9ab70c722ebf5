"""How a part of ours is asked to end: by SIGTERM or SIGINT, at any moment of its life.

`end_at_once` comes first, before what is slow to import: the kernel ignores for process 1 of a container every signal
that the process has no handler for. Then `until_asked_to_end` runs the part. While it starts, it is cut short; from
`Stop.finish_first` on it finishes what is under way, for no longer than it has said there.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

from onetake.core.leaving import leave

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
TIDY_S: Final = 1.0  # what a part that still starts may take to close its connections
ASKED_TO: Final = 0
OVERDUE: Final = 124  # of a process that did not end in its time; `timeout` of coreutils has the same


def end_at_once() -> None:
    """From now on SIGTERM and SIGINT end this process with code 0. For the time in which it holds nothing."""
    for number in ENDING:
        signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    leave(ASKED_TO)


class Stop:
    """Whether this process was asked to end, and what a part does then."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._overdue: threading.Timer | None = None

    @property
    def finishes_first(self) -> bool:
        """Whether the part has started."""
        return self._overdue is not None

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask for the end. Repeatable. A part that has started has its time from now on."""
        self._asked.set()
        self._limit()

    async def asked(self) -> None:
        """Return once the end is asked for."""
        await self._asked.wait()

    def finish_first(self, within_s: float, tell: Callable[[], None]) -> None:
        """The part has started: it watches `asked` itself and ends when what is under way has ended. Where it has not
        ended `within_s` after it was asked, `tell` is called on a thread, and this process ends with `OVERDUE`."""
        self._overdue = threading.Timer(within_s, _leave_overdue, [tell])
        self._overdue.daemon = True
        if self.is_asked:
            self._limit()

    def _limit(self) -> None:
        """A thread counts the time, because the event loop may be what hangs, at once after it heard the signal."""
        if self._overdue is not None and self._overdue.ident is None:
            self._overdue.start()

    def ended(self) -> None:
        """The part has ended: nothing is overdue."""
        if self._overdue is not None:
            self._overdue.cancel()


def _leave_overdue(tell: Callable[[], None]) -> None:
    try:
        tell()
    finally:
        leave(OVERDUE)


async def until_asked_to_end(part: Callable[[Stop], Coroutine[Any, Any, None]]) -> None:
    """Run a part until it ends. A part that is asked to end while it starts is cancelled, and this process ends with
    code 0 after at most `TIDY_S`: nothing is under way then, and what hangs is a server that does not answer."""
    stop, loop = Stop(), asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, stop.ask)
    try:
        await _run(part, stop)
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)


async def _run(part: Callable[[Stop], Coroutine[Any, Any, None]], stop: Stop) -> None:
    running, asked = asyncio.create_task(part(stop)), asyncio.create_task(stop.asked())
    try:
        await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and not stop.finishes_first:
            running.cancel()
            await asyncio.wait({running}, timeout=TIDY_S)
            leave(ASKED_TO)
        await running
    finally:
        stop.ended()
        asked.cancel()
        running.cancel()
        await asyncio.wait({running})  # whoever cancels us goes on when the part has ended
