"""The catalogue of errors is closed, complete and fit to be shown."""

import ast
import re
from pathlib import Path

import pytest

from onetake.core.errors import CATALOGUE, Failed, NoMoney, OnetakeError, Refused, TryLater, Violation

ROOT = Path(__file__).parents[2]
RAISING = {"Refused", "Failed", "TryLater", "error_of", "_error"}
EXIT_CODES = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130}


@pytest.mark.parametrize("code", CATALOGUE)
def test_an_entry_is_one_sentence_and_says_what_to_do(code: str) -> None:
    entry = CATALOGUE[code]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert re.fullmatch(r"[A-Z][^.]*\.", entry.sentence)
    assert entry.hint.endswith(".")
    assert entry.sentence.isprintable()
    assert entry.hint.isprintable()
    assert entry.exit_code in EXIT_CODES


def test_no_two_codes_say_the_same() -> None:
    assert len({entry.sentence for entry in CATALOGUE.values()}) == len(CATALOGUE)


def _named_codes() -> set[tuple[str, str]]:
    """Every code that the source passes to an error, with the file it stands in."""
    found: set[tuple[str, str]] = set()
    for folder in ("onetake", "workflows", "activities", "providers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                match node:
                    case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]) if name in RAISING:
                        found.add((code, path.name))
                    case _:
                        pass
    return found


def test_every_code_that_the_source_names_is_in_the_catalogue() -> None:
    named = _named_codes()
    assert len(named) > 10, "the search must find what it is for"
    assert set() == {(code, file) for code, file in named if code not in CATALOGUE}


def test_a_code_outside_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        Refused("made_up")


def test_an_error_carries_its_sentence_its_detail_and_its_hint() -> None:
    error = Failed("asset_truncated", "(12 of 40 bytes)")
    entry = CATALOGUE["asset_truncated"]
    assert str(error) == f"{entry.sentence} (12 of 40 bytes)"
    assert (error.code, error.hint, error.detail) == ("asset_truncated", entry.hint, "(12 of 40 bytes)")
    assert str(Failed("asset_truncated")) == entry.sentence


def test_a_refusal_lists_its_violations() -> None:
    one = Violation("/duration_s", "1", "2 to 15 seconds", "2")
    two = Violation("/image", "0 addresses", "exactly 1 address")
    assert str(one) == "/duration_s: given 1, allowed 2 to 15 seconds (nearest: 2)"
    refused = Refused("request_invalid", violations=(one, two))
    assert refused.violations == (one, two)
    assert refused.detail == f"{one}; /image: given 0 addresses, allowed exactly 1 address"


def test_the_tree_says_what_the_caller_must_do() -> None:
    assert issubclass(NoMoney, Refused)
    assert not issubclass(TryLater, (Refused, Failed))
    assert all(issubclass(kind, OnetakeError) for kind in (Refused, Failed, TryLater))
    assert NoMoney("short by $1.00").code == "budget_exceeded"
    assert TryLater("not_ready", after_s=7).after_s == 7
    assert TryLater("not_ready").after_s is None
