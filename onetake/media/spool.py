"""Files through which media pass on their way, and the removal of those that killed processes left behind."""

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "onetake-spool-"
STALE_S: Final = 3600.0  # no attempt lasts as long


class Spool:
    """The port `Spool`: files under one folder, or under the system's temporary one."""

    def __init__(self, place: Path | None = None) -> None:
        self._place = place

    @contextmanager
    def new_file(self) -> Generator[Path]:
        """The path of a file that is not there yet, in a folder of its own that is removed with the `with` block."""
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=self._place) as folder:
            yield Path(folder) / "media"

    def sweep(self, older_than_s: float = STALE_S) -> int:
        """Remove what a process left when it was killed; returns how many. What is younger may be in use."""
        before, swept = time.time() - older_than_s, 0
        for folder in Path(self._place or tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with suppress(OSError):  # another worker removes it just now, or another user owns it
                if folder.stat().st_mtime < before:
                    shutil.rmtree(folder)
                    swept += 1
        return swept
