"""The how-to is true: the vendor that its page builds conforms, and one with a piece left out is told which."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, page

PAGE = "docs/how-to-add-a-vendor.md"
PACKAGES = ("onetake", "providers", "activities", "workflows")
LINES_MOST = 155

_BLOCK = re.compile(r"^`([\w/.]+)`:\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {path: (language, text) for path, language, text in _BLOCK.findall(page(PAGE))}
NEW_FILES = {path: text for path, (language, text) in BLOCKS.items() if language != "diff"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source in which the page has been followed to its end."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)  # with what is compiled already
    for path, (language, text) in BLOCKS.items():
        file = tmp_path / path
        file.write_text(_applied(file.read_text(encoding="utf-8"), text) if language == "diff" else text)
    return tmp_path


def _applied(text: str, diff: str) -> str:
    """The file with each line that begins with + behind the line that stands before it in the page."""
    before = ""
    for line in diff.splitlines():
        content = f"{line[1:]}\n"
        assert text.count(f"\n{line[1:]}\n") == 1 or line.startswith("+"), (
            f"the page quotes a line that is gone: {line}"
        )
        if line.startswith("+"):
            text = text.replace(f"\n{before}", f"\n{before}{content}", 1)
        before = content
    return text


def check(source: Path) -> tuple[int, dict[str, str]]:
    """Run the kit on the toy vendor: the exit code, and what to do by scenario."""
    done = subprocess.run(
        [sys.executable, "-m", "onetake.cli", "vendors", "check", "toy", "--json"],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=source,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    (report,) = json.loads(done.stdout)["vendors"]
    return done.returncode, {each["scenario"]: each["todo"] for each in report["scenarios"] if each["verdict"] != "ok"}


def test_the_vendor_of_the_page_conforms(source: Path) -> None:
    code, lacking = check(source)
    assert not lacking
    assert code == 0


def test_the_vendor_of_the_page_is_small() -> None:
    lines = [line for text in NEW_FILES.values() for line in text.splitlines()]
    assert set(NEW_FILES) == {"providers/routes/toy.toml", "providers/toy.py", "onetake/dev/simulator/toy.py"}
    assert len(lines) <= LINES_MOST
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("path", "piece", "scenario", "todo"),
    [
        ("providers/toy.py", "def callback_hint", "It offers `callback_hint`.", "def callback_hint(body: bytes)"),
        ("providers/toy.py", "def read_status", "It offers `read_status`.", "def read_status(response"),
        (
            "providers/routes/toy.toml",
            "cadence =",
            "`providers/routes/toy.toml` has every section.",
            "[cadence] is mis",
        ),
        ("providers/vendors.py", '    "toy": toy,', "The driver knows it.", "VENDORS in providers/vendors.py"),
        (
            "onetake/core/names.py",
            '    "toy",',
            "Its address and its key have settings.",
            "VENDOR_NAMES in onetake/core",
        ),
        (
            "onetake/dev/simulator/app.py",
            "        Toy,",
            "The simulator plays it.",
            "onetake/dev/simulator/app.py",
        ),
    ],
)
def test_the_kit_names_what_is_left_out(source: Path, path: str, piece: str, scenario: str, todo: str) -> None:
    file = source / path
    file.write_text(_without(file.read_text(encoding="utf-8"), piece))
    code, lacking = check(source)
    assert code == 1
    assert todo in lacking[scenario]


def _without(text: str, piece: str) -> str:
    """The file without the paragraph, or the line, that begins with this."""
    start = text.index(f"\n{piece}") + 1
    end = text.find("\n\n\n" if piece.startswith("def ") else "\n", start)
    return text[:start] + (text[end + 1 :] if end >= 0 else "")
