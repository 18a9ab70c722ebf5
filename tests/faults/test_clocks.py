"""A worker whose clock is wrong: Temporal's server times what waits, and the database what is owed."""

import asyncio
import datetime as dt
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Final

from onetake.client import Onetake
from onetake.dev.devstack.ports import free_port
from tests.faults.scenes import LIMIT_S
from tests.faults.table import shows
from tests.system.forked import spawn_call
from tests.system.harness import ROUTE, Stack, ended, unique
from tests.system.started import has_started

OURS: Final = ("onetake", "providers", "activities", "workflows")
DAY_S: Final = 86_400
ALL: Final = ("orchestrate", "vendors", "media")
SCALE: Final = "0.2"
DEADLINE_S: Final = 12


def with_another_clock(words: Sequence[str]) -> None:
    """Run `onetake WORDS[1:]...` in a process in which every look of our code at the clock is off by `WORDS[0]` s."""
    from onetake.cli import main  # noqa: PLC0415 - loaded by the process that is forked

    import_module("onetake.worker")  # what is loaded later would look at the real clock
    shift = dt.timedelta(seconds=float(words[0]))
    real, now = time.time, dt.datetime

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return now.now(tz) + shift

    time.time = lambda: real() + shift.total_seconds()
    changed = [name for name, module in list(sys.modules.items()) if name.partition(".")[0] in OURS and module]
    for name in changed:
        if getattr(sys.modules[name], "datetime", None) is now:
            vars(sys.modules[name])["datetime"] = Shifted
    sys.argv = ["onetake", *words[1:]]
    main()


@asynccontextmanager
async def off_by(stack: Stack, shift_s: float, queue: str, roles: Sequence[str]) -> AsyncGenerator[None]:
    port = free_port(set())
    own = {"ONETAKE_TASK_QUEUE": queue, "ONETAKE_RECONCILE_EVERY_S": "0", "ONETAKE_TIME_SCALE": SCALE}
    asked = [word for role in roles for word in ("--role", role)]
    words = [str(shift_s), "worker", "--health-port", str(port), *asked]
    log = stack.running.devstack.log_of(f"clock{shift_s:+g}")
    child = await asyncio.to_thread(spawn_call, with_another_clock, words, stack.environment | own, log)
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await asyncio.to_thread(has_started, port):
                assert child.ended() is None, log.read_text()[-2000:]
                await asyncio.sleep(0.1)
        yield
    finally:
        child.kill()


async def two_generations(stack: Stack, onetake: Onetake) -> None:
    """One that completes, and one whose job never ends: it waits for its whole deadline, and no longer."""
    done, never = unique("on time [[sim:delay=0.3]]"), unique("for ever [[sim:never]]")
    began = time.monotonic()
    first = await onetake.start(route=ROUTE, prompt=done, duration_s=2)
    second = await onetake.start(route=ROUTE, prompt=never, duration_s=2, deadline_s=DEADLINE_S)
    await shows("F109", stack, await ended(onetake, first.id, LIMIT_S), done, end="clip")
    result = await ended(onetake, second.id, LIMIT_S)
    assert time.monotonic() - began >= DEADLINE_S
    await shows("F109", stack, result, never, end="deadline")


async def test_a_worker_whose_clock_is_wrong_keeps_every_deadline(stack: Stack) -> None:
    """By a day it is only the store that minds: signatures carry the time, so clips are another worker's."""
    async with (
        off_by(stack, DAY_S, "clock-ahead", ("orchestrate", "vendors")),
        off_by(stack, 0, "clock-ahead", ("media",)),
        off_by(stack, -600, "clock-behind", ALL),
        stack.client(task_queue="clock-ahead", time_scale=SCALE) as ahead,
        stack.client(task_queue="clock-behind", time_scale=SCALE) as behind,
    ):
        await asyncio.gather(two_generations(stack, ahead), two_generations(stack, behind))
