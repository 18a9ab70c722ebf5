"""Generations a second with many in flight, and the processor time of one, beside the bare workflow and DBOS."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench import processes
from bench.report import Goal, Row
from bench.stack import Bench, Side

IN_FLIGHT: Final = 40
NUMBER: Final = 120  # in one round
FIRST: Final = 20  # by its end all callers have begun; the time runs from there to the end before the last IN_FLIGHT
ROUNDS: Final = 2
LONG_ROUNDS: Final = 5
BEGIN_WITHIN_S: Final = 4.0  # the callers of a round begin one after the other, or they would all end together
# Long enough that the callback finds the generation waiting, as it does in production.
PROMPT: Final = "a harbour at dawn [[sim:delay=2]]"


@dataclass
class Load:
    """All rounds of one side: generations a second, and milliseconds of processor time for each one by part."""

    side: Side
    rates: list[float] = field(default_factory=list[float])
    cpu_ms: list[dict[str, float]] = field(default_factory=list[dict[str, float]])

    async def round(self) -> None:
        before = processes.cpu_seconds(self.side.pids)
        ends = await _closed_loop(lambda: self.side.run(PROMPT))
        used = processes.cpu_seconds(self.side.pids)
        self.cpu_ms.append({name: 1000 * (used[name] - before[name]) / NUMBER for name in used})
        self.rates.append((NUMBER - FIRST - IN_FLIGHT) / (ends[-IN_FLIGHT - 1] - ends[FIRST - 1]))

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def all_parts_ms(self) -> float:
        return median(sum(each.values()) for each in self.cpu_ms)

    def part_ms(self, name: str) -> float | None:
        """None for a part that this side does without."""
        return median(each[name] for each in self.cpu_ms) if name in self.cpu_ms[0] else None


async def measure(bench: Bench) -> list[Row]:
    """Rounds of all sides in turns; another side begins each time."""
    loads = [Load(side) for side in bench.sides]
    for number in range(LONG_ROUNDS if bench.long else ROUNDS):
        first = number % len(loads)
        for load in (*loads[first:], *loads[:first]):
            await load.round()
    ours, *others = loads
    rates = [_rate_row(ours, other) for other in others]
    return [*rates, *_cpu_rows(ours, others)]


async def _closed_loop(run: Callable[[], Awaitable[object]]) -> list[float]:
    """Run NUMBER of them, each of IN_FLIGHT callers starting its next when its last has ended; when each ended."""
    left, ends = iter(range(NUMBER)), list[float]()

    async def caller(number: int) -> None:
        await asyncio.sleep(BEGIN_WITHIN_S * number / IN_FLIGHT)
        for _ in left:
            await run()
            ends.append(time.perf_counter())

    await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
    return ends


_LEAST_OF: Final = {"bare": 1.0, "dbos": 0.9}
_MOST_CPU_OF: Final = {"bare": 1.15}


def _rate_row(ours: Load, other: Load) -> Row:
    name = other.side.name
    return Row(
        f"generations a second, {IN_FLIGHT} in flight",
        f"{ours.rate:.1f}/s",
        f"{name} {other.rate:.1f}/s",
        ours.rate / other.rate,
        Goal("≥", _LEAST_OF[name]),
        {"in_flight": IN_FLIGHT, "rates_per_s": {load.side.name: load.rates for load in (ours, other)}},
    )


def _cpu_rows(ours: Load, others: list[Load]) -> list[Row]:
    if not processes.can_be_measured():
        return [Row("processor time", "this system does not tell (no /proc)")]
    return [
        *(_cpu_row(ours, other) for other in others),
        *(_part_row(name, ours, others) for name in ours.cpu_ms[0]),
    ]


def _cpu_row(ours: Load, other: Load) -> Row:
    name, goal = other.side.name, _MOST_CPU_OF.get(other.side.name)
    return Row(
        "processor time of one, all parts",
        f"{ours.all_parts_ms:.0f} ms",
        f"{name} {other.all_parts_ms:.0f} ms",
        ours.all_parts_ms / other.all_parts_ms,
        None if goal is None else Goal("≤", goal),
        {"cpu_ms": {load.side.name: load.cpu_ms for load in (ours, other)}},
    )


def _part_row(name: str, ours: Load, others: list[Load]) -> Row:
    """One part of ours. The worker of the bare workflow and the process of DBOS stand beside our worker."""
    beside = [(other.side.name, other.part_ms(_worker_of(other) if name == "worker" else name)) for other in others]
    against = ", ".join(f"{side} {used:.0f} ms" for side, used in beside if used is not None)
    return Row(f"  {name}", f"{ours.part_ms(name):.0f} ms", against)


def _worker_of(load: Load) -> str:
    return {"bare": "bare worker"}.get(load.side.name, load.side.name)
