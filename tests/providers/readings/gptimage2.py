"""What gptimage2 answers to a read of a status, and what each answer means."""

import httpx

from tests.providers.answers.gptimage2 import TASK_ID, error
from tests.providers.readings.readings import Readings, Row, raw


def task(status: object = "processing", **more: object) -> dict[str, object]:
    return {"id": TASK_ID, "status": status, "object": "video.generation.task", "progress": 0, **more}


def _answer(body: object, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=body)


OPEN: list[tuple[object, str]] = [
    ("pending", "pending"),
    ("processing", "processing"),
    ("Pending", "Pending"),
    ("Completed", "Completed"),
    ("success", "success"),
    ("", "none"),
    (None, "none"),
    (7, "not a word"),
    ([], "not a word"),
    ("a\nb sk-live-12345678", "not a word"),
]
# Without a link it is a success all the same: it was charged, and is read again.
LINKS: list[tuple[object, list[str]]] = [
    (["https://a.example/1"], ["https://a.example/1"]),
    (["https://a.example/1", "http://a.example/2"], ["https://a.example/1", "http://a.example/2"]),
    ([], []),
    ("https://a.example/1", ["https://a.example/1"]),
    ([1, None, {"url": "https://a.example"}, "javascript:x"], ["https://a.example"]),
    ([1, None, {"cover": "https://a.example"}, "javascript:x"], []),
    (None, []),
    ({"urls": ["https://a.example/1"]}, ["https://a.example/1"]),
]
# By family; its own code says nothing of the answer. A refund is promised, and no answer shows it.
FAILED: list[tuple[object, str]] = [
    ({"code": "content_policy_violation", "message": "x"}, "content_rejected"),
    ({"code": 400, "message": "Content policy violation.", "type": "task_error"}, "content_rejected"),
    ({"code": "request_cancelled", "message": "x"}, "vendor_failed"),
    ({"code": "quota_exceeded", "message": "x"}, "vendor_failed"),
    ({"code": "resource_not_found", "message": "x"}, "vendor_failed"),
    ({"code": 404, "message": "x", "type": "not_found_error"}, "vendor_failed"),
    ({"code": [1], "message": {"a": 1}}, "vendor_failed"),
    ({}, "vendor_failed"),
    (None, "vendor_failed"),
    ("words", "vendor_failed"),
]
MISSING: list[tuple[int, object]] = [
    (404, error("task_not_found")),
    (404, error(404, "not_found_error")),
    (200, error(404)),
]
OUTAGES: list[tuple[int, object]] = [
    (404, {"detail": "Not Found"}),
    (404, {"error": "not found"}),
    (404, {}),
    (404, task("failed", error={"code": "resource_not_found"})),
    (400, error("invalid_task_id")),
    (402, error("quota_exceeded")),
    (500, error("task_not_found")),
    (500, task("failed")),
    (503, task("completed")),
    (302, task("completed")),
    (200, error("internal_error")),
    (200, {}),
]
NO_JSON = [b"", b"null", b"[]", b'{"status":"fail', b"<html>"]
ROWS = (
    *(Row(state, _answer(task(state)), "open", shown) for state, shown in OPEN),
    *(Row(word, _answer(task(word)), "failed", word, "vendor_failed") for word in ("FAILED", "cancelled")),
    Row("no state", _answer({"id": TASK_ID}), "open"),
    *(Row(given, _answer(task("completed", results=given)), "succeeded", links=tuple(links)) for given, links in LINKS),
    *(Row(failure, _answer(task("failed", error=failure)), "failed", code=code) for failure, code in FAILED),
    *(Row((status, body), _answer(body, status), "missing") for status, body in MISSING),
    *(Row((status, body), _answer(body, status), None) for status, body in OUTAGES),
    *(Row(content, raw(content), None) for content in NO_JSON),
)
READINGS = Readings(ROWS, TASK_ID)
