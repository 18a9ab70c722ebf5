"""What GMI answers to a read of a status, and what each answer means."""

import httpx

from tests.providers.answers.gmi import ID
from tests.providers.readings.readings import Readings, Row


def _answer(word: object, /, *, http: int = 200, **more: object) -> httpx.Response:
    return httpx.Response(http, json={"request_id": ID, "status": word, **more})


A, B = "https://a.example/1.mp4", "https://a.example/2.mp4"
OPEN: list[tuple[object, str]] = [
    ("queued", "queued"),
    ("dispatched", "dispatched"),
    ("processing", "processing"),
    ("finished", "finished"),
    ("done", "done"),
    ("Success", "Success"),
    ("", "none"),
    (None, "none"),
    (7, "not a word"),
    (["success"], "not a word"),
    ("a\nb https://evil.example/x", "not a word"),
    ("x" * 5000, "not a word"),
]
LINKS: list[tuple[object, tuple[str, ...]]] = [
    ({"media_urls": [{"id": "0", "url": A}]}, (A,)),
    ({"media_urls": [{"id": "0", "url": A}, {"id": "1", "url": B}]}, (A, B)),
    ({"media_urls": [A, {"url": B}]}, (A, B)),
    ({"media_urls": [{"id": "0", "url": A}], "video_url": B}, (A,)),
    ({"media_urls": [], "video_url": B}, (B,)),
    ({"video_url": B}, (B,)),
    ({"media_urls": A}, (A,)),
    ({"media_urls": [{"id": "0"}, 7, None, "ftp://a.example/1"]}, ()),
    ({"media_urls": [{"id": "0"}, [A], {"url": [B]}]}, (A, B)),
    ({"video_url": [A]}, (A,)),
    ({"thumbnail_image_url": A}, ()),
    ({}, ()),
    ([A], (A,)),
    (A, (A,)),
    (None, ()),
]
OTHER_STATUSES = [300, 400, 401, 429, 500, 503]
ROWS = (
    *(Row(given, _answer(given), "open", shown) for given, shown in OPEN),
    *(Row(given, _answer("success", outcome=given), "succeeded", links=links) for given, links in LINKS),
    *(Row(word, _answer(word), "failed", word, "vendor_failed") for word in ("canceled", "Failed")),
    *(Row(status, _answer("failed", http=status), None) for status in OTHER_STATUSES),
)
READINGS = Readings(ROWS, ID)
