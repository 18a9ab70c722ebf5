"""The command line `onetake`: each verb is a function, and each module holds the verbs of one group.

A verb reads its arguments, calls the client or the ledger, and returns an `Answer`. Exit codes: 0 done, 1 the
generation failed, 2 usage or settings, 3 refused by validation, 4 by a budget, 5 by the vendor, 6 the wait timed out,
7 the outcome is unknown, 8 not authorised, 9 a part cannot be reached, 10 the answer could not be written, 130 Ctrl-C.
Modules here import nothing heavy at their top, so that `--help` is quick.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import typer

from onetake.cli import (
    account_statements,
    accounts,
    configuration,
    deploys,
    development,
    doctor,
    drift,
    generations,
    namespace,
    policies,
    processes,
    replays,
    routes,
    spend,
    suspense,
    sweeping,
    tenants,
    vendors,
)
from onetake.cli.answer import Answer, Problem, Stopped, interruption, problem_of, write, write_problem
from onetake.cli.options import Version
from onetake.core.errors import CATALOGUE, OnetakeError
from onetake.core.leaving import leave

app = typer.Typer(
    name="onetake",
    help="Generative video: each generation is submitted once, paid once and never lost.",
    epilog="Start here: `onetake demo`, or `onetake dev` and then `onetake generate ROUTE PROMPT` in another terminal.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100},
)


@app.callback()
def _root(context: typer.Context, version: Version = False) -> None:
    """Without a verb, show the help."""
    del version
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for module in (
    generations,
    replays,
    suspense,
    sweeping,
    routes,
    accounts,
    policies,
    account_statements,
    spend,
    drift,
    drift,
    tenants,
    vendors,
    development,
    doctor,
    configuration,
    deploys,
    processes,
    namespace,
):
    module.add_to(app)


def main() -> NoReturn:
    """Run the command line of this process, and end the process with its exit code."""
    _open_streams()
    leave(execute(sys.argv[1:]))


def _open_streams() -> None:
    """Where stdout or stderr was closed (`>&-`), nobody wants to read it; no file of ours may get its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))


def execute(arguments: Sequence[str]) -> int:
    """Run one command and write its answer; returns the exit code."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json, stdout = "--json" in own, sys.stdout
    try:
        answer = app(args=list(arguments), prog_name="onetake", standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - the one place where every error becomes an exit code
        sys.stdout = stdout  # Typer puts another in its place when a reader went away
        answer = None if _is_of_echo(error.__context__) else _problem(error)
    if answer == CATALOGUE["interrupted"].exit_code:  # Typer turns a KeyboardInterrupt into its code
        answer = interruption()
    answer = _written(answer, as_json=as_json)
    return answer.exit_code if isinstance(answer, Answer | Problem) else int(answer or 0)


def _written(answer: Any, *, as_json: bool) -> Any:
    """Write an answer; when it cannot be written, the error instead."""
    try:
        write(answer, as_json=as_json)
    except BrokenPipeError:  # whoever reads us may have seen enough
        pass
    except OSError as error:
        lost = _not_written(error)
        if answer != lost:
            write_problem(lost)
        return lost
    except Exception as error:  # noqa: BLE001 - as above
        answer = _problem(error)
        with suppress(OSError):
            write(answer, as_json=as_json)
    return answer


def _problem(error: BaseException) -> Problem:
    match error:
        case OSError() if _is_of_echo(error):
            return _not_written(error)
        case Stopped():
            return error.problem
        case OnetakeError():
            return problem_of(error)
        case KeyboardInterrupt():
            return interruption()
        case typer.TyperException():
            return _usage(error)
        case _:
            return _unforeseen(error)


def _is_of_echo(error: BaseException | None) -> bool:
    """Whether Typer could not write the help, or the version. A reader that went away is the context of its exit."""
    return isinstance(error, OSError) and traceback.extract_tb(error.__traceback__)[-1].name == "echo"


def _not_written(error: OSError) -> Problem:
    return Problem("answer_not_written", f"({error.strerror})")


def _usage(error: typer.TyperException) -> Problem:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "onetake"
    return Problem("usage", error.format_message(), f"`{path} --help` shows examples.")


def _unforeseen(error: BaseException) -> Problem:
    """An error that nothing foresaw. Its text may hold a secret, so only its type and place are shown."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Problem("internal_error", f"({type(error).__name__} at {Path(place.filename).name}:{place.lineno})")
