"""What traces cost: two workers and two clients on the same servers, one of each traced, in turns."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench import processes
from bench.report import Goal, Row
from bench.stack import LIMIT_S, Bench, completed, request
from bench.stack import start_module as start
from onetake.client import Onetake
from onetake.dev.devstack.ports import free_port

IN_FLIGHT: Final = 8
NUMBER: Final = 32  # in one round
ROUNDS: Final = 4
LONG_ROUNDS: Final = 12
MOST: Final = 1.02
SHARED: Final = ("temporal", "postgres", "s3")
PROMPT: Final = "a traced harbour [[sim:delay=1.5]]"
ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass
class _Side:
    """A worker with its client; milliseconds of processor time of all parts, and seconds, for each generation."""

    onetake: Onetake
    pids: dict[str, int]
    cpu_ms: list[float] = field(default_factory=list[float])
    seconds: list[float] = field(default_factory=list[float])

    async def round(self) -> None:
        before, began = processes.cpu_seconds(self.pids), time.perf_counter()
        left = iter(range(NUMBER))
        await asyncio.gather(*(self._caller(left) for _ in range(IN_FLIGHT)))
        used = processes.cpu_seconds(self.pids)
        self.cpu_ms.append(1000 * sum(used[name] - before[name] for name in used) / NUMBER)
        self.seconds.append((time.perf_counter() - began) / NUMBER)

    async def _caller(self, left: Iterator[int]) -> None:
        for _ in left:
            await self.once()

    async def once(self) -> None:
        started = await self.onetake.start(request(PROMPT))
        completed(await self.onetake.result(started.id, LIMIT_S))


async def measure(bench: Bench) -> list[Row]:
    """Rounds of both sides in turns; the other one begins each time."""
    port = free_port(set())
    start(bench.running, "collector", "bench.collector", str(port), health=f"http://127.0.0.1:{port}/")
    async with _side(bench, "bench-plain", None) as plain, _side(bench, "bench-traced", port) as traced:
        for number in range(LONG_ROUNDS if bench.long else ROUNDS):
            for side in (plain, traced) if number % 2 else (traced, plain):
                await side.round()
    bench.running.devstack.stop_part("collector")
    return [_row(plain, traced)]


@asynccontextmanager
async def _side(bench: Bench, name: str, collector: int | None) -> AsyncGenerator[_Side]:
    environ = {} if collector is None else {ENDPOINT: f"http://127.0.0.1:{collector}"}
    async with bench.deployment(name, environ) as onetake:
        pids = {part: bench.pids[part] for part in SHARED} | {"worker": bench.running.devstack.pid_of(name)}
        side = _Side(onetake, pids)
        os.environ.update(environ)  # the client takes it up with its first call
        await side.once()
        for variable in environ:
            del os.environ[variable]
        yield side


def _row(plain: _Side, traced: _Side) -> Row:
    """Of each pair of rounds, which met about the same load of this machine, the ratio; then their median."""
    ratios = [on / off for on, off in zip(traced.cpu_ms, plain.cpu_ms, strict=True)]
    facts = {"cpu_ms": {"plain": plain.cpu_ms, "traced": traced.cpu_ms}, "ratios": ratios}
    facts["seconds"] = {"plain": plain.seconds, "traced": traced.seconds}
    return Row(
        "processor time of one, traced",
        f"{median(traced.cpu_ms):.0f} ms",
        f"not traced {median(plain.cpu_ms):.0f} ms",
        median(ratios),
        Goal("≤", MOST),
        facts,
    )
