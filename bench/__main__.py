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

from bench import callbacks, history, latency, persist, reservations, throughput
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
    "persist": persist.measure,
}
RESULTS: Final = Path(".onetake/bench/results.json")
WIDTH: Final = 132


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the measurements. A missed goal is printed and is no failure; the exit code is 1 when something broke."""
    options = _options(arguments)
    names = options.names or list(MEASUREMENTS)
    try:
        with stack(temporal_in_memory=options.temporal == "memory") as running:
            rows = asyncio.run(_measure(running, names))
        write(rows, RESULTS, temporal=options.temporal, measurements=names)
        show(rows, Console(width=None if sys.stdout.isatty() else WIDTH))
    except (BenchError, DevStackError, OnetakeError) as error:
        sys.stderr.write(f"bench: {error}\n")
        leave(1)
    except BaseException:  # noqa: BLE001 - also a Ctrl-C leaves in the one way that is safe
        traceback.print_exc()
        leave(1)
    sys.stdout.write(f"\nAll figures: {RESULTS}\n")
    leave(0)


async def _measure(running: RunningStack, names: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    async with prepared(running) as built:
        for name in names:
            started = time.perf_counter()
            sys.stderr.write(f"{name} ...\n")
            rows += await MEASUREMENTS[name](built)
            sys.stderr.write(f"{name} measured in {time.perf_counter() - started:.0f} s\n")
    return rows


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument(
        "--temporal", choices=("memory", "file"), default="memory", help="where the dev server keeps its histories"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in MEASUREMENTS]:
        parser.error(f"there is no measurement {', '.join(unknown)}")
    return options


if __name__ == "__main__":
    main()
