"""One text that a pattern of the catalogue fits, and the leaves of a JSON value: what the scenarios vary answers with.

The tables use few of the things that patterns can do; a pattern that needs more is reported by the kit and never
guessed at.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from pydantic import JsonValue

Path = tuple[str | int, ...]

_STANDS_FOR = {"d": "1", "w": "a", "s": " ", "b": " ", "B": ""}


def sample_of(pattern: str | None) -> str:
    """A text that the pattern fits somewhere in it; empty for none. Raises ValueError for what it cannot read."""
    if pattern is None:
        return ""
    text, rest = _first_choice(pattern)
    if rest or re.search(pattern, text, re.IGNORECASE) is None:
        raise ValueError(f"the kit cannot make up a text for the pattern {pattern!r}: write it more simply")
    return text


def _first_choice(pattern: str) -> tuple[str, str]:
    """The text of the first alternative of a group, and what stands behind the group."""
    text, rest, chosen = "", pattern, True
    while rest and rest[0] != ")":
        if rest[0] == "|":
            chosen, rest = False, rest[1:]
            continue
        piece, rest = _piece(rest)
        least, rest = _least(rest)
        text += piece * least if chosen else ""
    return text, rest


def _piece(rest: str) -> tuple[str, str]:
    match rest[0]:
        case "(":
            inner, behind = _first_choice(rest.removeprefix("(").removeprefix("?:"))
            return inner, behind[1:]
        case "[":
            members, _, behind = rest[1:].partition("]")
            return members[0], behind
        case "\\":
            return _STANDS_FOR.get(rest[1], rest[1]), rest[2:]
        case ".":
            return "x", rest[1:]
        case plain:
            return plain, rest[1:]


def _least(rest: str) -> tuple[int, str]:
    if found := re.match(r"\{(\d*)(?:,\d*)?\}", rest):
        return int(found[1] or 0), rest[found.end() :]
    if rest[:1] in ("*", "?"):
        return 0, rest[1:]
    return 1, rest.removeprefix("+")


def leaves(value: JsonValue, path: Path = ()) -> Iterator[tuple[Path, JsonValue]]:
    """Every value inside that holds no other, with the way to it; an empty list or object is one."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path, value


def replaced(value: JsonValue, path: Sequence[str | int], new: JsonValue) -> JsonValue:
    """A copy with another value at the end of the path."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        return {name: replaced(inner, rest, new) if name == step else inner for name, inner in value.items()}
    inside = cast("list[JsonValue]", value)
    return [replaced(inner, rest, new) if number == step else inner for number, inner in enumerate(inside)]
