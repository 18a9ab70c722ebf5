"""What a person sees while parts are built and started: one line a part.

Everything goes to stderr, so that stdout stays free for results. It shows, it never decides.
"""

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from onetake.core.screen import is_screen

NAME_WIDTH = 11


class Progress(Protocol):
    """Told what each part does. Calls come from several threads; `name` is the part."""

    def begin(self, name: str, text: str) -> None: ...
    def update(self, name: str, text: str) -> None: ...
    def note(self, name: str, text: str) -> None: ...
    def done(self, name: str, text: str, seconds: float) -> None: ...
    def failed(self, name: str, text: str) -> None: ...


class Step:
    """One running step; what it says last is what its finished line says."""

    def __init__(self, progress: Progress, name: str, text: str) -> None:
        self._progress = progress
        self.name = name
        self.text = text

    def update(self, text: str) -> None:
        self._progress.update(self.name, text)

    def note(self, text: str) -> None:
        """Keep this line on the screen beside the step's own."""
        self._progress.note(self.name, text)


@contextmanager
def step(progress: Progress, name: str, text: str) -> Generator[Step]:
    """Show `text` until the block ends; set `.text` inside for the finished line."""
    started = time.monotonic()
    current = Step(progress, name, text)
    progress.begin(name, text)
    try:
        yield current
    except BaseException as error:
        progress.failed(name, str(error).partition("\n")[0].removeprefix(f"{name}: ") or "stopped")
        raise
    progress.done(name, current.text, time.monotonic() - started)


class SilentProgress:
    """Shows nothing: for tests and for machine-readable commands."""

    def begin(self, name: str, text: str) -> None: ...
    def update(self, name: str, text: str) -> None: ...
    def note(self, name: str, text: str) -> None: ...
    def done(self, name: str, text: str, seconds: float) -> None: ...
    def failed(self, name: str, text: str) -> None: ...


class PlainProgress:
    """One line an event, for logs and pipes. A long step repeats its last word every `every_s` seconds."""

    def __init__(
        self, stream: TextIO | None = None, *, every_s: float = 15, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._clock = clock
        self._last_said: dict[str, float] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, text: str) -> None:
        self._last_said[name] = self._clock()
        self._say(name, f"{text} ...")

    def update(self, name: str, text: str) -> None:
        if self._clock() - self._last_said.get(name, float("-inf")) >= self._every_s:
            self._last_said[name] = self._clock()
            self._say(name, text)

    def note(self, name: str, text: str) -> None:
        self._say(name, text)

    def done(self, name: str, text: str, seconds: float) -> None:
        self._say(name, f"{text} ({seconds:.1f} s)")

    def failed(self, name: str, text: str) -> None:
        self._say(name, f"FAILED: {text}")

    def _say(self, name: str, text: str) -> None:
        with self._lock:
            print(f"{name:<{NAME_WIDTH}} {text}", file=self._stream, flush=True)


class LiveProgress:
    """Moving lines on a terminal: running steps below, finished ones above them for good."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._running: dict[str, Spinner] = {}
        self._live: Live | None = None
        self._lock = threading.Lock()

    def begin(self, name: str, text: str) -> None:
        with self._lock:
            self._running[name] = Spinner("dots", Text(f"{name:<{NAME_WIDTH}} {text}"))
            self._redraw()

    def update(self, name: str, text: str) -> None:
        with self._lock:
            if name in self._running:
                self._running[name].update(text=Text(f"{name:<{NAME_WIDTH}} {text}"))

    def note(self, name: str, text: str) -> None:
        self._print(Text(f"  {name:<{NAME_WIDTH}} {text}", style="dim"))

    def done(self, name: str, text: str, seconds: float) -> None:
        self._end(name, Text.assemble(("✓", "green"), f" {name:<{NAME_WIDTH}} {text} ", (f"{seconds:.1f} s", "dim")))

    def failed(self, name: str, text: str) -> None:
        self._end(name, Text.assemble(("✗", "red"), f" {name:<{NAME_WIDTH}} {text}"))

    def _end(self, name: str, line: Text) -> None:
        self._print(line)
        with self._lock:
            self._running.pop(name, None)
            self._redraw()

    def _print(self, line: Text) -> None:
        with self._lock:
            self._console.print(line, soft_wrap=True)

    def _redraw(self) -> None:
        if not self._running:
            if self._live is not None:
                self._live.stop()
            self._live = None
        elif self._live is None:
            self._live = Live(get_renderable=self._lines, console=self._console, transient=True, refresh_per_second=8)
            self._live.start()

    def _lines(self) -> Group:
        return Group(*list(self._running.values()))


def progress_for(stream: TextIO | None = None) -> Progress:
    """Moving lines on a terminal; plain lines elsewhere, and where NO_COLOR is set."""
    shown_on: TextIO = stream or sys.stderr
    if is_screen(shown_on):
        return LiveProgress(Console(file=shown_on))
    return PlainProgress(shown_on)
