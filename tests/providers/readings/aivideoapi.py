"""What aivideoapi.ai answers to a read of a status, and what each answer means."""

import httpx

from tests.providers.answers.aivideoapi import TASK_ID, envelope, error
from tests.providers.readings.readings import Readings, Row, raw


def task(status: object = "processing", **more: object) -> dict[str, object]:
    return {"id": TASK_ID, "status": status, "model": "wan-2.6-text-to-video", "created_at": 1767965610, **more}


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
    ({"urls": ["https://a.example/1"], "last_frame_url": "https://a.example/1.png"}, ["https://a.example/1"]),
    ({"urls": ["https://a.example/1", "https://a.example/2"]}, ["https://a.example/1", "https://a.example/2"]),
    ({"urls": []}, []),
    ({"urls": "https://a.example/1"}, ["https://a.example/1"]),
    ({"urls": [1, None, {"url": "https://a.example"}, "javascript:x"]}, ["https://a.example"]),
    ({"urls": [1, None, {"last_frame_url": "https://a.example"}, "javascript:x"]}, []),
    ({"last_frame_url": "https://a.example/1.png"}, []),
    ({}, []),
    (None, []),
    (["https://a.example/1"], ["https://a.example/1"]),
]
# By family; its own code says nothing of the answer. A refund is promised, and no answer shows it.
FAILED: list[tuple[object, str]] = [
    ({"code": "upstream_error", "message": "busy"}, "vendor_failed"),
    ({"code": "task_not_found", "message": "odd"}, "vendor_failed"),
    ({"code": "rate_limit_exceeded", "message": "odd"}, "vendor_failed"),
    ({"code": "upstream_error", "message": "The input contains prohibited content"}, "content_rejected"),
    ({"code": "content_policy", "message": ""}, "content_rejected"),
    ({"code": "InputImageSensitiveContentDetected", "message": None}, "content_rejected"),
    ({"code": 503, "message": {"a": 1}}, "vendor_failed"),
    ({}, "vendor_failed"),
    (None, "vendor_failed"),
    ("words", "vendor_failed"),
]
MISSING: list[tuple[int, object]] = [
    (404, error("task_not_found")),
    (200, error("task_not_found")),
    (200, envelope(404)),
]
OUTAGES: list[tuple[int, object]] = [
    (404, error("model_not_found")),
    (404, {"detail": "Not Found"}),
    (404, {}),
    (404, task("failed")),
    (500, error("task_not_found")),
    (500, task("failed")),
    (503, task("completed")),
    (400, error("invalid_request")),
    (200, error("internal_error")),
    (200, envelope(500, data=task("failed"))),
    (200, envelope(200)),
    (200, {}),
    (302, task("completed")),
]
NO_JSON = [b"", b"null", b"[]", b'{"status":"fail', b"<html>"]
ROWS = (
    *(Row(state, _answer(task(state)), "open", shown) for state, shown in OPEN),
    *(Row(word, _answer(task(word)), "failed", word, "vendor_failed") for word in ("FAILED", "canceled")),
    Row("no state", _answer({"id": TASK_ID}), "open"),
    *(Row(given, _answer(task("completed", output=given)), "succeeded", links=tuple(links)) for given, links in LINKS),
    *(Row(failure, _answer(task("failed", error=failure)), "failed", code=code) for failure, code in FAILED),
    *(Row((status, body), _answer(body, status), "missing") for status, body in MISSING),
    *(Row((status, body), _answer(body, status), None) for status, body in OUTAGES),
    *(Row(content, raw(content), None) for content in NO_JSON),
)
READINGS = Readings(ROWS, TASK_ID)
