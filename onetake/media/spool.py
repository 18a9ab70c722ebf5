"""Files through which media pass on their way, and the removal of those that killed processes left behind.

Each folder holds a lock, which the system drops with the process that took it: so a folder that nobody holds is left
over, however young it is, and one that is held is in use, however long its clip takes.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from onetake.core.errors import TryLater

PREFIX: Final = "onetake-spool-"
YOUNG_S: Final = 10.0  # within it a folder may not hold its lock yet
RESERVE_BYTES: Final = 64 * 1024 * 1024
_LOCK: Final = "lock"


class Spool:
    """The port `Spool`: files under one folder, or under the system's temporary one."""

    def __init__(self, place: Path | None = None, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        """`reserve_bytes` of the disk are left to others: below that no file is begun."""
        self.place = Path(place or tempfile.gettempdir())
        self._reserve_bytes = reserve_bytes

    @property
    def free_bytes(self) -> int:
        """What may still be written here; 0 when the folder cannot be looked at."""
        try:
            return max(shutil.disk_usage(self.place).free - self._reserve_bytes, 0)
        except OSError:
            return 0

    @contextmanager
    def new_file(self) -> Generator[Path]:
        """The path of a file that is not there yet, in a folder of its own that is removed with the `with` block.

        Raises TryLater(`spool_full`) before anything is begun when there is no room.
        """
        if not self.free_bytes:
            raise TryLater("spool_full")
        try:
            folder = tempfile.TemporaryDirectory(prefix=PREFIX, dir=self.place)
        except OSError as error:
            raise TryLater("spool_full", f"({error.strerror})") from None
        with folder as name, Path(name, _LOCK).open("wb") as lock:
            with suppress(OSError):  # a file system without locks: what is left there is removed by hand
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name) / "media"

    def sweep(self) -> int:
        """Remove what processes left when they were killed; returns how many folders."""
        before, swept = time.time() - YOUNG_S, 0
        for folder in self.place.glob(f"{PREFIX}*"):
            with suppress(OSError):  # in use, removed by another worker just now, or another user's
                if folder.stat().st_mtime < before:
                    _remove_unheld(folder)
                    swept += 1
        return swept


def _remove_unheld(folder: Path) -> None:
    """Raises BlockingIOError when a process holds it."""
    with (folder / _LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
