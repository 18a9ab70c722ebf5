"""The table of mutants fits today's source, so that `make mutants` cannot rot unseen. Nothing of it is run here."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.changes import Change, Expression, Quoted, Statement, Text, Unfit
from tests.mutants.table import MUTANTS, ROOT, Mutant

SOURCE = """
ROWS = "select 1 where a"
class Account:
    def read(self):
        if locked(self):
            return None
        return key(self)
"""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_takes_something_out(mutant: Mutant) -> None:
    assert meaning(mutant.file, mutant.source()) != meaning(mutant.file, (ROOT / mutant.file).read_text())
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in names_in(ROOT / file), test


def meaning(file: str, source: str) -> str:
    """A source text without its comments, as far as nothing else could tell two texts apart."""
    match Path(file).suffix:
        case ".py":
            return ast.dump(ast.parse(source))
        case ".sql":
            return re.sub("--.*", "", source)
        case _:
            return re.sub("(?m)(^|\\s)#.*", "", source)


@cache
def names_in(file: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(file.read_text()).body if isinstance(node, functions)}


def test_no_two_mutants_have_one_name() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def test_a_change_takes_out_what_it_names_and_nothing_else() -> None:
    assert Text("where a", "").applied_to("select 1 where a") == "select 1 "
    assert '"select 1 "' in Quoted("where a", "").applied_to(SOURCE)
    assert "if False:" in Expression("Account.read", "locked(self)", "False").applied_to(SOURCE)
    assert "key(self)" not in Statement("Account.read", "return key(self)").applied_to(SOURCE)


@pytest.mark.parametrize(
    "change",
    [
        Text("where b", ""),
        Text("self", "x"),  # more than one
        Quoted("where b", ""),
        Quoted("def read", "x"),  # no text of SQL
        Expression("Account.read", "self", "x"),  # more than one
        Expression("Account.write", "locked(self)", "False"),
        Statement("read", "return key(self)"),
    ],
)
def test_a_change_that_does_not_fit_is_an_error(change: Change) -> None:
    with pytest.raises(Unfit):
        change.applied_to(SOURCE)
