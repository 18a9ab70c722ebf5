"""What APIXO answers to a read of a status, and what each answer means."""

import httpx

from tests.providers.readings.readings import JSON, Readings, Row, raw


def _answer(data: object, *, status: int = 200, code: object = 200) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": "success", "data": data})


OPEN: list[tuple[object, str]] = [
    ("pending", "pending"),
    ("processing", "processing"),
    ("REVIEWING", "REVIEWING"),
    ("Pending ", "Pending"),
    ("done", "done"),
    ("Success", "Success"),
    (" success ", "success"),
    ("", "none"),
    (None, "none"),
    (7, "not a word"),
    (True, "True"),
    ([], "not a word"),
    ("x" * 5000, "not a word"),
    ("a\nb", "not a word"),
]
LINKS: list[tuple[object, tuple[str, ...]]] = [
    ('{"resultUrls":["https://a.example/1.mp4"]}', ("https://a.example/1.mp4",)),
    (
        '{"resultUrls":["https://a.example/1","https://a.example/2"]}',
        ("https://a.example/1", "https://a.example/2"),
    ),
    ('{"resultUrls":[]}', ()),
    ('{"resultUrls":"https://a.example/1"}', ("https://a.example/1",)),
    ('{"resultUrls":[1,null,{"url":"https://a.example"},"ftp://a.example","javascript:x"]}', ("https://a.example",)),
    ('{"resultUrls":[1,null,{"urls":7},"ftp://a.example","javascript:x"]}', ()),
    ('{"resultUrls":["https://a.exa', ()),
    ('["https://a.example/1"]', ("https://a.example/1",)),
    ("", ()),
    (None, ()),
    ({"resultUrls": ["https://a.example/1"]}, ("https://a.example/1",)),
    ("[" * 100_000, ()),
]
# By family. The document says nothing of refunds: nothing is guessed.
FAILED: list[tuple[object, object, str]] = [
    ("PromptInvalid", "rejected", "vendor_failed"),
    ("SensitiveContent", "", "content_rejected"),
    ("InputImageSensitiveContentDetected", "", "content_rejected"),
    ("CONTENT_VIOLATION", None, "content_rejected"),
    ("nsfw_detected", None, "content_rejected"),
    ("ProhibitedContentDetected", None, "content_rejected"),
    (None, "the prompt failed safety checks", "content_rejected"),
    ("GENERATION_FAILED", "gpu", "vendor_failed"),
    (None, None, "vendor_failed"),
    ({"a": 1}, [2], "vendor_failed"),
]
MISSING = [200, 404]
# Another status says nothing about the job, whatever its body claims.
OTHER_STATUSES = [301, 400, 401, 403, 408, 429, 500, 502, 503, 504]
WITHOUT_A_JOB = [b"", b"null", b"[]", b"{}", b'{"data":[]}', b'{"code":200,"data":{"state":"fail']
ROWS = (
    *(Row(state, _answer({"taskId": "t", "state": state}), "open", shown) for state, shown in OPEN),
    *(Row(word, _answer({"state": word}), "failed", word, "vendor_failed") for word in ("FAILED", "Failed")),
    Row("cancelled", _answer({"taskId": "t", "state": "cancelled"}), "failed", "cancelled", "vendor_failed"),
    Row("no state", _answer({"taskId": "t"}), "open"),
    *(
        Row(given, _answer({"taskId": "t", "state": "success", "resultJson": given}), "succeeded", links=links)
        for given, links in LINKS
    ),
    *(
        Row((fail, words), _answer({"state": "failed", "failCode": fail, "failMsg": words}), "failed", code=code)
        for fail, words, code in FAILED
    ),
    *(Row(status, _answer(None, status=status, code=404), "missing") for status in MISSING),
    Row("a 404 of a page", httpx.Response(404, html="<html>not found</html>"), None),
    Row("a bare 404", httpx.Response(404, content=b"", headers=JSON), None),
    *(Row(status, _answer({"state": "failed"}, status=status), None) for status in OTHER_STATUSES),
    *(Row(f"{code} inside", _answer({"state": "failed"}, code=code), None) for code in OTHER_STATUSES),
    *(Row(content, raw(content), None) for content in WITHOUT_A_JOB),
)
READINGS = Readings(ROWS, "t")
