"""What wan26ai.app answers to a read of a status, and what each answer means."""

from typing import Any

import httpx

from tests.providers.answers.wan26ai import TASK, envelope
from tests.providers.readings.readings import Readings, Row, raw


def _answer(data: object, *, status: int = 200, code: object = 200) -> httpx.Response:
    return httpx.Response(status, json=envelope(code, data=data))


def task(status: object, **more: Any) -> dict[str, Any]:
    return {**TASK, "status": status, **more}


OPEN: list[tuple[object, str]] = [
    ("IN_PROGRESS", "IN_PROGRESS"),
    ("QUEUED", "QUEUED"),
    ("in progress", "in progress"),
    ("done", "done"),
    ("success", "success"),
    ("", "none"),
    (None, "none"),
    (7, "not a word"),
    (["SUCCESS"], "not a word"),
    ("see https://evil.example\n", "not a word"),
]
LINKS: list[tuple[object, tuple[str, ...]]] = [
    (["https://a.example/1.mp4"], ("https://a.example/1.mp4",)),
    (["https://a.example/1", "https://a.example/2"], ("https://a.example/1", "https://a.example/2")),
    ([], ()),
    (None, ()),
    ("https://a.example/1.mp4", ("https://a.example/1.mp4",)),
    ([7, None, {"url": "https://a.example"}, "javascript:x"], ("https://a.example",)),
    ([7, None, {"poster": "https://a.example"}, "javascript:x"], ()),
]
FAILED: list[tuple[object, str]] = [
    ("The provider timed out", "vendor_failed"),
    (None, "vendor_failed"),
    ({"a": 1}, "vendor_failed"),
    ("Sensitive content detected", "content_rejected"),
    ("violates the content policy", "content_rejected"),
]
MISSING: list[tuple[int, object]] = [(200, 404), (404, 404), (404, "404")]
# Another status says nothing about the job, whatever its body claims.
OTHER_STATUSES = [301, 400, 401, 403, 429, 500, 503]
WITHOUT_A_JOB = [b"", b"null", b"[]", b"{}", b'{"data":[]}', b'{"code":200,"data":null}', b"<html>"]
ROWS = (
    *(Row(given, _answer(task(given, consumed_credits=115)), "open", shown) for given, shown in OPEN),
    *(Row(word, _answer(task(word)), "failed", word, "vendor_failed") for word in ("failed", "CANCELLED")),
    *(Row(given, _answer(task("SUCCESS", response=given)), "succeeded", links=links) for given, links in LINKS),
    *(Row(words, _answer(task("FAILED", error_message=words)), "failed", code=code) for words, code in FAILED),
    *(Row((status, code), _answer(None, status=status, code=code), "missing") for status, code in MISSING),
    *(Row(status, _answer({"status": "FAILED"}, status=status), None) for status in OTHER_STATUSES),
    *(Row(f"{code} inside", _answer({"status": "FAILED"}, code=code), None) for code in OTHER_STATUSES),
    *(Row(content, raw(content), None) for content in WITHOUT_A_JOB),
)
READINGS = Readings(ROWS, TASK["task_id"])
