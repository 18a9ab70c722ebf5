"""What holds for every verb, read off the command tree."""

import shlex

import pytest
import typer

from tests.cli.tree import options, parse, verbs

# They run a part in the foreground, and answer nothing.
FOREGROUND = {"dev", "worker", "gateway", "simulator"}


def test_every_verb_that_answers_takes_json() -> None:
    silent = {name for name, command in verbs().items() if "--json" not in options(command)}
    assert silent == FOREGROUND


@pytest.mark.parametrize("verb", verbs())
def test_a_verb_can_read_its_own_examples(verb: str) -> None:
    examples = [line.strip() for line in verbs()[verb].epilog.splitlines() if line.startswith("  ")]
    assert examples
    for line in examples:
        program, *words = shlex.split(line.partition(" < ")[0])
        assert (program, " ".join(words).startswith(verb)) == ("onetake", True)
        parse(words)


@pytest.mark.parametrize(
    "line",
    [
        "generate ROUTE PROMPT --duratoin 5",
        "generate ROUTE",
        "generate ROUTE PROMPT --duration five",
        "budget set tenant acme month 250 more",
        "worker --json",
    ],
)
def test_what_a_verb_does_not_take_cannot_be_read(line: str) -> None:
    with pytest.raises(typer.TyperException):
        parse(line.split())


def test_an_unknown_verb_cannot_be_read() -> None:
    with pytest.raises(KeyError):
        parse(["budget", "sett", "tenant", "acme", "month", "250"])
