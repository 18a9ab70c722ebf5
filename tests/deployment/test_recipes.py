"""The recipes of image and compose, read by the linters of their languages."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.deployment.tools import program

ROOT: Final = Path(__file__).parents[2]
SCRIPTS: Final = sorted(
    str(path.relative_to(ROOT)) for name in ("image", "compose") for path in (ROOT / "deployment" / name).rglob("*.sh")
)


@pytest.mark.parametrize(
    ("linter", "files"), [("hadolint", ["deployment/image/Containerfile"]), ("shellcheck", SCRIPTS)]
)
def test_a_linter_finds_nothing(linter: str, files: list[str]) -> None:
    done = subprocess.run([program(linter), *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_file_is_a_link() -> None:
    """Not every way of copying a repository keeps links; what stands in their place looks like a file."""
    assert [str(path) for path in (ROOT / "deployment").rglob("*") if path.is_symlink()] == []
