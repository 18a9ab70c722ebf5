"""The fault table is whole, and every row names tests that exist and compare with it."""

import ast
from pathlib import Path

import pytest

from tests.faults.table import REQUIRED, load

ROOT = Path(__file__).parents[2]
ROWS = load()


def test_every_row_is_listed() -> None:
    assert sorted(REQUIRED - ROWS.keys()) == []
    assert sorted(ROWS.keys() - REQUIRED) == []


@pytest.mark.parametrize("number", sorted(ROWS))
def test_a_row_names_tests_that_compare_every_end_with_it(number: str) -> None:
    row = ROWS[number]
    assert row.tests, "no test shows it"
    compared = {end for test in row.tests for end in _ends_compared(test, number)}
    assert compared == row.ends.keys()


def _ends_compared(test: str, number: str) -> set[str]:
    """The ends of a row that the named test hands to `shows` or `expect`, itself or through a function of its file."""
    path, _, name = test.partition("::")
    functions = {
        node.name: node
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions, f"{test} does not exist"
    return {end for node in _reached(functions, name) for end in _ends_in(node, number)}


def _reached(
    functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef], name: str
) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    reached, waiting = list[ast.FunctionDef | ast.AsyncFunctionDef](), [name]
    while waiting:
        node = functions[waiting.pop()]
        if node not in reached:
            reached.append(node)
            names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
            waiting += sorted(names & functions.keys())
    return reached


def _ends_in(node: ast.AST, number: str) -> set[str]:
    ends: set[str] = set()
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
            continue
        row = call.args[0]
        if call.func.id in {"shows", "expect"} and isinstance(row, ast.Constant) and row.value == number:
            named = [word.value for word in call.keywords if word.arg == "end"]
            ends |= {str(end.value) for end in named if isinstance(end, ast.Constant)} if named else {"end"}
    return ends
