"""What the client makes of fields, and what it tells Temporal about a request: never the prompt."""

import pytest

from onetake.client import request_of
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Refused
from onetake.core.settings import load_settings
from onetake.engine.starting import FAIRNESS_BYTES, details_of, fairness_key_of, summary_of
from providers.admission import RouteAdmission

ROUTE = "apixo/wan-2.6/text-to-video"
CANARY = "canary prompt"


def refusal(**fields: object) -> Refused:
    with pytest.raises(Refused) as caught:
        request_of({"route": ROUTE, "prompt": CANARY, **fields})
    return caught.value


def test_fields_make_the_same_request_as_the_model() -> None:
    fields = {"route": ROUTE, "prompt": CANARY, "duration_s": 5}
    assert request_of(fields) == GenerationRequest(route=ROUTE, prompt=CANARY, duration_s=5)


def test_an_unknown_field_is_refused_by_name_with_the_nearest() -> None:
    error = refusal(duration=5)
    assert [(each.pointer, each.nearest) for each in error.violations] == [("/duration", "duration_s")]
    assert error.code == "request_invalid"


def test_every_wrong_field_is_named_and_none_is_quoted() -> None:
    error = refusal(duration_s=CANARY, tenant=f"{CANARY}!", deadline_s=0, labels={"a": ""})
    assert {"/duration_s", "/tenant", "/deadline_s", "/labels/a"} == {each.pointer for each in error.violations}
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    ("fields", "given", "allowed"),
    [
        ({"max_cost_usd": "cheap"}, "'cheap'", "a decimal number"),
        ({"max_cost_usd": float("nan")}, "nan", "a decimal number"),
        ({"duration_s": "five"}, "'five'", "a whole number"),
        ({"duration_s": True}, "true", "a whole number"),
        ({"sound": "yes"}, "'yes'", "true or false"),
        ({"deadline_s": 0}, "0", "at least 1"),
        ({"deadline_s": 10**6}, "1000000", "at most 86400"),
        ({"tenant": "Acme"}, "'Acme'", "lower-case letters, digits, _ and -, at most 63, beginning with a letter"),
        ({"idempotency_key": "a b"}, "'a b'", "visible ASCII characters without spaces"),
        ({"labels": {"a": ""}}, "''", "a text of at least 1 character"),
        ({"labels": {"": "b"}}, "''", "a text of at least 1 character"),
        ({"labels": {f"{number:0128}": "v" * 128 for number in range(2000)}}, "2000 entries", "at most 64"),
        ({"labels": {str(number): "v" for number in range(20_000)}}, "20000 entries", "at most 64"),
        ({"labels": {str(number): "v" for number in range(65)}}, "65 entries", "at most 64"),
        ({"user": "u" * 129}, f"'{'u' * 64}'", "a text of at most 128 characters"),
        ({"videos": "one"}, "'one'", "a list of texts"),
        ({"prompt": 5}, "5", "a text"),
        ({"negative_prompt": ["x"]}, "a list", "a text"),
        ({"negative_prompt": "keep out", "tenant": "keep out"}, "a text", "lower-case letters"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_allowed(fields: dict[str, object], given: str, allowed: str) -> None:
    (violation,) = refusal(**fields).violations
    assert violation.given == given
    assert violation.allowed.startswith(allowed)


def test_64_labels_are_taken() -> None:
    labels = {f"{number:0128}": "v" * 128 for number in range(64)}
    assert request_of({"route": ROUTE, "prompt": CANARY, "labels": labels}).labels == labels


def test_of_very_many_faults_the_first_are_named_and_the_rest_counted() -> None:
    violations = refusal(videos=[5] * 1000).violations
    assert len(violations) == 33
    assert violations[-1].given == "968 more fields at fault"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Refused) as caught:
        request_of({"route": ROUTE})
    assert [each.pointer for each in caught.value.violations] == ["/prompt"]


def test_the_summary_says_what_an_operator_needs_in_200_bytes() -> None:
    request = GenerationRequest(
        route=ROUTE, prompt=CANARY, duration_s=5, tenant="t" * 63, user="é" * 128, feature="é" * 128
    )
    plan = RouteAdmission(load_settings(apixo_api_key="k")).plan(request, base_queue="q")
    line = summary_of(request, plan)
    assert len(line.encode()) <= 200
    assert all(part in line for part in (ROUTE, "5 s", "720p", "t" * 63, "$0.50"))
    assert CANARY not in line


def test_the_details_are_a_table_without_the_prompt() -> None:
    request = GenerationRequest(route=ROUTE, prompt=CANARY, duration_s=5, negative_prompt=CANARY)
    plan = RouteAdmission(load_settings(apixo_api_key="k")).plan(request, base_queue="q")
    text = details_of("gen/default/gen_1", request, plan)
    assert all(amount in text for amount in ("0.50", "0.10 a second"))
    assert "`onetake get gen_1`" in text
    assert CANARY not in text


def test_a_start_names_a_tenant_at_a_vendor_to_take_turns_in_what_the_engine_takes() -> None:
    admission = RouteAdmission(load_settings(apixo_api_key="k"))
    keys: list[str] = []
    for tenant in ("acme", "t" * 63):
        request = GenerationRequest(route=ROUTE, prompt="a fox", duration_s=5, tenant=tenant)
        keys.append(fairness_key_of(request, admission.plan(request, base_queue="q")))
    assert keys[0] == "apixo/acme"
    assert len(keys[1].encode()) == FAIRNESS_BYTES
