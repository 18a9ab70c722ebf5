"""`python -m tests.chaos --seed 123 --generations 200`: the chaos suite. One seed by default, a random one.

The exit code is 1 when an invariant is broken; the last line then says how to run that seed again.
"""

import argparse
import asyncio
import json
import secrets
import sys
import traceback

from onetake.core.leaving import leave
from tests.chaos.run import Report, Size, repro, run, run_under_load, say_on_stderr
from tests.chaos.world import GATEWAYS, WORKERS


def main() -> None:
    options = _options()
    first = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    reports: list[Report] = []
    for seed in range(first, first + options.seeds):
        try:
            reports.append(asyncio.run(_run(seed, options)))
        except BaseException:  # noqa: BLE001 - whatever it was, its seed must be known
            traceback.print_exc()
            again = repro(seed, options.generations, _size(options))
            sys.stderr.write(f"seed {seed} did not come to its end. Again: {again}\n")
            leave(1)
        show(reports[-1], _size(options))
    leave(1 if any(report.violations for report in reports) else 0)


async def _run(seed: int, options: argparse.Namespace) -> Report:
    if options.busy is None:
        return await run(seed, options.generations, _size(options), say=say_on_stderr)
    return await run_under_load(seed, options.generations, options.busy, say=say_on_stderr)


def _size(options: argparse.Namespace) -> Size:
    return Size(options.workers, options.gateways)


def show(report: Report, size: Size) -> None:
    """The facts, then what is broken, then how to see it again."""
    lines = ["", *(f"{name:<12} {json.dumps(value)}" for name, value in report.facts.items())]
    for number, found in report.violations.items():
        lines += [f"{number}: {line}" for line in found]
    verdict = (
        f"BROKEN: {', '.join(report.violations)}. Again: {repro(report.seed, report.generations, size)}"
        if report.violations
        else "all invariants hold"
    )
    sys.stdout.write("\n".join([*lines, f"seed {report.seed}: {verdict}", ""]))
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the first seed; without it a random one")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other (default: 1)")
    parser.add_argument("--generations", type=int, default=200, help="generations of each run (default: 200)")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"every second is for media (default: {WORKERS})")
    parser.add_argument("--gateways", type=int, default=GATEWAYS, help=f"(default: {GATEWAYS})")
    parser.add_argument(
        "--busy", type=int, help="no faults: so many processes burn the processor, and every generation must complete"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
