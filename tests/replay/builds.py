"""Builds of the workers' code for tests: copies of `workflows/` with a change, which a process imports before ours."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Change:
    """Lines that are added before a line of `workflows/generation.py`, which must stand there once."""

    before: str
    lines: str

    def applied_to(self, source: str) -> str:
        assert source.count(self.before) == 1, f"workflows/generation.py has no single {self.before!r}"
        return source.replace(self.before, f"{self.lines}{self.before}")


# A timer that runs which are under way have not had at this place.
UNGUARDED = Change(
    before='        self._enter("submitting")\n',
    lines='        await workflow.sleep(0.01, summary="a new pause")\n',
)
# The same kind of change, as it has to be made: only runs that have not come here yet take the new path.
GUARDED = Change(
    before="        end = self._as_canceled(end)\n",
    lines=(
        '        if workflow.patched("a-pause-before-the-end"):\n'
        '            await workflow.sleep(0.01, summary="a new pause")\n'
    ),
)
# What never was a change: a run that took the new path on one build meets the old one on the next.
COMMENT = Change(before='        self._enter("submitting")\n', lines="        # another build, the same commands\n")


def build(folder: Path, *changes: Change) -> dict[str, str]:
    """Make a build in a folder; returns what its processes need in their environment."""
    shutil.copytree(ROOT / "workflows", folder / "workflows", ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / "workflows/generation.py"
    text = source.read_text(encoding="utf-8")
    for change in changes:
        text = change.applied_to(text)
    source.write_text(text, encoding="utf-8")
    return importing(folder)


def importing(folder: Path) -> dict[str, str]:
    """What makes a process import a build's `workflows`, and all else of ours from here."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def environment(environ: Mapping[str, str], *more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of a build: nothing of ours from outside, and then what is given."""
    given = {name: value for name, value in environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_"))}
    for each in more:
        given |= each
    return given
