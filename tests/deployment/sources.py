"""A copy of the repository as it lies on a developer's disk: with files of secrets beside the code."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.deployment.containers import CANARY, ROOT

REVISION_DATE: Final = "2026-01-02T03:04:05Z"
# What people leave beside the code, each with a word of its own.
LEFT: Final = {
    ".env": "dotenv",
    ".git/credentials": "git",
    "onetake/.env": "inner",
    "onetake/secrets/ONETAKE_GMI_API_KEY": "folder",
    "deployment/compose/secrets/onetake/ONETAKE_CODEC_KEY": "compose",
    ".onetake/dev.env": "stack",
    "tests/.env.local": "tests",
}


def canary(word: str) -> str:
    return f"{CANARY}-{word}"


def planted_sources(folder: Path) -> Path:
    """Copy what git knows of, as one commit, and leave the secrets. Repeatable."""
    if folder.exists():
        return folder
    draft = folder.with_name(f"{folder.name}-{os.getpid()}")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        _copy(ROOT / name, draft / name)
    _commit(draft)
    for name, word in LEFT.items():
        place = draft / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"ONETAKE_GMI_API_KEY={canary(word)}\n")
    try:
        draft.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(draft)
    return folder


def _copy(file: Path, to: Path) -> None:
    if not file.exists():
        return  # deleted, and not committed yet
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, to, follow_symlinks=False)


def _commit(folder: Path) -> None:
    who = {"GIT_AUTHOR_DATE": REVISION_DATE, "GIT_COMMITTER_DATE": REVISION_DATE}
    name = ["-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "--all"], [*name, "commit", "-q", "-m", "as it is"]):
        subprocess.run(["git", *words], cwd=folder, env={**os.environ, **who}, check=True)
