"""Every documented rule of every simulated vendor: one test a vendor and rule, which tells all values that differ."""

import httpx
import pytest

from tests.collecting import Case, assert_all_as_expected
from tests.dev.simulator.calls import Apixo
from tests.dev.simulator.rules import aivideoapi, gmi, gptimage2, wan26ai
from tests.dev.simulator.rules import apixo as apixo_rules
from tests.dev.simulator.rules.rules import Fields, Rules

VENDORS: dict[str, Rules] = {
    "aivideoapi": aivideoapi.RULES,
    "apixo": apixo_rules.RULES,
    "gmi": gmi.RULES,
    "gptimage2": gptimage2.RULES,
    "wan26ai": wan26ai.RULES,
}
BY_RULE = {(vendor, rule): rows for vendor, rules in VENDORS.items() for rule, rows in rules.by_rule().items()}


@pytest.mark.parametrize(("vendor", "rule"), BY_RULE)
def test_a_rule_accepts_what_is_just_inside_and_refuses_what_is_just_outside_by_name(
    apixo: Apixo, vendor: str, rule: str
) -> None:
    inside, outside = BY_RULE[vendor, rule]
    accepted = [_accepted(apixo, VENDORS[vendor], *row) for row in inside]
    jobs = _jobs(apixo)
    refused = [_refused(apixo, VENDORS[vendor], *row) for row in outside]
    assert_all_as_expected([*accepted, *refused, ("the jobs that the refused requests made", 0, _jobs(apixo) - jobs)])


def _accepted(apixo: Apixo, rules: Rules, model: str, fields: Fields) -> Case:
    answer = _sent(apixo, rules, model, fields)
    came = answer.status_code == 200 and rules.is_acceptance(answer.json())
    return (model, fields, answer.text), "an acceptance", "an acceptance" if came else answer.status_code


def _refused(apixo: Apixo, rules: Rules, model: str, fields: Fields, words: str) -> Case:
    answer, expected = _sent(apixo, rules, model, fields), f"a refusal that names {words!r}"
    came = answer.status_code == 400 and rules.is_refusal(answer.json(), words)
    return (model, fields, answer.text), expected, expected if came else answer.status_code


def _sent(apixo: Apixo, rules: Rules, model: str, fields: Fields) -> httpx.Response:
    headers = {"Authorization": f"Bearer {rules.key}"}
    return apixo.http.post(rules.path, json=rules.body(model, **fields), headers=headers)


def _jobs(apixo: Apixo) -> int:
    return apixo.journal()["totals"]["jobs"]
