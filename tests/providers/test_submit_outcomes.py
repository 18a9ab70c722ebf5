"""What each answer to a submission means: HTTP status and body in, one of the outcomes out, for every vendor."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import httpx
import pytest

from onetake.core.errors import CATALOGUE
from providers import aivideoapi, apixo, gmi, gptimage2, wan26ai
from providers.catalogue import load_catalogue
from tests.collecting import assert_all_as_expected
from tests.providers.answers import aivideoapi as of_aivideoapi
from tests.providers.answers import apixo as of_apixo
from tests.providers.answers import gmi as of_gmi
from tests.providers.answers import gptimage2 as of_gptimage2
from tests.providers.answers import wan26ai as of_wan26ai
from tests.providers.answers.answers import Answers, Row, response_of

ADAPTERS: Mapping[str, ModuleType] = {
    "aivideoapi": aivideoapi,
    "apixo": apixo,
    "gmi": gmi,
    "gptimage2": gptimage2,
    "wan26ai": wan26ai,
}
ANSWERS: Mapping[str, Answers] = {
    "aivideoapi": of_aivideoapi.ANSWERS,
    "apixo": of_apixo.ANSWERS,
    "gmi": of_gmi.ANSWERS,
    "gptimage2": of_gptimage2.ANSWERS,
    "wan26ai": of_wan26ai.ANSWERS,
}


@pytest.mark.parametrize("outcome", ["accepted", "rejected", "throttled", "ambiguous"])
@pytest.mark.parametrize("vendor", ANSWERS)
def test_an_answer_to_a_submission_has_one_outcome(vendor: str, outcome: str) -> None:
    rows = [row for row in ANSWERS[vendor].rows if row.outcome == outcome]
    assert_all_as_expected((row, _expected(vendor, row), _came(vendor, row)) for row in rows)


def _expected(vendor: str, row: Row) -> object:
    error = CATALOGUE[row.code] if row.code else None
    return (
        row.outcome,
        row.code,
        ANSWERS[vendor].task_id if row.outcome == "accepted" else None,
        (True, error.hint) if error else None,
        {"units said": False, "micros said": False, "long note": False, "what was sent is repeated": False},
    )


def _came(vendor: str, row: Row) -> object:
    outcome = ADAPTERS[vendor].submit_outcome(response_of(row))
    error = outcome.error
    return (
        outcome.outcome,
        error.code if error else None,
        outcome.vendor_task_id,
        (error.message.startswith(CATALOGUE[error.code].sentence), error.hint) if error else None,
        {
            "units said": outcome.reported_units is not None,
            "micros said": outcome.reported_micros is not None,
            "long note": len(outcome.note) >= 100,
            "what was sent is repeated": "canary" in repr(outcome),
        },
    )


@pytest.mark.parametrize("vendor", ANSWERS)
def test_every_row_of_the_outcome_table_decides_an_answer(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the row some answer above would mean something else: none is shadowed by the one before it.

    What no row knows is ambiguous as well, so a row that says so need not decide.
    """
    facts = load_catalogue().vendors[vendor]
    meant = _meant(vendor)
    for number, row in enumerate(facts.outcomes):
        others = tuple(other for at, other in enumerate(facts.outcomes) if at != number)
        monkeypatch.setattr(ADAPTERS[vendor], "FACTS", facts.model_copy(update={"outcomes": others}))
        assert row.outcome == "ambiguous" or _meant(vendor) != meant, row


def _meant(vendor: str) -> list[Any]:
    outcomes = [ADAPTERS[vendor].submit_outcome(response_of(row)) for row in ANSWERS[vendor].rows]
    return [(outcome.outcome, outcome.error and outcome.error.code, outcome.about) for outcome in outcomes]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plain words", "plain words"),
        (None, None),
        ("", None),
        (" \t\n ", None),
        ({"field": "prompt"}, "{'field': 'prompt'}"),
        (17, "17"),
        ("two\r\nlines\x1b[31m red \u202eretxet", "two lines [31m red retxet"),
        ("see https://evil.example/x?a=1 now", "see [removed] now"),
        ("see HTTPS://EVIL.example", "see [removed]"),
        ("key Bearer abc.def is wrong", "key [removed] is wrong"),
        ("key sk-live-12345678 is wrong", "key [removed] is wrong"),
        ("w" * 5000, "w" * 200),
    ],
)
def test_the_vendors_words_are_shown_only_when_they_are_safe(words: Any, shown: str | None) -> None:
    error = apixo.submit_outcome(httpx.Response(400, json=of_apixo.envelope(400, message=words))).error
    assert error is not None
    sentence = CATALOGUE["vendor_rejected"].sentence
    assert (sentence if shown is None else f"{sentence} It said: {shown}") == error.message
