"""The options of `generate` are the fields of a request: all of them, with their types and defaults."""

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest

from onetake.cli.request_options import REQUEST_OPTIONS, fields_of
from onetake.client import request_of
from onetake.core.contracts import GenerationRequest
from tests.cli.tree import named, verbs

FIELDS = GenerationRequest.model_fields
EMPTY: tuple[Any, ...] = (None, (), {})


def test_each_field_has_one_option_and_each_option_a_field() -> None:
    assert sorted(option.field for option in REQUEST_OPTIONS) == sorted(FIELDS)


def test_generate_takes_each_of_them() -> None:
    taken = {flag for each in verbs()["generate"].params for flag in each.opts}
    assert {option.name if option.is_argument else f"--{option.name}" for option in REQUEST_OPTIONS} <= taken


@pytest.mark.parametrize("option", REQUEST_OPTIONS, ids=lambda option: option.field)
def test_an_option_has_the_type_and_the_default_of_its_field(option: Any) -> None:
    field = FIELDS[option.field]
    assert option.type is plain(field.annotation)
    assert option.is_argument is field.is_required()
    if not option.is_argument:
        default = field.get_default(call_default_factory=True)
        assert option.default == (None if default in EMPTY else default)


def plain(annotation: Any) -> Any:
    """The type without its limits, its elements, and the possibility that nothing is given."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return plain(get_args(annotation)[0])
    if origin in (Union, UnionType):
        (kind,) = (each for each in get_args(annotation) if each is not NoneType)
        return plain(kind)
    return origin or annotation


def given(line: str) -> dict[str, Any]:
    """The fields that `onetake generate LINE` asks for."""
    command, words = named(["generate", *line.split()])
    return fields_of(command.make_context("generate", words).params)


def test_what_is_given_reaches_the_request_under_its_field() -> None:
    """Every option at once, and none: the second is the request with nothing but its own defaults."""
    words = "R P --duration 5 --resolution 720p --aspect-ratio 16:9 --image i --video v --video w --reference r"
    words += " --audio a --no-sound --shot-type multi --prompt-extend --no-watermark --seed 0 --negative-prompt n"
    words += " --tenant t --user u --feature f --max-cost 1.10 --idempotency-key k --deadline 9"
    quote_id = "quo_0199aaaa-0000-7000-8000-000000000000"
    words += f" --label a=b --label c=d --quote {quote_id}"
    document = request_of(given(words)).model_dump(mode="json")
    assert document == {
        "route": "R",
        "prompt": "P",
        "duration_s": 5,
        "resolution": "720p",
        "aspect_ratio": "16:9",
        "image": "i",
        "videos": ["v", "w"],
        "references": ["r"],
        "audio_url": "a",
        "sound": False,
        "shot_type": "multi",
        "prompt_extend": True,
        "watermark": False,
        "seed": 0,
        "negative_prompt": "n",
        "tenant": "t",
        "user": "u",
        "feature": "f",
        "max_cost_usd": "1.10",
        "idempotency_key": "k",
        "quote_id": quote_id,
        "deadline_s": 9,
        "labels": {"a": "b", "c": "d"},
    }
    assert set(document) == set(FIELDS)
    assert request_of(given("R P")) == GenerationRequest(route="R", prompt="P")
