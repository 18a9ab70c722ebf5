"""What counting costs: the instruments of one generation with an endpoint that serves them, and without one."""

import time
from statistics import median
from typing import Final

from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from bench.report import Goal, Row
from bench.stack import Bench
from onetake.core.names import PHASES
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.metrics import Instruments

ROUTE: Final = "apixo/wan-2.6/text-to-video"
GENERATIONS: Final = 2_000  # in one round
ROUNDS: Final = 5
MOST_US: Final = 1000.0  # of the tens of milliseconds of processor time that a generation takes


async def measure(bench: Bench) -> list[Row]:
    """Rounds with and without in turns, in this process: nothing else of a generation differs."""
    del bench
    metrics = PrometheusConfig(bind_address=f"{LOOPBACK}:{free_port(set())}", durations_as_seconds=True)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=metrics))
    sides = {"on": Instruments(runtime.metric_meter, [ROUTE]), "off": Instruments(MetricMeter.noop, [ROUTE])}
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, instruments in sides.items():
            rounds[name].append(_us_each(instruments))
    on, off = median(rounds["on"]), median(rounds["off"])
    text = f"{on - off:.0f} µs of a generation"
    facts = {"on_us": on, "off_us": off, "rounds": rounds}
    return [Row("metrics", text, f"{off:.0f} µs without", on - off, Goal("≤", MOST_US), facts)]


def _us_each(instruments: Instruments) -> float:
    started = time.perf_counter()
    for _ in range(GENERATIONS):
        _one(instruments)
    return (time.perf_counter() - started) / GENERATIONS * 1e6


def _one(instruments: Instruments) -> None:
    """What is counted for a generation that a callback wakes."""
    for phase in PHASES[1:]:
        instruments.phase_ended(phase, "apixo", 1.0)
    instruments.submitted("apixo", "accepted")
    instruments.callback("apixo", "stored")
    instruments.woken(0.1)
    instruments.money("hold", 500_000)
    instruments.money("post", 500_000)
    instruments.stored(1_000_000)
    instruments.generation_ended(ROUTE, "completed", "")
