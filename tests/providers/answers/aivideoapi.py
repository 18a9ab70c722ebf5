"""What aivideoapi.ai answers to a submission, and what each answer means."""

from tests.providers.answers.answers import Answers, Row

TASK_ID = "8b6a5162-5c91-4a42-8e80-4c8ef5486f24"
TASK = {"taskId": TASK_ID}


def envelope(code: object, *, data: object = None, msg: object = "words") -> dict[str, object]:
    return {"code": code, "msg": msg, "data": data}


def error(code: object, message: object = "words", **beside: object) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "type": "api_error"}, **beside}


ROWS = (
    Row("200", 200, envelope(200, data=TASK), "accepted"),
    Row("201 without a code", 201, {"data": TASK}, "accepted"),
    Row("a code in digits", 200, envelope("200", data=TASK), "accepted"),
    Row("a code that is a word", 200, envelope("ok", data=TASK), "accepted"),
    Row("null error", 200, {**envelope(200, data=TASK), "error": None}, "accepted"),
    Row("400", 400, error("invalid_request"), "rejected", "vendor_rejected"),
    Row("401", 401, error("invalid_api_key"), "rejected", "vendor_auth"),
    Row("402", 402, error("insufficient_credits"), "rejected", "vendor_account_empty"),
    Row("403", 403, error("ip_not_allowed"), "rejected", "vendor_auth"),
    Row("403 of another code", 403, error("forbidden"), "rejected", "vendor_auth"),
    Row("404", 404, error("model_not_found"), "rejected", "vendor_route_missing"),
    Row("413", 413, error("too_large"), "rejected", "vendor_rejected"),
    Row("415", 415, error(415), "rejected", "vendor_rejected"),
    Row("422", 422, error(None), "rejected", "vendor_rejected"),
    Row("429", 429, error("rate_limit_exceeded"), "throttled", "vendor_throttled"),
    Row("429 of another code", 429, error("busy"), "throttled", "vendor_throttled"),
    Row("429 about money", 429, error("spend_limit_exceeded"), "rejected", "vendor_account_limit"),
    Row("429 by words", 429, error(429, "Key spend limit reached (daily)"), "rejected", "vendor_account_limit"),
    Row("402 in a 200", 200, envelope(402), "rejected", "vendor_account_empty"),
    Row("402 in digits in a 200", 200, envelope("402"), "rejected", "vendor_account_empty"),
    Row("400 in a 201", 201, envelope(400), "rejected", "vendor_rejected"),
    Row("429 in a 200", 200, envelope(429), "throttled", "vendor_throttled"),
    Row("429 by words in a 200", 200, envelope(429, msg="spend limit reached"), "rejected", "vendor_account_limit"),
    Row("a word in a 200", 200, envelope("insufficient_credits"), "rejected", "vendor_account_empty"),
    Row("an error in a 200", 200, error("invalid_request"), "rejected", "vendor_rejected"),
    Row("money in a 200", 200, error("spend_limit_exceeded"), "rejected", "vendor_account_limit"),
    Row("haste in a 200", 200, error("rate_limit_exceeded"), "throttled", "vendor_throttled"),
    Row("an error of text", 400, {"error": "no"}, "rejected", "vendor_rejected"),
    Row("200 in a 500", 500, envelope(200, data=TASK), "ambiguous"),
    Row("200 in a 400 with a task", 400, envelope(200, data=TASK), "ambiguous"),
    Row("402 in a 200 with a task", 200, envelope(402, data=TASK), "ambiguous"),
    Row("500", 500, error("internal_error"), "ambiguous"),
    Row("502", 502, error("bad_gateway"), "ambiguous"),
    Row("503", 503, error("upstream_error"), "rejected", "vendor_failed"),
    Row("503 about content", 503, error("upstream_error", "sensitive content"), "rejected", "content_rejected"),
    Row("503 in a 200", 200, error("upstream_error"), "rejected", "vendor_failed"),
    Row("503 of another code", 503, error("unavailable", "prohibited content"), "ambiguous"),
    Row("503 without a code", 503, {"error": {"message": "prohibited content"}}, "ambiguous"),
    Row("503 that names a task", 503, error("upstream_error", data=TASK), "ambiguous"),
    Row("500 with that code", 500, error("upstream_error", "prohibited content"), "ambiguous"),
    Row("503 in HTML", 503, b"<html>upstream_error: prohibited content</html>", "ambiguous", None, "text/html"),
    Row("408", 408, error("timeout"), "ambiguous"),
    Row("409", 409, error("conflict"), "ambiguous"),
    Row("302", 302, envelope(200, data=TASK), "ambiguous"),
    Row("an unknown error in a 200", 200, error("queue_full"), "ambiguous"),
    Row("code 0 with a task", 200, envelope(0, data=TASK), "ambiguous"),
    Row("no data", 200, envelope(200), "ambiguous"),
    Row("no id", 200, envelope(200, data={}), "ambiguous"),
    Row("a number as id", 200, envelope(200, data={"taskId": 12}), "ambiguous"),
    Row("an id of 10 kB", 200, envelope(200, data={"taskId": "t" * 10_000}), "ambiguous"),
    Row("an id with slashes", 200, envelope(200, data={"taskId": "../../etc/passwd"}), "ambiguous"),
    *(Row(f"an id of {dots}", 200, envelope(200, data={"taskId": dots}), "ambiguous") for dots in (".", "..")),
    Row("an id elsewhere", 200, {"id": TASK_ID, "code": 200}, "ambiguous"),
    Row("another envelope", 403, {"reason": "blocked by a proxy"}, "rejected", "vendor_auth"),
    Row("nothing", 200, b"", "ambiguous"),
    Row("truncated", 200, b'{"code":200,"data":{"taskId":"8b6a', "ambiguous"),
    Row("an array", 200, [envelope(200, data=TASK)], "ambiguous"),
    Row("too deep", 200, b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "ambiguous"),
    Row("HTML", 200, b"<html>sign in</html>", "ambiguous", None, "text/html"),
    Row("JSON as HTML", 400, error("invalid_request"), "ambiguous", None, "text/html"),
)


ANSWERS = Answers(ROWS, TASK_ID)
