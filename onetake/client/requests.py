"""A request made of loose fields, and what is said of each field that is wrong."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import reduce
from typing import Any, cast

from pydantic import ValidationError

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Refused, Violation

GIVEN_MOST = 64  # characters of a wrong value that an error repeats
MOST_SHOWN = 32  # fields at fault that an error names

# What a field allows, by the rule that was broken; `{}` is the rule's own number.
_ALLOWED: dict[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "decimal_type": "a decimal number",
    "decimal_parsing": "a decimal number",
    "finite_number": "a decimal number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "a text of at least {min_length} character",
    "string_too_long": "a text of at most {max_length} characters",
    "dict_type": "an object of texts",
    "tuple_type": "a list of texts",
    "too_long": "at most {max_length}",
}
_PATTERNS: dict[str, str] = {
    "tenant": "lower-case letters, digits, _ and -, at most 63, beginning with a letter or a digit",
    "idempotency_key": "visible ASCII characters without spaces",
    "quote_id": "the id of a quote: quo_ and 36 characters",
}
_PROMPTS = ("prompt", "negative_prompt")


def request_of(fields: dict[str, Any]) -> GenerationRequest:
    """Make a request of loose fields. Raises Refused(`request_invalid`) with every field at fault, never its text."""
    try:
        return GenerationRequest(**fields)
    except ValidationError as error:
        problems = error.errors(include_input=False)
        violations = [_violation(problem, fields) for problem in problems[:MOST_SHOWN]]
        if len(problems) > MOST_SHOWN:
            violations.append(Violation("", f"{len(problems) - MOST_SHOWN} more fields at fault", "none"))
        raise Refused("request_invalid", violations=tuple(violations)) from None


def _violation(problem: Any, fields: dict[str, Any]) -> Violation:
    path = [part for part in problem["loc"] if part != "[key]"]  # pydantic's own mark of a key that is wrong
    pointer, name = "".join(f"/{part}" for part in path), str(path[0])
    if problem["type"] == "extra_forbidden":
        nearest = get_close_matches(name, GenerationRequest.model_fields, n=1)
        return Violation(pointer, "a value", "nothing: there is no such field", nearest[0] if nearest else None)
    if problem["type"] == "missing":
        return Violation(pointer, "nothing", "a value")
    is_key = problem["loc"][-1] == "[key]"
    given = _given(path[-1] if is_key else _at(fields, path), fields)
    return Violation(pointer, given, _allowed(problem, name))


def _allowed(problem: Any, name: str) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(name, "a text without control characters")
    words = _ALLOWED.get(problem["type"])
    return words.format(**problem.get("ctx", {})) if words else str(problem["msg"])


def _at(fields: Any, path: Sequence[object]) -> object:
    try:
        return reduce(lambda value, part: value[part], path, fields)
    except (LookupError, TypeError):
        return object()


def _given(value: object, fields: dict[str, Any]) -> str:
    """A wrong value as it was given; never a text of the prompt, wherever it stands, and nothing long."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)[:GIVEN_MOST]
        case str():
            prompts = [text for name in _PROMPTS if isinstance(text := fields.get(name), str) and text]
            return "a text" if any(text in value for text in prompts) else repr(value[:GIVEN_MOST])
        case dict():
            return f"{len(cast('dict[object, object]', value))} entries"
        case _:
            return "a list" if isinstance(value, list | tuple) else "a value of another kind"
