"""The processor time of one generation by the role of the process that uses it: the page on scaling counts with it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from statistics import median
from typing import Final

from bench import processes
from bench.report import Row
from bench.stack import LIMIT_S, Bench, completed, request
from onetake.client import Onetake
from onetake.core.names import ROLES
from onetake.core.settings import load_settings
from onetake.dev.devstack import Part
from onetake.dev.devstack.ports import free_port
from onetake.dev.stack import own_command

IN_FLIGHT: Final = 8
NUMBER: Final = 32
ROUNDS: Final = 3
LONG_ROUNDS: Final = 10
QUEUE: Final = "bench-roles"
PROMPT: Final = "a role apart [[sim:delay=1.5]]"
OTHERS: Final = ("gateway", "temporal", "postgres", "s3")


async def measure(bench: Bench) -> list[Row]:
    """Rounds with one process of each role; the median of each, and all of them together."""
    rounds: list[dict[str, float]] = []
    async with _apart(bench) as onetake:
        pids = {name: bench.running.devstack.pid_of(f"{QUEUE}-{name}") for name in ROLES}
        pids |= {name: bench.pids[name] for name in OTHERS}
        await _many(onetake, 4)
        for _ in range(LONG_ROUNDS if bench.long else ROUNDS):
            before = processes.cpu_seconds(pids)
            await _many(onetake, NUMBER)
            used = processes.cpu_seconds(pids)
            rounds.append({name: 1000 * (used[name] - before[name]) / NUMBER for name in used})
    rows = [Row("processor time of one, roles apart", f"{median(sum(each.values()) for each in rounds):.0f} ms")]
    return rows + [_row(name, [each[name] for each in rounds]) for name in rounds[0]]


def _row(name: str, found: list[float]) -> Row:
    return Row(f"  {name}", f"{median(found):.0f} ms", f"{min(found):.0f} to {max(found):.0f} ms", facts={"ms": found})


async def _many(onetake: Onetake, number: int) -> None:
    left = iter(range(number))

    async def caller() -> None:
        for _ in left:
            started = await onetake.start(request(PROMPT))
            completed(await onetake.result(started.id, LIMIT_S))

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


@asynccontextmanager
async def _apart(bench: Bench) -> AsyncGenerator[Onetake]:
    """A process of each role on a queue of its own, and a client of them."""
    stack = bench.running.devstack
    environ = bench.running.environment | {"ONETAKE_TASK_QUEUE": QUEUE}
    for role in ROLES:
        port = free_port(set())
        argv = own_command("worker", "--role", role, "--health-port", str(port))
        stack.start_part(Part(name=f"{QUEUE}-{role}", argv=argv, env=environ, health=f"http://127.0.0.1:{port}/readyz"))
    try:
        async with Onetake.connect(load_settings(task_queue=QUEUE)) as onetake:
            yield onetake
    finally:
        for role in ROLES:
            stack.stop_part(f"{QUEUE}-{role}")
