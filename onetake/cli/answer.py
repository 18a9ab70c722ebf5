"""What a command answers, and how an answer or an error reaches a person or a program.

A command returns one `Answer`, which `write` puts on stdout; so with --json stdout holds exactly one document. Whatever
else a command says goes to stderr.
"""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onetake.core.errors import CATALOGUE, OnetakeError, Violation

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Answer:
    """The document for programs, how to show it to people, and the exit code."""

    document: Any
    show: Callable[["Console"], None]
    exit_code: int = 0


@dataclass(frozen=True)
class Problem:
    """An error as it leaves the process: a code of the catalogue, whose sentence, hint and exit code it has.

    `advice` is a hint that knows more than the catalogue's.
    """

    code: str
    detail: str = ""
    advice: str = ""
    violations: tuple[Violation, ...] = ()
    generation_id: str | None = None

    @property
    def sentence(self) -> str:
        return CATALOGUE[self.code].sentence

    @property
    def hint(self) -> str:
        return self.advice or CATALOGUE[self.code].hint

    @property
    def exit_code(self) -> int:
        return CATALOGUE[self.code].exit_code


class Stopped(Exception):
    """A command ends here, with this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem


def problem_of(error: OnetakeError, generation_id: str | None = None) -> Problem:
    """An error of ours; its hint names the generation where one is concerned."""
    violations: tuple[Violation, ...] = getattr(error, "violations", ())
    advice = error.hint.replace(" ID`", f" {generation_id}`") if generation_id else ""
    return Problem(error.code, "" if violations else error.detail, advice, violations, generation_id)


def interruption(generation_id: str | None = None, *, starting: bool = False) -> Problem:
    """Ctrl-C, with how to go on; `generation_id` names what goes on without us. `starting`: its id is not known yet."""
    advice = "`onetake list` shows whether a generation was started." if starting else ""
    if generation_id:
        advice = f"`onetake watch {generation_id}` waits for it again."
    return Problem("interrupted", advice=advice, generation_id=generation_id)


def write(outcome: Answer | Problem | object, *, as_json: bool) -> None:
    """Write an answer to stdout; an error as the one document on stdout with --json, and always on stderr.

    Raises OSError when stdout does not take it."""
    match outcome:
        case Answer() if as_json:
            _write_document(outcome.document)
        case Answer():
            outcome.show(screen())
        case Problem():
            write_problem(outcome)
            if as_json:
                _write_document(_document_of(outcome))
        case _:
            pass
    sys.stdout.flush()


def write_problem(problem: Problem) -> None:
    """Tell an error on stderr."""
    say("\n".join(_lines_of(problem)))


def _document_of(problem: Problem) -> Mapping[str, Any]:
    message = f"{problem.sentence} {problem.detail}".strip()
    error: dict[str, Any] = {"code": problem.code, "message": message, "hint": problem.hint}
    if problem.violations:
        error["violations"] = [asdict(violation) for violation in problem.violations]
    return {"error": error} | ({"id": problem.generation_id} if problem.generation_id else {})


def _lines_of(problem: Problem) -> list[str]:
    lines = [f"{problem.code}: {problem.sentence} {problem.detail}".rstrip()]
    lines += [f"  {violation}" for violation in problem.violations]
    return [*lines, f"  {problem.hint}"]


def _write_document(document: Any) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")  # whole, or nothing when it is no JSON


def screen() -> "Console":
    """The console for people on stdout: no escape sequence unless it is a terminal that wants them."""
    from onetake.cli.screens import Screen  # noqa: PLC0415 - only people wait for it
    from onetake.core.screen import is_screen  # noqa: PLC0415

    rich_screen = is_screen(sys.stdout)
    width = None if sys.stdout.isatty() else 160
    return Screen(
        file=sys.stdout,
        force_terminal=rich_screen,
        color_system="auto" if rich_screen else None,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def say(text: str) -> None:
    """Tell the person something, on stderr. Where nobody can hear it, the work goes on."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
