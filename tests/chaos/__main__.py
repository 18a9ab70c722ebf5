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
from tests.chaos.run import Report, repro, run, say_on_stderr


def main() -> None:
    options = _options()
    first = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    reports: list[Report] = []
    for seed in range(first, first + options.seeds):
        try:
            reports.append(asyncio.run(run(seed, options.generations, say=say_on_stderr)))
        except BaseException:  # noqa: BLE001 - whatever it was, its seed must be known
            traceback.print_exc()
            sys.stderr.write(f"seed {seed} did not come to its end. Again: {repro(seed, options.generations)}\n")
            leave(1)
        show(reports[-1])
    leave(1 if any(report.violations for report in reports) else 0)


def show(report: Report) -> None:
    """The facts, then what is broken, then how to see it again."""
    lines = ["", *(f"{name:<12} {json.dumps(value)}" for name, value in report.facts.items())]
    for number, found in report.violations.items():
        lines += [f"{number}: {line}" for line in found]
    verdict = (
        f"BROKEN: {', '.join(report.violations)}. Again: {repro(report.seed, report.generations)}"
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
    return parser.parse_args()


if __name__ == "__main__":
    main()
