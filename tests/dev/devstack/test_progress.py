"""What a person sees."""

import io

import pytest
from rich.console import Console

from onetake.dev.devstack import DevStackError, LiveProgress, PlainProgress, progress_for, step


def test_without_a_terminal_each_event_is_one_line_and_a_long_step_speaks_now_and_then() -> None:
    said, clock = io.StringIO(), iter([0.0, 5.0, 20.0, 20.0, 21.0])
    progress = PlainProgress(said, every_s=15, clock=lambda: next(clock))
    progress.begin("s3", "building")
    progress.update("s3", "after 5 s")
    progress.update("s3", "after 20 s")
    progress.update("s3", "after 21 s")
    progress.done("s3", "ready", 21.25)
    assert said.getvalue().splitlines() == [
        "s3          building ...",
        "s3          after 20 s",
        "s3          ready (21.2 s)",
    ]


def test_a_failed_step_shows_its_sentence_once() -> None:
    said = io.StringIO()
    with pytest.raises(DevStackError), step(PlainProgress(said), "s3", "starting"):
        raise DevStackError("s3", "was not ready", hint="Look at the log.")
    assert said.getvalue().splitlines() == ["s3          starting ...", "s3          FAILED: was not ready"]


def test_on_a_terminal_finished_lines_stay_and_running_ones_go() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, record=True)
    progress = LiveProgress(console)
    with step(progress, "s3", "starting") as current:
        current.update("nearly")
        current.note("port 9000 is taken; using 20000")
        current.text = "ready"
    shown = console.export_text()
    assert "✓ s3          ready" in shown
    assert "port 9000 is taken; using 20000" in shown


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(progress_for(io.StringIO()), PlainProgress)
