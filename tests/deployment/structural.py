"""The definition of a foreign kind, held against an object: as strict as an API server that refuses unknown fields,
but for the rules in CEL, which only a server evaluates."""

import re
from collections.abc import Iterator
from typing import Any, Final

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def schema_of(definition: dict[str, Any], version: str) -> dict[str, Any]:
    """The schema of one version of a CustomResourceDefinition."""
    [found] = [each for each in definition["spec"]["versions"] if each["name"] == version]
    return found["schema"]["openAPIV3Schema"]


def faults(schema: dict[str, Any], value: Any, at: str = "") -> Iterator[str]:
    """What a server would refuse, each with its place."""
    if schema.get("x-kubernetes-int-or-string"):
        yield from [] if isinstance(value, int | str) else [f"{at}: neither a number nor a text"]
        return
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{at}: not of type {kind}"
        return
    yield from _of_a_scalar(schema, value, at)
    if isinstance(value, dict):
        yield from _of_an_object(schema, value, at)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, list):
        for number, each in enumerate(value):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            yield from faults(schema.get("items", {}), each, f"{at}[{number}]")


def _of_a_scalar(schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: {value!r} does not fit {schema['pattern']}"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{at}: too short"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield f"{at}: {value} is too small"
        if value > schema.get("maximum", value):
            yield f"{at}: {value} is too large"


def _of_an_object(schema: dict[str, Any], value: dict[str, Any], at: str) -> Iterator[str]:
    known, rest = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (f"{at}.{name}: missing" for name in schema.get("required", []) if name not in value)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or rest or "properties" not in schema
    for name, each in value.items():
        if name in known:
            yield from faults(known[name], each, f"{at}.{name}")
        elif isinstance(rest, dict):
            yield from faults(rest, each, f"{at}.{name}")  # pyright: ignore[reportUnknownArgumentType]
        elif not open_ended and (at or name not in ("apiVersion", "kind", "metadata")):
            yield f"{at}.{name}: unknown"
