"""Generations a second with many in flight, against the bare workflow, and which part takes the processor's time."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench import processes
from bench.house import House
from bench.report import Goal, Row

IN_FLIGHT = 60
NUMBER = 120
ROUNDS = 2
# Long enough that the callback finds the generation waiting, as it does in production.
PROMPT = "a harbour at dawn [[sim:delay=3]]"


@dataclass
class Load:
    """All rounds of one kind of workflow."""

    number: int = 0
    seconds: float = 0.0
    cpu_s: Counter[str] = field(default_factory=Counter[str])
    rates: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        return self.number / self.seconds

    def cpu_ms(self) -> dict[str, float]:
        """Milliseconds of processor time for each workflow, by part."""
        return {name: round(1000 * used_s / self.number, 1) for name, used_s in self.cpu_s.items()}


async def measure(house: House) -> list[Row]:
    """Interleave rounds of both kinds."""
    ours, bare = Load(), Load()
    for _ in range(ROUNDS):
        await _round(bare, house.bare_pids, house.bare)
        await _round(ours, house.pids, lambda: house.generate(PROMPT))
    ratio = ours.rate / bare.rate
    facts = {
        "in_flight": IN_FLIGHT,
        "generations": ours.number,
        "rates_per_s": {"onetake": _rounded(ours.rates), "bare": _rounded(bare.rates)},
        "cpu_ms": {"onetake": ours.cpu_ms(), "bare": bare.cpu_ms()},
    }
    rate = Row(
        f"generations a second, {IN_FLIGHT} in flight",
        f"{ours.rate:.1f}/s",
        f"bare workflow {bare.rate:.1f}/s",
        ratio,
        Goal("≥", 0.5),
        facts,
    )
    return [rate, *_cpu_rows(ours, bare)]


async def _round(load: Load, pids: dict[str, int], run: Callable[[], Awaitable[object]]) -> None:
    before = processes.cpu_seconds(pids)
    seconds = await _closed_loop(NUMBER, IN_FLIGHT, run)
    load.cpu_s.update(Counter(processes.cpu_seconds(pids)) - Counter(before))
    load.number += NUMBER
    load.seconds += seconds
    load.rates.append(NUMBER / seconds)


async def _closed_loop(number: int, in_flight: int, run: Callable[[], Awaitable[object]]) -> float:
    """Run so many, each of `in_flight` callers starting its next when its last has ended; returns the seconds."""
    left = itertools.islice(itertools.count(), number)

    async def caller() -> None:
        for _ in left:
            await run()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    return time.perf_counter() - started


def _cpu_rows(ours: Load, bare: Load) -> list[Row]:
    if not processes.can_be_measured():
        return [Row("processor time", "this system does not tell (no /proc)")]
    rows = [
        Row(f"processor time: {name}", f"{used:.0f} ms", f"{bare.cpu_ms()[name]:.0f} ms" if name in bare.cpu_s else "")
        for name, used in ours.cpu_ms().items()
    ]
    total, yardstick = sum(ours.cpu_ms().values()), sum(bare.cpu_ms().values())
    return [*rows, Row("processor time: all parts", f"{total:.0f} ms", f"{yardstick:.0f} ms", total / yardstick)]


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]
