"""Options that verbs share, and how a word out of a few is checked."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated

import typer

from onetake.core.errors import CATALOGUE


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - `--help` stays fast

        typer.echo(f"onetake {version('onetake')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Exactly one JSON document on stdout, also for errors; talk goes to stderr.")
]


def examples(*lines: str) -> str:
    """The examples under a verb's help, one a line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def needs_a_verb(context: typer.Context) -> None:
    """The callback of a group of verbs: named without one, it shows its help as it is, and that is a usage error."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(CATALOGUE["usage"].exit_code)


def one_of(name: str, given: str, allowed: Sequence[str]) -> str:
    """Return the word, or refuse it with the nearest legal one."""
    if given in allowed:
        return given
    near = get_close_matches(given, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise typer.BadParameter(f"{name} is one of {', '.join(allowed)}.{hint}")
