"""`python -m onetake.dev.devstack`: get the server programs ready before something that shows no progress."""

import os
import sys

from onetake.dev.devstack.binaries import ProgramFinder, programs_needed
from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.progress import progress_for


def main() -> int:
    """Exit code 0 once every program is there."""
    try:
        with ProgramFinder(os.environ, progress_for()) as finder:
            for program in programs_needed(os.environ):
                finder.find(program)
    except DevStackError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
