"""One vendor's rules for a request, as rows of fields: what is accepted just inside, what is refused just outside."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REMOVED = object()  # as a field's value: the field is left out
Fields = dict[str, Any]
Row = tuple[str, Fields, str]


@dataclass(frozen=True)
class Rules:
    """`inside` has (model, fields); `outside` has (model, fields, the words by which the refusal names them)."""

    path: str
    key: str
    body: Callable[..., Fields]
    inside: list[tuple[str, Fields]]
    outside: list[Row]
    is_acceptance: Callable[[Any], bool]
    is_refusal: Callable[[Any, str], bool]

    def by_rule(self) -> dict[str, tuple[list[tuple[str, Fields]], list[Row]]]:
        """The rows of each rule. A rule is what is said of one field, or of the fields that one row sets together."""
        names = dict.fromkeys(_rule(row[1]) for row in (*self.inside, *self.outside))
        return {
            name: (
                [row for row in self.inside if _rule(row[1]) == name],
                [row for row in self.outside if _rule(row[1]) == name],
            )
            for name in names
        }


def _rule(fields: Fields) -> str:
    return " with ".join(fields)
