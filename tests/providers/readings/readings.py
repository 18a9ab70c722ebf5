"""One vendor's answers to a read of a status as rows, and the one reading that each has."""

from typing import NamedTuple

import httpx

JSON = {"content-type": "application/json"}


class Row(NamedTuple):
    """`state` is None where the answer says nothing of a job: an outage."""

    given: object
    response: httpx.Response
    state: str | None
    shown: str | None = None  # the vendor's own word, where the row is about it
    code: str | None = None
    links: tuple[str, ...] = ()


class Readings(NamedTuple):
    rows: tuple[Row, ...]
    task_id: str  # of every open job


def raw(content: bytes) -> httpx.Response:
    return httpx.Response(200, content=content, headers=JSON)
