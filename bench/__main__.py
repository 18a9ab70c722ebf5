"""The command: bring the stack up, run the measurements that are asked for, print the table, write the JSON."""

import argparse
import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from rich.console import Console

from bench import (
    callbacks,
    history,
    latency,
    metrics,
    overload,
    persist,
    reservations,
    roles,
    spend,
    throughput,
    tracing,
    waiting,
)
from bench.report import Row, show, write
from bench.stack import Bench, BenchError, prepared, stack
from onetake.core.errors import OnetakeError
from onetake.core.leaving import leave
from onetake.dev.devstack import DevStackError
from onetake.dev.stack import RunningStack

MEASUREMENTS: Final[dict[str, Callable[[Bench], Awaitable[list[Row]]]]] = {
    "throughput": throughput.measure,
    "latency": latency.measure,
    "history": history.measure,
    "callbacks": callbacks.measure,
    "reservations": reservations.measure,
    "metrics": metrics.measure,
    "spend": spend.measure,
    "persist": persist.measure,
    "overload": overload.measure,
    "roles": roles.measure,
    "tracing": tracing.measure,
    "waiting": waiting.measure,  # the last: its generations never end
}
RESULTS: Final = Path(".onetake/bench/results.json")
WIDTH: Final = 132
BROKEN: Final = "not measured"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the measurements. A missed goal is printed and is no failure; the exit code is 1 when something broke."""
    options = _options(arguments)
    names = [name for name in MEASUREMENTS if name in options.names or not options.names]
    try:
        with stack(temporal_in_memory=options.temporal == "memory") as running:
            rows = asyncio.run(_measure(running, names, long=options.long))
        write(rows, RESULTS, temporal=options.temporal, long=options.long, measurements=names)
        show(rows, Console(width=None if sys.stdout.isatty() else WIDTH))
    except (BenchError, DevStackError, OnetakeError) as error:
        sys.stderr.write(f"bench: {error}\n")
        leave(1)
    except BaseException:  # noqa: BLE001 - also a Ctrl-C leaves in the one way that is safe
        traceback.print_exc()
        leave(1)
    sys.stdout.write(f"\nAll figures: {RESULTS}\n")
    leave(1 if any(row.measured.startswith(BROKEN) for row in rows) else 0)


async def _measure(running: RunningStack, names: Sequence[str], *, long: bool) -> list[Row]:
    rows: list[Row] = []
    async with prepared(running, long=long) as built:
        for name in names:
            started = time.perf_counter()
            sys.stderr.write(f"{name} ...\n")
            try:
                rows += await MEASUREMENTS[name](built)
            except (BenchError, DevStackError, OnetakeError) as error:  # the others are worth having
                rows.append(Row(name, f"{BROKEN}: {error}"))
            sys.stderr.write(f"{name} measured in {time.perf_counter() - started:.0f} s\n")
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--long", action="store_true", help="more rounds, and 1,000 that wait or queue")
    parser.add_argument(
        "--temporal", choices=("memory", "file"), default="memory", help="where the dev server keeps its histories"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in MEASUREMENTS]:
        parser.error(f"there is no measurement {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    main()
