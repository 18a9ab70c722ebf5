"""The verbs of the program, and a command line read as the program would read it, without running it."""

from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any

import typer

from onetake.cli import app


def verbs() -> dict[str, Any]:
    """Every command by its full name, such as `budget set`."""
    return _verbs_of(_root())


def _root() -> Any:
    return typer.main.get_command(app)


def _verbs_of(group: Any, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        full = f"{before}{name}"
        found |= _verbs_of(command, f"{full} ") if hasattr(command, "commands") else {full: command}
    return found


def named(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command or group that the words begin with, and the words after it. Raises KeyError for an unknown verb."""
    command, rest = _root(), list(words)
    while hasattr(command, "commands") and rest:
        command = command.commands[rest.pop(0)]
    return command, rest


def options(command: Any) -> set[str]:
    return {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)} | {"--help"}


def parse(words: Sequence[str]) -> None:
    """Read the words after `onetake`. Raises KeyError for an unknown verb, TyperException for what it does not take."""
    command, rest = named(words)
    with suppress(typer.Exit), redirect_stdout(StringIO()):  # `--help` shows itself and leaves
        command.make_context(" ".join(words), rest)
