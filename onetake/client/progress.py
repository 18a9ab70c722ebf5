"""What a person sees while a generation runs: phase, time, cost so far. Talk, so it goes to stderr.

It shows what a record says and nothing it cannot know: no percentages, no guesses.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TextIO

from onetake.core.money import format_usd
from onetake.core.screen import is_screen
from onetake.core.spans import span

if TYPE_CHECKING:
    from onetake.core.contracts import GenerationRecord

TICK_S = 0.2
_ERASE_LINE = "\r\x1b[K"


class ProgressLine:
    """One generation on one line: rewritten in place on a terminal, a new line for each change elsewhere."""

    def __init__(
        self, label: str = "", *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label = f"{label}  " if label else ""
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._moving = is_screen(self._stream)
        self._record: GenerationRecord | None = None
        self._said = ""

    def show(self, record: "GenerationRecord") -> None:
        """Take in what is known now."""
        self._record = record
        if self._moving:
            self.tick()
        elif _state(record) != self._said:
            self._write(f"{self._text(record)}\n")
        self._said = _state(record)

    def tick(self) -> None:
        """Let the time move on, where lines can be rewritten."""
        if self._moving and self._record is not None:
            width = (os.get_terminal_size(self._stream.fileno()).columns or 80) - 1
            self._write(f"{_ERASE_LINE}{self._text(self._record)[:width]}")

    def close(self) -> None:
        """Leave the last state standing, on a line of its own."""
        if self._moving and self._record is not None:
            self._write("\n")
        self._record = None

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _text(self, record: "GenerationRecord") -> str:
        return f"{self._label}{self._clock() - self._started:5.1f} s  {_state(record)}"


class Together:
    """Several generations side by side: one line whenever one of them moves on."""

    def __init__(
        self, label: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._said: dict[str, str] = {}

    def show(self, name: str, record: "GenerationRecord") -> None:
        """Take in what is known now of one of them."""
        if _state(record) != self._said.get(name):
            self._said[name] = _state(record)
            elapsed_s = self._clock() - self._started
            self._stream.write(f"{self._label}   {elapsed_s:5.1f} s  {name:<11} {_state(record)}\n")
            self._stream.flush()


def _state(record: "GenerationRecord") -> str:
    cost, code = record.cost, f" ({record.error.code})" if record.error else ""
    if record.waiting is not None:
        vendor, about_s = record.route.partition("/")[0], record.waiting.about_s
        return f"{record.phase}, waiting for {vendor}: place {record.waiting.place}, about {span(about_s)}"
    if record.phase != "done":
        return f"{record.phase}, {format_usd(cost.reserved_micros)} reserved"
    doubt = f", {format_usd(cost.suspense_micros)} in suspense" if cost.suspense_micros else ""
    return f"{record.status}{code}, {format_usd(cost.settled_micros)} spent{doubt}"


async def follow(changes: AsyncIterator["GenerationRecord"], line: ProgressLine) -> "GenerationRecord":
    """Show each change until the last, which is returned. Raises what `changes` raises."""
    last: GenerationRecord | None = None
    while (record := await _ticking(changes, line)) is not None:
        line.show(record)
        last = record
    if last is None:
        raise ValueError("there was nothing to follow")
    return last


async def _ticking(changes: AsyncIterator["GenerationRecord"], line: ProgressLine) -> "GenerationRecord | None":
    upcoming = asyncio.ensure_future(anext(changes, None))
    try:
        while not upcoming.done():
            await asyncio.wait({upcoming}, timeout=TICK_S)
            line.tick()
        return upcoming.result()
    finally:
        upcoming.cancel()
