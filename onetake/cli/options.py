"""How a verb is registered, the options that verbs share, and how words out of a few and moments are read."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import typer

from onetake.cli.answer import Answer
from onetake.core.errors import CATALOGUE
from onetake.core.names import VENDOR_NAMES

Word = TypeVar("Word", bound=str)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - `--help` stays fast

        typer.echo(f"onetake {version('onetake')}")
        raise typer.Exit


def refuse_empty(option: str, given: str | None) -> None:
    """An empty text names nobody, which must never be read as everybody."""
    if given is not None and not given.strip():
        raise typer.BadParameter(f"{option} is empty: name one, or leave it out.")


def _tenant(given: str | None) -> str | None:
    refuse_empty("--tenant", given)
    return given


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.", metavar="T", callback=_tenant)]

_AS_JSON = inspect.Parameter(
    "as_json",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--json", help="Exactly one JSON document on stdout, also for errors; talk goes to stderr.")
    ],
)


def register(app: typer.Typer, verb: Callable[..., Any], *examples: str) -> None:
    """Add a verb under its function's name, with these examples below its help; one that answers also takes `--json`.

    Nothing hands `--json` to the verb: whoever writes its answer looks for it.
    """
    if inspect.signature(verb).return_annotation is Answer:
        verb = _with_json(verb)
    epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in examples)])
    app.command(verb.__name__.strip("_"), epilog=epilog)(verb)


def _with_json(verb: Callable[..., Answer]) -> Callable[..., Answer]:
    def answering(*, as_json: bool, **given: Any) -> Answer:
        del as_json
        _refuse_what_is_no_text(given)
        return verb(**given)

    return presented(answering, verb, [*inspect.signature(verb).parameters.values(), _AS_JSON])


def _refuse_what_is_no_text(given: Mapping[str, object]) -> None:
    """The words of a command line may be any bytes; in the ledger nothing has a name that is no text."""
    for name, value in given.items():
        words = cast("list[object]", value) if isinstance(value, list) else [value]
        if any(isinstance(each, str) and re.search(r"[\ud800-\udfff]", each) for each in words):
            raise typer.BadParameter(f"{name.replace('_', '-')} is not UTF-8 text.")


def presented(
    function: Callable[..., Answer], verb: Callable[..., Answer], parameters: Sequence[inspect.Parameter]
) -> Callable[..., Answer]:
    """`function` under the name and help of `verb`, with these parameters for Typer to read."""
    shown: Any = wraps(verb)(function)
    shown.__signature__ = inspect.signature(verb).replace(parameters=parameters)
    return shown


def group_of_verbs(app: typer.Typer, name: str, text: str) -> typer.Typer:
    """Add a group: named without one of its verbs, it shows its help as it is, and that is a usage error."""
    group = typer.Typer(help=text, callback=_needs_a_verb, invoke_without_command=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


def _needs_a_verb(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(CATALOGUE["usage"].exit_code)


def listed(words: Sequence[str]) -> str:
    """The words of a closed list, as a sentence names them: `one, two or three`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def one_of(name: str, given: str, allowed: Sequence[Word]) -> Word:
    """Return the word, or refuse it with the nearest legal one."""
    for word in allowed:
        if word == given:
            return word
    near = get_close_matches(given, allowed, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise typer.BadParameter(f"{name} is one of {', '.join(allowed)}.{hint}")


def vendor_of(given: str | None) -> str | None:
    """The vendor that a filter `--vendor` names; None, which is all of them, only where it was left out."""
    return None if given is None else one_of("--vendor", given, VENDOR_NAMES)


def moment(since: str) -> datetime:
    """A moment in the past: 90m, 2h, 3d before now, or a date and time (UTC unless it says otherwise)."""
    unit = {"m": "minutes", "h": "hours", "d": "days"}.get(since[-1:])
    try:
        if unit:
            return datetime.now(UTC) - timedelta(**{unit: float(since[:-1])})
        read = datetime.fromisoformat(since)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"--since {since!r} is neither 90m, 2h, 3d nor a date such as 2026-11-21.") from None
