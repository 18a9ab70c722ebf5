"""Folders through which media pass on their way, and the removal of those that killed processes left behind."""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "onetake-spool-"
STALE_S: Final = 3600.0  # no attempt lasts as long


def new_folder(place: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A folder that is removed when its `with` block is left; `place` None is the system's temporary folder."""
    return tempfile.TemporaryDirectory(prefix=PREFIX, dir=place)


def sweep(place: Path | None, older_than_s: float = STALE_S) -> int:
    """Remove folders that a process left when it was killed; returns how many. Younger ones may be in use."""
    before, swept = time.time() - older_than_s, 0
    for folder in Path(place or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker removes it just now, or another user owns it
            if folder.stat().st_mtime < before:
                shutil.rmtree(folder)
                swept += 1
    return swept
