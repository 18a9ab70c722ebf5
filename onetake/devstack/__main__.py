"""`python -m onetake.devstack`: make the server programs ready, built once, before something that shows no progress."""

import os
import sys

from onetake.devstack.binaries import Ladder, programs_needed
from onetake.devstack.errors import DevStackError
from onetake.devstack.progress import progress_for


def main() -> int:
    """Exit code 0 once every program is there."""
    try:
        with Ladder(os.environ, progress_for()) as ladder:
            for program in programs_needed(os.environ):
                ladder.find(program)
    except DevStackError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
