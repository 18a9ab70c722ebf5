"""A plugin for the test runs of mutants: only the copy may be imported, and each failure is told with its kind."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PACKAGES = ("onetake", "workflows", "activities", "providers", "tests")
REPORT = "MUTANT_REPORT"
MOST_SAID = 90
_LOOK = f"import importlib.util as u; print(*(u.find_spec(name).origin for name in {PACKAGES}), sep='\\n')"


class Entry(NamedTuple):
    """One phase of one test; `kinds` are the classes of what it raised."""

    test: str
    when: str
    outcome: str
    kinds: list[str]
    said: str


_told: list[Entry] = []


def pytest_configure() -> None:
    """Refuse to run when this process, or one that it starts elsewhere, would import another tree than this."""
    here = Path.cwd().resolve()
    own = [getattr(importlib.util.find_spec(name), "origin", None) or "" for name in PACKAGES]
    asked = subprocess.run(
        [sys.executable, "-c", _LOOK], cwd=tempfile.gettempdir(), capture_output=True, text=True, check=False
    )
    for origin in (*own, *(asked.stdout.splitlines() or [asked.stderr])):
        if not Path(origin).resolve().is_relative_to(here):
            raise pytest.UsageError(f"{origin!r} would be imported, which is not in {here}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if call.excinfo is not None or report.when == "call":
        kinds = [kind.__name__ for kind in call.excinfo.type.__mro__] if call.excinfo else []
        said = f"{kinds[0]}: {call.excinfo.value}".splitlines()[0][:MOST_SAID] if call.excinfo else ""
        _told.append(Entry(item.nodeid, report.when, report.outcome, kinds, said))
    return report


def pytest_sessionfinish() -> None:
    Path(os.environ[REPORT]).write_text(json.dumps(_told))
