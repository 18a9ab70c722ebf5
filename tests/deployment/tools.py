"""Programs that these tests need and a machine may lack.

`make test-deployment` installs what it can (`deployment/devtools/tools.sh`). A test whose tool is missing is skipped,
and the last lines of the run name the tool, the tests that did not run and why: nothing is left out in silence.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

import pytest

_ROOT: Final = Path(__file__).parents[2]
# Beside the environment that runs: a mutant's copy of the tree has none of its own.
_HOME: Final = Path(sys.prefix).parent
FOLDERS: Final = (Path(sys.prefix) / "bin", _HOME / ".onetake/tools/bin", _ROOT / ".onetake/tools/bin")
COULD_NOT_RUN: Final = "could not run: "


def program(name: str, installed_by: str = "`make test-deployment`") -> str:
    """The path of a program; the test is skipped, and named at the end, when it is nowhere."""
    path = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PATH", "")])
    return shutil.which(name, path=path) or could_not_run(
        f"{name} is not installed here, see {_note(name, installed_by)}"
    )


def could_not_run(why: str) -> NoReturn:
    """End the test without a verdict; the last lines of the run say so."""
    pytest.skip(f"{COULD_NOT_RUN}{why}")


def _note(name: str, installed_by: str) -> str:
    """What the installer said of it."""
    note = _ROOT / ".onetake/tools" / f"{name}.why"
    return note.read_text(encoding="utf-8").strip() if note.exists() else installed_by
