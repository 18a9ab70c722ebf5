"""A tool that is missing costs its tests and nothing else, and the last lines of a run say which."""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.deployment import containers
from tests.deployment.containers import Podman, base

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "deployment/devtools/tools.sh"


def test_a_missing_tool_is_named_in_the_last_lines_with_its_tests_and_why(tmp_path: Path) -> None:
    tests = tmp_path / "test_wanting.py"
    tests.write_text(
        "from tests.deployment.tools import could_not_run, program\n"
        "def test_one():\n    program('no-such-tool')\n"
        "def test_two():\n    could_not_run('there is no cluster')\n"
        "def test_three():\n    assert True\n"
    )
    words = ["-m", "pytest", "-q", "-c", "pyproject.toml", "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words, "-p", "tests.deployment.conftest", str(tests)],
        cwd=ROOT,
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    last = [line for line in done.stdout.splitlines() if line.startswith("COULD NOT RUN")]
    why = "no-such-tool is not installed here, see `make test-deployment`"
    assert last == [
        f"COULD NOT RUN 1 tests: {why}: test_wanting.py::test_one",
        "COULD NOT RUN 1 tests: there is no cluster: test_wanting.py::test_two",
    ]
    assert "1 passed, 2 skipped" in done.stdout


def test_what_cannot_be_installed_is_no_error_and_its_reason_is_kept(tmp_path: Path) -> None:
    devtools = tmp_path / "deployment/devtools"
    devtools.mkdir(parents=True)
    shutil.copy(SCRIPT, devtools)
    done = subprocess.run([str(devtools / "tools.sh"), "no-such-tool"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert (tmp_path / ".onetake/tools/no-such-tool.why").read_text() == "no recipe\n"
    assert "no-such-tool: no recipe" in done.stderr


def test_every_tool_that_is_installed_by_default_has_a_recipe_and_every_recipe_is_used() -> None:
    script = SCRIPT.read_text()
    named = re.findall(r'^ALL="(.*)"$', script, re.MULTILINE)[0].split()
    recipes = re.findall(r"^    ([a-z][a-z0-9 |-]*)\) ", script, re.MULTILINE)
    known = [name for line in recipes for name in line.split(" | ")]
    assert named == sorted(named)
    assert sorted(known) == named
    assert recipes == sorted(recipes)


def test_those_who_ask_at_once_get_one_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _Importing("podman", {})
    monkeypatch.delenv("ONETAKE_TEST_BASE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(containers, "make_base", print)
    with ThreadPoolExecutor() as pool:
        names = set(pool.map(base, [engine] * 3))
    assert engine.imported == list(names)


@dataclass(frozen=True)
class _Importing(Podman):
    """An engine that has what it was given, after a while."""

    imported: list[str] = field(default_factory=list[str])

    def has_image(self, name: str) -> bool:
        return name in self.imported

    def run(self, *words: str, **_: object) -> subprocess.CompletedProcess[str]:
        time.sleep(0.2)
        self.imported.append(words[-1])
        return subprocess.CompletedProcess(words, 0)
