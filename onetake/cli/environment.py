"""Where a command finds its settings: the environment, `.env`, and a stack that `onetake dev` runs in this folder.

`onetake dev` writes its addresses to `.onetake/dev.env` and holds a lock on that file while it lives; the kernel drops
the lock however it ends. Another terminal uses the file only when the lock is held, the file is this user's alone, and
no variable that is set already says otherwise: half of one stack and half of another is never mixed.
"""

# ruff: noqa: PLC0415 - `--help` stays fast

import fcntl
import getpass
import os
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onetake.cli.answer import say
from onetake.core import crashpoints

if TYPE_CHECKING:
    from onetake.core.settings import Settings

HOME = Path(".onetake")
FILE_NAME = "dev.env"


def settings() -> "Settings":
    """Read the settings, with those of a running `onetake dev` when nothing else is set. Raises Refused."""
    from onetake.core.settings import load_settings

    crashpoints.refuse_mistake()
    adopt_dev_stack(HOME, os.environ)
    return load_settings()


def operator() -> str:
    """Who runs the command, as the ledger writes it down."""
    try:
        return f"operator {getpass.getuser()}"
    except (KeyError, OSError):  # a container may have no name for its user
        return "operator"


def adopt_dev_stack(home: Path, environ: MutableMapping[str, str]) -> None:
    """Take over the variables of the stack that runs in `home`, all or none, and say which."""
    offered = _offered(home / FILE_NAME)
    if not offered:
        return
    given = {**_dotenv(), **environ}
    different = sorted(name for name, value in offered.items() if given.get(name, value) != value)
    if different:
        say(f"Not using the stack of `onetake dev` in {home}/: {', '.join(different)} is set to something else.")
    elif any(name not in environ for name in offered):
        environ.update(offered)
        say(f"Using the stack of `onetake dev` in {home}/.")


@contextmanager
def offering(home: Path, variables: Mapping[str, str]) -> Generator[Path]:
    """Offer a stack to other terminals while the block runs. The file holds secrets and is readable by us only."""
    path = home / FILE_NAME
    with open(path, "a+", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write("".join(f"export {name}={_quoted(value)}\n" for name, value in variables.items()))
        file.flush()
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _offered(path: Path) -> dict[str, str]:
    try:
        with path.open() as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.getuid() or facts.st_mode & 0o077 or not _is_locked(file.fileno()):
                return {}
            return dict(_read_line(line) for line in file if line.startswith("export "))
    except OSError:
        return {}


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read_line(line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("export ").rstrip("\n").partition("=")
    return name, value[1:-1].replace("'\\''", "'")


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _dotenv() -> dict[str, str]:
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(".env").items() if value is not None}
