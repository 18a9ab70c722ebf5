"""What a generation takes longer than its vendor, one in flight, against the bare workflow's whole time."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bench.report import Goal, Row, quantile
from bench.stack import Bench

SAMPLES: Final = 60
RENDER_S: Final = 0.3  # the vendor's time, taken out; by then the generation waits for the callback
PROMPT: Final = f"a harbour at dusk [[sim:delay={RENDER_S}]]"
INSTANT: Final = "a harbour at noon [[sim:delay=0]]"


async def measure(bench: Bench) -> list[Row]:
    """Interleave one of each kind. `start()` begins a measurement and `result()` with its signed link ends it."""
    bare_s: list[float] = []
    woken_s: list[float] = []
    instant_s: list[float] = []
    for _ in range(SAMPLES):
        bare_s.append(await _timed(bench.bare))
        woken_s.append(await _timed(lambda: bench.generate(PROMPT)) - RENDER_S)
        if len(instant_s) < SAMPLES // 3:
            instant_s.append(await _timed(lambda: bench.generate(INSTANT)))
    facts = {"samples": SAMPLES, "overhead_ms": _ms(woken_s), "bare_ms": _ms(bare_s), "instant_ms": _ms(instant_s)}
    return [
        _row("overhead, one in flight: p50", 0.5, woken_s, bare_s, Goal("≤", 3), facts),
        _row("overhead, one in flight: p99", 0.99, woken_s, bare_s, Goal("≤", 6)),
        _row("  p50, vendor done at once", 0.5, instant_s, bare_s),
    ]


async def _timed(run: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await run()
    return time.perf_counter() - started


def _row(
    name: str,
    share: float,
    ours_s: list[float],
    bare_s: list[float],
    goal: Goal | None = None,
    facts: dict[str, Any] | None = None,
) -> Row:
    ours, bare = quantile(ours_s, share), quantile(bare_s, share)
    return Row(name, f"{1000 * ours:.0f} ms", f"bare workflow {1000 * bare:.0f} ms", ours / bare, goal, facts or {})


def _ms(values_s: list[float]) -> list[float]:
    return [round(1000 * value, 1) for value in sorted(values_s)]
