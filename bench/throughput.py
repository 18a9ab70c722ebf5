"""Generations a second with many in flight, against the bare workflow, and which part takes the processor's time."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from bench import processes
from bench.report import Goal, Row
from bench.stack import Bench

IN_FLIGHT: Final = 40
NUMBER: Final = 120  # in one round; those after the first and before the last IN_FLIGHT are timed
ROUNDS: Final = 3
# Long enough that the callback finds the generation waiting, as it does in production.
PROMPT: Final = "a harbour at dawn [[sim:delay=2]]"


@dataclass
class Load:
    """All rounds of one kind of workflow. `ends` are the times at which each one of a round ended."""

    name: str
    pids: dict[str, int]
    run: Callable[[], Awaitable[object]]
    number: int = 0
    timed: int = 0
    seconds: float = 0.0
    cpu_s: Counter[str] = field(default_factory=Counter[str])
    rates: list[float] = field(default_factory=list[float])

    async def round(self) -> None:
        before = processes.cpu_seconds(self.pids)
        ends = await _closed_loop(self.run)
        self.cpu_s.update(Counter(processes.cpu_seconds(self.pids)) - Counter(before))
        self.number += NUMBER
        timed, seconds = NUMBER - 2 * IN_FLIGHT, ends[-IN_FLIGHT - 1] - ends[IN_FLIGHT - 1]
        self.timed += timed
        self.seconds += seconds
        self.rates.append(round(timed / seconds, 2))

    @property
    def rate(self) -> float:
        return self.timed / self.seconds

    def cpu_ms(self) -> dict[str, float]:
        """Milliseconds of processor time for each workflow, by part."""
        return {name: round(1000 * used_s / self.number, 1) for name, used_s in self.cpu_s.items()}


async def measure(bench: Bench) -> list[Row]:
    """Interleave rounds of both kinds."""
    bare = Load("bare", bench.bare_pids, bench.bare)
    ours = Load("onetake", bench.pids, lambda: bench.generate(PROMPT))
    for _ in range(ROUNDS):
        await bare.round()
        await ours.round()
    activities = await _activities(bench)
    facts = {
        "in_flight": IN_FLIGHT,
        "activities": activities,
        "rates_per_s": {load.name: load.rates for load in (ours, bare)},
        "cpu_ms": {load.name: load.cpu_ms() for load in (ours, bare)},
    }
    rate = Row(
        f"generations a second, {IN_FLIGHT} in flight",
        f"{ours.rate:.1f}/s, {activities} activities",
        f"bare workflow {bare.rate:.1f}/s, 7 activities",
        ours.rate / bare.rate,
        Goal("≥", 0.5),
        facts,
    )
    return [rate, *_cpu_rows(ours.cpu_ms(), bare.cpu_ms())]


async def _closed_loop(run: Callable[[], Awaitable[object]]) -> list[float]:
    """Run NUMBER of them, each of IN_FLIGHT callers starting its next when its last has ended; when each ended."""
    left, ends = iter(range(NUMBER)), list[float]()

    async def caller() -> None:
        for _ in left:
            await run()
            ends.append(time.perf_counter())

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return ends


async def _activities(bench: Bench) -> int:
    """How many activities the newest generation had: 7 when it waited for its callback, as the bare workflow does."""
    (newest,) = await bench.onetake.list(limit=1)
    events = await bench.history(newest.workflow_id)
    return sum(event.HasField("activity_task_scheduled_event_attributes") for event in events)


def _cpu_rows(ours: dict[str, float], bare: dict[str, float]) -> list[Row]:
    if not processes.can_be_measured():
        return [Row("processor time", "this system does not tell (no /proc)")]
    rows = [
        Row(f"  processor: {name}", f"{ours[name]:.0f} ms", f"{bare[name]:.0f} ms" if name in bare else "")
        for name in ours
    ]
    total, yardstick = sum(ours.values()), sum(bare.values())
    of_them = f"{yardstick:.0f} ms (bare worker {bare['bare worker']:.0f} ms)"
    return [*rows, Row("  processor: all parts", f"{total:.0f} ms", of_them, yardstick / total)]
