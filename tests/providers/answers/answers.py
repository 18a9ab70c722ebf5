"""One vendor's answers to a submission as rows: HTTP status and body, and the one outcome they have."""

import json
from dataclasses import dataclass
from typing import NamedTuple

import httpx


class Row(NamedTuple):
    name: str
    status: int
    body: object  # bytes as they are; anything else is written as JSON
    outcome: str
    code: str | None = None
    content_type: str | None = "application/json"


@dataclass(frozen=True)
class Answers:
    """`task_id` is the one that every accepted row names."""

    rows: tuple[Row, ...]
    task_id: str


def response_of(row: Row) -> httpx.Response:
    content = row.body if isinstance(row.body, bytes) else json.dumps(row.body).encode()
    headers = {} if row.content_type is None else {"content-type": row.content_type}
    return httpx.Response(row.status, headers=headers, content=content)
