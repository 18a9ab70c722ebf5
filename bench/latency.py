"""What a generation takes longer than its vendor, one in flight, beside the bare workflow's whole time and DBOS."""

import time
from collections.abc import Awaitable
from typing import Any, Final

from bench.report import Goal, Row, quantile
from bench.stack import Bench

SAMPLES: Final = 30
LONG_SAMPLES: Final = 60
RENDER_S: Final = 0.3  # the vendor's time, taken out; by then the generation waits for the callback
PROMPT: Final = f"a harbour at dusk [[sim:delay={RENDER_S}]]"
INSTANT: Final = "a harbour at noon [[sim:delay=0]]"


async def measure(bench: Bench) -> list[Row]:
    """One of each side in turns. `start()` begins a measurement and `result()` with its signed link ends it."""
    taken: dict[str, list[float]] = {side.name: [] for side in bench.sides}
    instant: list[float] = []
    samples = LONG_SAMPLES if bench.long else SAMPLES
    for number in range(samples):
        for side in bench.sides:
            render_s = 0.0 if side.name == "bare" else RENDER_S
            taken[side.name].append(await _timed(side.run(PROMPT)) - render_s)
        if number % 3 == 0:
            instant.append(await _timed(bench.generate(INSTANT)))
    facts = {"samples": samples, "ms": {name: _ms(each) for name, each in taken.items()}, "instant_ms": _ms(instant)}
    ours = taken.pop("onetake")
    return [
        _row("overhead, one in flight: p50", 0.5, ours, ("bare", taken["bare"]), Goal("≤", 1.2), facts),
        *(_row("overhead, one in flight: p50", 0.5, ours, each) for each in taken.items() if each[0] != "bare"),
        _row("overhead, one in flight: p99", 0.99, ours, ("bare", taken["bare"]), Goal("≤", 6)),
        _row("  p50, vendor done at once", 0.5, instant, ("bare", taken["bare"])),
    ]


async def _timed(run: Awaitable[object]) -> float:
    started = time.perf_counter()
    await run
    return time.perf_counter() - started


def _row(
    name: str,
    share: float,
    ours_s: list[float],
    other: tuple[str, list[float]],
    goal: Goal | None = None,
    facts: dict[str, Any] | None = None,
) -> Row:
    ours, theirs = quantile(ours_s, share), quantile(other[1], share)
    against = f"{other[0]} {1000 * theirs:.0f} ms"
    return Row(name, f"{1000 * ours:.0f} ms", against, ours / theirs, goal, facts or {})


def _ms(values_s: list[float]) -> list[float]:
    return [round(1000 * value, 1) for value in sorted(values_s)]
