"""Runs a command's asynchronous work so that Ctrl-C ends the command at once and never the generation.

Nothing the client does needs tidying when its process goes: the work is abandoned, not cancelled. Only a start is
finished first, because its id is how the person finds the generation again.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from onetake.cli.answer import Stopped, problem_of
from onetake.cli.answer import interruption as interruption_problem
from onetake.core import logs
from onetake.core.errors import OnetakeError
from onetake.core.screen import is_screen

_T = TypeVar("_T")


class Interruption:
    """Ctrl-C, as the running command sees it. `generation_id` is what goes on without us, once it is known."""

    def __init__(self) -> None:
        self.generation_id: str | None = None
        self._heard = asyncio.Event()
        self._held_back = False
        self._pressed = 0

    def press(self) -> None:
        """Ctrl-C was pressed; the second time nothing is held back."""
        self._pressed += 1
        if not self._held_back or self._pressed > 1:
            self._heard.set()

    @contextmanager
    def held_back(self) -> Generator[None]:
        """Finish the block first."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False
            if self._pressed:
                self._heard.set()

    @property
    def is_starting(self) -> bool:
        """Whether a start is under way."""
        return self._held_back

    async def heard(self) -> None:
        await self._heard.wait()


def run(work: Callable[[Interruption], Coroutine[Any, Any, _T]]) -> _T:
    """Run the work to its end. Raises Stopped with what is known; on Ctrl-C at once, and nothing is tidied."""
    logs.configure("warning")  # on stderr: stdout holds the answer and nothing else
    loop = asyncio.new_event_loop()
    return loop.run_until_complete(_race(work))


async def _race(work: Callable[[Interruption], Coroutine[Any, Any, _T]]) -> _T:
    interruption = Interruption()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interruption.press)
    working = asyncio.ensure_future(work(interruption))
    heard = asyncio.ensure_future(interruption.heard())
    await asyncio.wait({working, heard}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        if is_screen(sys.stderr):
            sys.stderr.write("\n")  # the progress line stands where it was
        raise Stopped(interruption_problem(interruption.generation_id, starting=interruption.is_starting))
    heard.cancel()
    try:
        return working.result()
    except OnetakeError as error:
        raise Stopped(problem_of(error, interruption.generation_id)) from error
