"""What each vendor answers about a job, with any word in the place of its state and anything in the place of its
result."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from onetake.core.ports import VendorStatus
from providers.vendors import VENDORS

A, B = "https://media.example/1.mp4", "https://media.example/2.mp4"
TASK_ID: Final = "task-unified-1-abc"
NOTHING: Final = object()


def _apixo(word: object, result: object, error: str | None) -> dict[str, Any]:
    data = _given(taskId=TASK_ID, state=word, resultJson=result)
    return {"code": 200, "message": "success", "data": data | ({"failCode": "X", "failMsg": error} if error else {})}


def _wan26ai(word: object, result: object, error: str | None) -> dict[str, Any]:
    data = _given(task_id=TASK_ID, status=word, response=result, error_message=error)
    return {"code": 200, "message": "success", "data": data | {"request": {"video_urls": ["https://sent.example/a"]}}}


def _gptimage2(word: object, result: object, error: str | None) -> dict[str, Any]:
    return _given(id=TASK_ID, status=word, results=result) | _error_object(error)


def _aivideoapi(word: object, result: object, error: str | None) -> dict[str, Any]:
    return _given(id=TASK_ID, status=word, output=result) | _error_object(error)


def _gmi(word: object, result: object, error: str | None) -> dict[str, Any]:
    sent = {"payload": {"img_url": "https://sent.example/a", "reference_video_urls": ["https://sent.example/b"]}}
    return _given(request_id=TASK_ID, status=word, outcome=result) | sent | ({"error": error} if error else {})


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not NOTHING}


def _error_object(words: str | None) -> dict[str, Any]:
    return {"error": {"code": "x", "message": words, "type": "task_error"}} if words else {}


_BODIES: Final[Mapping[str, Callable[[object, object, str | None], dict[str, Any]]]] = {
    "apixo": _apixo,
    "wan26ai": _wan26ai,
    "gptimage2": _gptimage2,
    "aivideoapi": _aivideoapi,
    "gmi": _gmi,
}
# The shape that the vendor's own document has, of any links.
DOCUMENTED: Final[Mapping[str, Callable[[tuple[str, ...]], object]]] = {
    "apixo": lambda links: '{"resultUrls":[' + ",".join(f'"{link}"' for link in links) + "]}",
    "wan26ai": lambda links: [*links],
    "gptimage2": lambda links: [*links],
    "aivideoapi": lambda links: {"urls": list(links), "last_frame_url": "https://media.example/last.png"},
    "gmi": lambda links: {"media_urls": [{"id": str(at), "url": link} for at, link in enumerate(links)]},
}


def said(vendor: str, word: object, result: object = NOTHING, *, error: str | None = None) -> VendorStatus:
    """How the vendor's adapter reads an answer with this word and this result."""
    status = VENDORS[vendor].read_status(httpx.Response(200, json=_BODIES[vendor](word, result, error)))
    assert status is not None
    return status


def with_clip(vendor: str, word: object, *, error: str | None = None) -> VendorStatus:
    """The same, with one link in the documented shape."""
    result: object = DOCUMENTED[vendor]((A,))
    return said(vendor, word, result, error=error)
