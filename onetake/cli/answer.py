"""What a command answers, and how an answer or an error reaches a person or a program.

A command returns one `Answer`; nothing else is written to stdout. That makes "exactly one document with --json" a fact
of the structure rather than of discipline. Talk goes to stderr.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from onetake.core.errors import CATALOGUE, OnetakeError, Violation

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = CATALOGUE["interrupted"]


@dataclass(frozen=True)
class Answer:
    """The document for programs, how to show it to people, and the exit code."""

    document: Any
    show: Callable[["Console"], None]
    exit_code: int = 0


@dataclass(frozen=True)
class Problem:
    """An error as it leaves the process."""

    code: str
    sentence: str
    detail: str
    hint: str
    exit_code: int
    violations: tuple[Violation, ...] = ()
    generation_id: str | None = None


class Stopped(Exception):
    """A command ends here, with this problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem


def problem_of(error: OnetakeError, generation_id: str | None = None) -> Problem:
    """The pieces of an error of ours."""
    violations: tuple[Violation, ...] = getattr(error, "violations", ())
    detail = "" if violations else error.detail
    hint = error.hint.replace(" ID`", f" {generation_id}`") if generation_id else error.hint
    exit_code = error.entry.exit_code
    return Problem(error.code, error.entry.sentence, detail, hint, exit_code, violations, generation_id)


def usage_problem(text: str, hint: str = "") -> Problem:
    """A command line that cannot be read."""
    entry = CATALOGUE["usage"]
    return Problem("usage", entry.sentence, text, hint or entry.hint, entry.exit_code)


def interruption(generation_id: str | None = None) -> Problem:
    """Ctrl-C, with how to go on; `generation_id` names what goes on without us."""
    hint = f"`onetake watch {generation_id}` waits for it again." if generation_id else INTERRUPTED.hint
    return Problem("interrupted", INTERRUPTED.sentence, "", hint, INTERRUPTED.exit_code, (), generation_id)


def write(outcome: Answer | Problem | object, *, as_json: bool) -> None:
    """Write an answer to stdout; an error as the one document on stdout with --json, and always on stderr."""
    match outcome:
        case Answer() if as_json:
            _write_document(outcome.document)
        case Answer():
            outcome.show(screen())
        case Problem():
            if as_json:
                _write_document(_document_of(outcome))
            say("\n".join(_lines_of(outcome)))
        case _:
            pass


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
    from rich.console import Console  # noqa: PLC0415 - only people wait for it

    from onetake.core.screen import is_screen  # noqa: PLC0415

    rich_screen = is_screen(sys.stdout)
    width = None if sys.stdout.isatty() else 160
    return Console(
        file=sys.stdout,
        force_terminal=rich_screen,
        color_system="auto" if rich_screen else None,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )


def say(text: str) -> None:
    """Talk to the person, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
