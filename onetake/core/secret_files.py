"""Settings as files: one file for each, named as its environment variable, in the folders of `ONETAKE_SECRETS_DIR`.

Several folders are separated by `:`; the first that has a file wins. Links are followed at each reading, for Kubernetes
replaces a whole folder by one link. No error names a value.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from onetake.core.errors import Refused

FOLDERS: Final = "ONETAKE_SECRETS_DIR"
MOST_BYTES: Final = 64 * 1024


class Unreadable(Exception):
    """Says why a file gives no value, and nothing of what is in it."""


def files(environ: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """The files by the names of their variables in capitals. Raises Refused(`settings_invalid`) for a folder that
    cannot be listed."""
    found: dict[str, Path] = {}
    for folder in environ.get(FOLDERS, "").split(":"):
        if folder.strip():
            found = _in(Path(folder.strip())) | found
    return found


def _in(folder: Path) -> dict[str, Path]:
    try:
        return {path.name.upper(): path for path in sorted(folder.iterdir()) if path.is_file()}
    except OSError as error:
        reason = error.strerror or type(error).__name__
    raise Refused("settings_invalid", f"{FOLDERS} names {folder}: {reason}.")


def text_of(path: Path) -> str:
    """What a file holds, without spaces and line breaks at its ends. Raises Unreadable, also for an empty one."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise Unreadable("too large")
        text = bare(data.decode())
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError:
        reason = "not a text of one line"
    else:
        if text:
            return text
        reason = "empty"
    raise Unreadable(reason)


def bare(text: str) -> str:
    """A text without what an editor or `echo` left at its ends. Raises ValueError for a control character inside."""
    stripped = text.strip()
    if any(ord(character) < 32 or ord(character) == 127 for character in stripped):
        raise ValueError("a control character inside")
    return stripped
