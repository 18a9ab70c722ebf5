"""The secrets of a running process, which are files that may be replaced: read again within a minute, with no restart.

Only what came from a file is read again: an environment never changes. A file that cannot be read, is empty or holds
what cannot be used leaves the former value in force, and the log names the setting. It never shows a value.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from onetake.core import logs
from onetake.core.secret_files import Unreadable, text_of
from onetake.core.settings import Settings, as_text, source_of

REREAD_S: Final = 60.0

Fits = Callable[[str], bool]

_log = logs.logger(__name__)


class Secrets:
    """What the settings' secrets are now. Safe to use from several threads."""

    def __init__(
        self, settings: Settings, *, every_s: float = REREAD_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._every_s = every_s
        self._now = now
        self._read_at = now()
        self._fits: dict[str, Fits] = {}
        self._files: dict[str, Path] = {}
        self._texts: dict[str, str] = {}
        self._writing = threading.Lock()

    def secret(self, field: str, fits: Fits = bool) -> "Secret":
        """The setting of this name, which is read again where it came from a file; what does not fit is not used."""
        text, source = as_text(getattr(self._settings, field)), source_of(field)
        path = source if isinstance(source, Path) and _holds(source, text) else None
        with self._writing:
            if path is not None:
                self._files[field] = path
            self._fits[field] = fits
            self._texts = self._texts | {field: text}
        return Secret(self, field)

    def texts(self, *fields: str) -> tuple[str, ...]:
        """The values, all as they were at one reading, which is less than `every_s` old."""
        if self._now() - self._read_at >= self._every_s:
            self.read_again()
        texts = self._texts
        return tuple(texts[field] for field in fields)

    def read_again(self) -> None:
        """Read the files now. One thread at a time: a slow one would put back what it read before the others."""
        with self._writing:
            self._read_at = self._now()
            self._texts = self._texts | {field: self._reread(field) for field in self._files}

    def _reread(self, field: str) -> str:
        former, name = self._texts[field], f"ONETAKE_{field.upper()}"
        try:
            text, reason = text_of(self._files[field]), ""
        except Unreadable as error:
            text, reason = former, str(error)
        if text != former and not self._fits[field](text):
            text, reason = former, "not usable"
        if reason:
            _log.warning("secret_not_read", name=name, detail=f"{reason}; the former value stays in force")
        if text != former:
            logs.mask(text)
            _log.info("secret_replaced", name=name)
        return text


def _holds(path: Path, text: str) -> bool:
    """Whether a setting is what this file says, and not what the caller has given."""
    try:
        return text_of(path) == text
    except Unreadable:
        return False


class Secret:
    """One secret; `again` reads it before the minute is over."""

    def __init__(self, secrets: Secrets, field: str) -> None:
        self._secrets = secrets
        self._field = field

    def now(self) -> str:
        """The value, less than a minute old."""
        return self._secrets.texts(self._field)[0]

    def again(self) -> str:
        """The value as it is this moment."""
        self._secrets.read_again()
        return self.now()
