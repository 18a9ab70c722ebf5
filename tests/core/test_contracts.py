"""Messages: strict where a caller writes them, tolerant between our own parts, silent about what they refuse."""

import inspect
import json
from decimal import Decimal
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from onetake.core import contracts
from onetake.core.contracts import GenerationRequest, GenerationResult, Message
from onetake.core.names import PHASES, TERMINAL, Phase, SearchAttribute

ROUTE = "apixo/wan-2.6/text-to-video"
MODELS = [
    model
    for _, model in inspect.getmembers(contracts, inspect.isclass)
    if issubclass(model, BaseModel) and model.__module__.startswith(contracts.__name__)
]
MESSAGES = [model for model in MODELS if issubclass(model, Message)]
# The shape that outsiders rely on; a change here is a change of the public contract.
REQUEST_FIELDS = """route prompt negative_prompt duration_s resolution aspect_ratio image videos references audio_url
    sound shot_type prompt_extend seed watermark tenant user feature max_cost_usd deadline_s idempotency_key
    quote_id labels"""
RESULT_FIELDS = "id status phase route vendor_task_id error cost assets warnings workflow_id ui_url"
COST_FIELDS = "reserved_micros settled_micros suspense_micros currency basis"
ASSET_FIELDS = "key url sha256 size_bytes content_type duration_s width height fps codec has_audio"


def _refused(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        GenerationRequest.model_validate({"route": ROUTE, "prompt": "canary", **fields})
    return str(caught.value)


def _taken(**fields: Any) -> GenerationRequest:
    return GenerationRequest.model_validate({"route": ROUTE, "prompt": "a fox", **fields})


def test_the_public_shapes_are_as_promised() -> None:
    assert REQUEST_FIELDS.split() == list(GenerationRequest.model_fields)
    assert RESULT_FIELDS.split() == list(GenerationResult.model_fields)
    assert COST_FIELDS.split() == list(contracts.Cost.model_fields)
    assert ASSET_FIELDS.split() == list(contracts.Asset.model_fields)
    assert list(contracts.ErrorInfo.model_fields) == ["code", "message", "hint"]


@pytest.mark.parametrize("model", MODELS)
def test_every_message_is_frozen_and_never_echoes_what_it_refuses(model: type[BaseModel]) -> None:
    assert model.model_config.get("frozen")
    assert model.model_config.get("hide_input_in_errors")


@pytest.mark.parametrize("model", MESSAGES)
def test_our_own_messages_carry_a_version(model: type[Message]) -> None:
    assert model.model_fields["version"].default == 1


@pytest.mark.parametrize("model", MODELS)
def test_only_what_a_caller_writes_refuses_what_it_does_not_know(model: type[BaseModel]) -> None:
    assert model.model_config.get("extra") == ("forbid" if model is GenerationRequest else "ignore")


def test_a_request_refuses_a_field_it_does_not_know_by_name_and_without_its_value() -> None:
    text = _refused(quality="canary-value")
    assert "quality" in text
    assert "canary" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", 5),
        ("prompt", None),
        ("duration_s", "5"),
        ("duration_s", 5.0),
        ("duration_s", True),
        ("seed", 1.5),
        ("sound", "true"),
        ("sound", 1),
        ("references", "https://example.com"),
        ("references", [1]),
        ("image", ["https://example.com"]),
        ("tenant", ""),
        ("tenant", "Acme"),
        ("tenant", "a/b"),
        ("tenant", "a" * 64),
        ("tenant", "acme\n"),
        ("user", ""),
        ("user", "a\nb"),
        ("user", "a" * 129),
        ("feature", "\x00"),
        ("max_cost_usd", "-0.01"),
        ("max_cost_usd", "NaN"),
        ("max_cost_usd", "Infinity"),
        ("max_cost_usd", "five"),
        ("deadline_s", 0),
        ("deadline_s", 86_401),
        ("deadline_s", 1.5),
        ("idempotency_key", ""),
        ("idempotency_key", "a b"),
        ("idempotency_key", "a" * 256),
        ("idempotency_key", "é"),
        ("idempotency_key", "key\n"),
        ("labels", {"": "x"}),
        ("labels", {"x": 1}),
        ("labels", {"x": "y" * 129}),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_fields_name(name: str, value: Any) -> None:
    text = _refused(**{name: value})
    assert name in text
    assert "canary" not in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant", "a"),
        ("tenant", "0-acme_eu"),
        ("user", "Zoë Ångström"),
        ("max_cost_usd", Decimal("0.5")),
        ("deadline_s", 1),
        ("deadline_s", 86_400),
        ("idempotency_key", "~order:17!"),
        ("labels", {"team": "ads"}),
        ("references", ("https://example.com/1",)),
    ],
)
def test_a_value_within_its_bounds_is_kept(name: str, value: Any) -> None:
    assert value == getattr(_taken(**{name: value}), name)


def test_a_request_survives_the_wire() -> None:
    request = _taken(max_cost_usd="0.10", references=["https://example.com/1"], labels={"team": "ads"}, seed=0)
    assert request == GenerationRequest.model_validate_json(request.model_dump_json())
    document = json.loads(request.model_dump_json())
    assert document["max_cost_usd"] == "0.10", "money is text on the wire"
    assert document["references"] == ["https://example.com/1"]


def test_nobody_given_is_the_tenant_default() -> None:
    assert _taken().tenant == "default"


def test_a_message_of_a_newer_part_is_understood() -> None:
    wake = contracts.WakeSignal.model_validate({"version": 2, "attempt": 3, "claimed_task_id": "t", "new": {"a": 1}})
    assert (wake.version, wake.attempt, wake.claimed_task_id) == (2, 3, "t")


def test_phases_are_listed_once_in_their_order() -> None:
    assert get_args(Phase) == PHASES
    assert PHASES[0] == "accepted"
    assert PHASES[-1] == "done"
    assert {"completed", "failed", "canceled"} == TERMINAL


def test_search_attributes_are_six_names_of_ours() -> None:
    assert len(set(SearchAttribute.ALL)) == 6
    assert all(name.startswith("Onetake") for name in SearchAttribute.ALL)
