"""`python -m tests.mutants [--only TEXT] [--jobs N]`: take each safety out and see a test turn red. 1 when one stays
green."""

import argparse
import asyncio
import sys

from tests.mutants.run import run
from tests.mutants.table import MUTANTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Take out each safety, one at a time.")
    parser.add_argument("--only", default="", metavar="TEXT", help="the mutants whose name holds this text")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many mutants at a time")
    parser.add_argument("--list", action="store_true", help="name the mutants and their tests, and run nothing")
    options = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if options.only in mutant.name]
    if not mutants:
        parser.error(f"no mutant's name holds {options.only!r}")
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.file}", *(f"    {test}" for test in mutant.tests), sep="\n")
        return 0
    return 0 if asyncio.run(run(mutants, max(options.jobs, 1))) else 1


if __name__ == "__main__":
    sys.exit(main())
