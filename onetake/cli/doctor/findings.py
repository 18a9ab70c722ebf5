"""What an examination of the setup finds, as `onetake doctor` tells it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from onetake.core.errors import CATALOGUE


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `code` names what is wrong and stays the same from version to version; "" when
    nothing is.

    `settings`: where it was read, `fix`: the one command or setting that mends it. A `warning` is no failure of the
    setup. `took_s` is how long it took to find out.
    """

    code: str
    part: str
    settings: tuple[str, ...]
    verdict: Literal["fine", "absent", "warning", "broken"]
    found: str
    fix: str = ""
    exit_code: int = 0
    took_s: float = 0.0

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self) | {"code": self.code or None}


def fine(found: str) -> Finding:
    """It is as it should be."""
    return Finding("", "", (), "fine", found)


def absent(code: str, found: str, fix: str) -> Finding:
    """It is not there, and need not be."""
    return Finding(code, "", (), "absent", found, fix)


def warning(code: str, found: str, fix: str) -> Finding:
    """It works, and somebody should look."""
    return Finding(code, "", (), "warning", found, fix)


def broken(code: str, found: str, fix: str, error: str) -> Finding:
    """It does not work; the exit code is this error's."""
    return Finding(code, "", (), "broken", found, fix, CATALOGUE[error].exit_code)
