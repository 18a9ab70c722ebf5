"""What APIXO answers to a submission, and what each answer means."""

import gzip
import json

from tests.providers.answers.answers import Answers, Row

TASK = {"taskId": "task_12345678"}
JSON = "application/json"
DEEP = b'{"code":200,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def envelope(code: object, *, data: object = None, message: object = "words") -> dict[str, object]:
    return {"code": code, "message": message, "data": data}


ACCEPTED = (
    Row("200", 200, envelope(200, data=TASK), "accepted"),
    Row("201", 201, envelope(200, data=TASK), "accepted"),
    Row("202 with its own code", 202, envelope(202, data=TASK), "accepted"),
    Row("no code", 200, {"data": TASK}, "accepted"),
    Row("a code that is no integer", 200, envelope("200", data=TASK), "accepted"),
    Row("a boolean code", 200, envelope(True, data=TASK), "accepted"),
    Row("charset", 200, envelope(200, data=TASK), "accepted", None, "application/json; charset=utf-8"),
    Row("upper case", 200, envelope(200, data=TASK), "accepted", None, "Application/JSON"),
    Row("more fields", 200, {**envelope(200, data={**TASK, "x": [1]}), "trace": "t"}, "accepted"),
    Row("odd numbers elsewhere", 200, b'{"code":200,"data":{"taskId":"task_12345678","x":NaN}}', "accepted"),
)
REJECTED = (
    Row("400", 400, envelope(400), "rejected", "vendor_rejected"),
    Row("401", 401, envelope(401), "rejected", "vendor_auth"),
    Row("402", 402, envelope(402), "rejected", "vendor_account_empty"),
    Row("403", 403, envelope(403), "rejected", "vendor_auth"),
    Row("404", 404, envelope(404), "rejected", "vendor_route_missing"),
    Row("413", 413, envelope(413), "rejected", "vendor_rejected"),
    Row("415", 415, envelope(415), "rejected", "vendor_rejected"),
    Row("422", 422, envelope(422), "rejected", "vendor_rejected"),
    Row("400 in a 200", 200, envelope(400), "rejected", "vendor_rejected"),
    Row("401 in a 200", 200, envelope(401), "rejected", "vendor_auth"),
    Row("402 in a 200", 200, envelope(402), "rejected", "vendor_account_empty"),
    Row("404 in a 201", 201, envelope(404), "rejected", "vendor_route_missing"),
    Row("400 that says 200", 400, envelope(200), "rejected", "vendor_rejected"),
    Row("400 by a message alone", 400, {"message": "no"}, "rejected", "vendor_rejected"),
    Row("400 about content", 400, envelope(400, message="SensitiveContentDetected"), "rejected", "content_rejected"),
    Row("403 about content", 403, envelope(403, message="content violates policy"), "rejected", "content_rejected"),
    Row("403 error about content", 403, envelope(403, data={"error": "NSFW"}), "rejected", "content_rejected"),
    Row("content in a 200", 200, envelope(403, message="Prohibited"), "rejected", "content_rejected"),
    Row("401 whatever it says", 401, envelope(401, message="policy"), "rejected", "vendor_auth"),
    Row("402 whatever it says", 402, envelope(402, message="fair use policy"), "rejected", "vendor_account_empty"),
)
THROTTLED = (
    Row("429", 429, envelope(429), "throttled", "vendor_throttled"),
    Row("429 in a 200", 200, envelope(429), "throttled", "vendor_throttled"),
    Row("429 whatever it says", 429, envelope(429, message="policy"), "throttled", "vendor_throttled"),
)
AMBIGUOUS = (
    *(
        Row(str(status), status, envelope(status), "ambiguous")
        for status in (300, 302, 307, 405, 408, 409, 418, 425, 451, 499, 500, 502, 503, 504, 520, 599, 999)
    ),
    Row("500 in a 200", 200, envelope(500), "ambiguous"),
    Row("502 in a 200", 200, envelope(502), "ambiguous"),
    Row("200 in a 500", 500, envelope(200, data=TASK), "ambiguous"),
    Row("an unknown code", 200, envelope(10_001), "ambiguous"),
    Row("code 0 with a task", 200, envelope(0, data=TASK), "ambiguous"),
    Row("a vast code", 200, b'{"code":' + b"9" * 4000 + b"}", "ambiguous"),
    Row("no data", 200, envelope(200), "ambiguous"),
    Row("no id", 200, envelope(200, data={}), "ambiguous"),
    Row("null id", 200, envelope(200, data={"taskId": None}), "ambiguous"),
    Row("empty id", 200, envelope(200, data={"taskId": ""}), "ambiguous"),
    Row("a number as id", 200, envelope(200, data={"taskId": 12}), "ambiguous"),
    Row("an id of 257", 200, envelope(200, data={"taskId": "t" * 257}), "ambiguous"),
    Row("an id of 10 kB", 200, envelope(200, data={"taskId": "t" * 10_000}), "ambiguous"),
    Row("an id with a newline", 200, envelope(200, data={"taskId": "task_1\n"}), "ambiguous"),
    Row("an id with slashes", 200, envelope(200, data={"taskId": "../../etc/passwd"}), "ambiguous"),
    Row("an id with a query", 200, envelope(200, data={"taskId": "a?b=c&d"}), "ambiguous"),
    Row("an id with NUL", 200, envelope(200, data={"taskId": "a\0b"}), "ambiguous"),
    Row("an id of other letters", 200, envelope(200, data={"taskId": "zaďa"}), "ambiguous"),
    Row("a list as data", 200, envelope(200, data=[TASK]), "ambiguous"),
    Row("400 that names a task", 400, envelope(400, data=TASK), "ambiguous"),
    Row("429 that names a task", 429, envelope(429, data=TASK), "ambiguous"),
    Row("429 in a 200 with a task", 200, envelope(429, data=TASK), "ambiguous"),
    Row("400 without an error", 400, {}, "ambiguous"),
    Row("403 of another envelope", 403, {"reason": "blocked by a proxy"}, "rejected", "vendor_auth"),
    Row("an empty body", 200, b"", "ambiguous"),
    Row("truncated JSON", 200, b'{"code":200,"data":{"taskId":"task_12', "ambiguous"),
    Row("two documents", 200, b'{"code":200}{"code":200}', "ambiguous"),
    Row("an array", 200, [envelope(200, data=TASK)], "ambiguous"),
    Row("a string", 200, b'"task_12345678"', "ambiguous"),
    Row("null", 200, b"null", "ambiguous"),
    Row("NaN", 200, b"NaN", "ambiguous"),
    Row("deep nesting", 200, DEEP, "ambiguous"),
    Row("no UTF-8", 200, b'{"code":200,"data":{"taskId":"\xff"}}', "ambiguous"),
    Row("gzip inside", 200, gzip.compress(json.dumps(envelope(200, data=TASK)).encode()), "ambiguous"),
    Row("JSON as text", 200, envelope(200, data=TASK), "ambiguous", None, "text/plain"),
    Row("JSON as HTML", 200, envelope(200, data=TASK), "ambiguous", None, "text/html; x=json"),
    Row("no content type", 200, envelope(200, data=TASK), "ambiguous", None, None),
    *(
        Row(f"HTML at {status}", status, b"<html>a page</html>", "ambiguous", None, content_type)
        for status in (200, 302, 400, 404, 408, 409, 422, 500, 502, 503)
        for content_type in ("text/html", JSON)
    ),
)
ROWS = (*ACCEPTED, *REJECTED, *THROTTLED, *AMBIGUOUS)


ANSWERS = Answers(ROWS, TASK["taskId"])
