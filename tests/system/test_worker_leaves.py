"""Asked to end, a worker finishes what is under way, at once what has not begun; a second Ctrl-C does not wait."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

import pytest

SERVES = """
import asyncio, sys, time
from datetime import timedelta
from onetake.core import logs
from onetake.core.signals import until_asked_to_end
from onetake.engine import serving
from onetake.engine.under_way import under_way

class Busy:
    task_queue, is_running = "busy", True
    async def run(self): print("serving", flush=True); await asyncio.sleep({run_s})
    async def shutdown(self): print("finishing", flush=True); await asyncio.sleep({run_s})

class Told(Busy):
    "It finishes when the other end of its standard input is closed."
    async def run(self): self.told = asyncio.Event(); print("serving", flush=True); await self.told.wait()
    async def shutdown(self): print("finishing", flush=True); await asyncio.to_thread(sys.stdin.read); self.told.set()

class Hanging(Busy):
    "A call that blocks the event loop."
    async def shutdown(self): print("finishing", flush=True); time.sleep(3600)

class Unsure:
    "It still asks the server for its namespace: the SDK's `shutdown` would wait for that."
    task_queue, is_running = "unsure", False
    async def run(self): await asyncio.sleep(3600)
    async def shutdown(self): await asyncio.sleep(3600)

class Failing:
    "The SDK ends a worker that a poll has failed fatally."
    task_queue, is_running = "failing", True
    async def run(self): await asyncio.sleep(0.2); raise RuntimeError("a poll failed")

class Stubborn(Busy):
    "A cancelled worker of the SDK goes on with its activities."
    task_queue = "stubborn"
    async def run(self):
        print("serving", flush=True)
        while True:
            try: await asyncio.sleep(3600)
            except asyncio.CancelledError: pass

logs.configure("info")
serving.FAREWELL_S, serving.TIDY_S = {farewell_s}, 0.5

async def main():
    {before}
    workers, grace = [{workers}], timedelta(seconds={grace_s})
    await until_asked_to_end(lambda stop: serving.serve(workers, grace, stop))
    print("finished", flush=True)

asyncio.run(main())
"""
UNDER_WAY = "under_way.count('fal.submit', 1)"


def serving(workers: str, *, run_s: float = 3600, grace_s: float = 60, farewell_s: float = 60, before: str = "") -> str:
    """A program that serves workers which are not the SDK's."""
    return SERVES.format(workers=workers, run_s=run_s, grace_s=grace_s, farewell_s=farewell_s, before=before or "pass")


def interrupted(program: str, signals: Sequence[signal.Signals]) -> tuple[int, str]:
    """Exit code and output, the log included."""
    words = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            assert "serving" in until(process.stdout, "serving")
            process.send_signal(signals[0])
            until(process.stdout, "finishing")
            for number in signals[1:]:
                process.send_signal(number)
            output, _ = process.communicate(timeout=240)
        finally:
            process.kill()
    return process.returncode, output


def until(stream: IO[str], word: str) -> str:
    """Read to the line of this word; the log's lines stand between."""
    while (line := stream.readline()) and line != f"{word}\n":
        pass
    return line


def told(output: str, event: str) -> dict[str, str]:
    """The log's line of this event."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return next(line for line in lines if line["event"] == event)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_what_is_under_way(number: signal.Signals) -> None:
    code, output = interrupted(serving("Told()"), [number])
    assert (code, output.splitlines()[-1]) == (0, "finished")


def test_a_second_sigterm_changes_nothing() -> None:
    code, output = interrupted(serving("Told()"), [signal.SIGTERM, signal.SIGTERM])
    assert (code, output.splitlines()[-1]) == (0, "finished")


@pytest.mark.parametrize("times", [2, 3])
def test_a_second_ctrl_c_leaves_at_once(times: int) -> None:
    code, output = interrupted(serving("Busy()"), [signal.SIGINT] * times)
    assert code == 130
    assert "worker_left" in output


def test_a_worker_that_still_looks_for_its_namespace_holds_up_nothing() -> None:
    code, output = interrupted(serving("Busy(), Unsure(), Unsure()", run_s=0.5), [signal.SIGTERM])
    assert (code, output.splitlines()[-1]) == (0, "finished")
    assert "worker_cut_short" not in output


def test_with_nothing_under_way_temporals_answer_is_not_waited_for() -> None:
    code, output = interrupted(serving("Busy()", farewell_s=0.5), [signal.SIGTERM])
    assert (code, output.splitlines()[-1]) == (0, "finished")
    assert told(output, "worker_cut_short")["queues"] == "['busy']"


def test_what_is_under_way_is_waited_for() -> None:
    code, output = interrupted(serving("Busy()", run_s=1, farewell_s=0.1, before=UNDER_WAY), [signal.SIGTERM])
    assert (code, output.splitlines()[-1]) == (0, "finished")
    assert "worker_cut_short" not in output


def test_what_outlasts_its_grace_is_named_and_left() -> None:
    code, output = interrupted(serving("Busy()", grace_s=0.5, before=UNDER_WAY), [signal.SIGTERM])
    assert code == 124
    overdue = told(output, "worker_overdue")
    assert (overdue["activity"], overdue["queues"]) == ("fal.submit", "['busy']")


def test_an_event_loop_that_hangs_is_left() -> None:
    code, output = interrupted(serving("Hanging()", grace_s=0.5, before=UNDER_WAY), [signal.SIGTERM])
    assert (code, "worker_overdue" in output) == (124, True)


def test_a_worker_that_fails_ends_the_process_also_where_another_does_not_end() -> None:
    program = serving("Stubborn(), Failing()", grace_s=0.5)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 124
    assert told(done.stderr, "worker_overdue")["queues"] == "['stubborn']"
