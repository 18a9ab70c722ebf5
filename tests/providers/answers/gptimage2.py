"""What gptimage2 answers to a submission, and what each answer means."""

from tests.providers.answers.answers import Answers, Row

TASK_ID = "task-unified-1757169743-7cvnl5zw"


def error(code: object, kind: object = "api_error", message: object = "words", **beside: object) -> dict[str, object]:
    return {"error": {"code": code, "type": kind, "message": message}, **beside}


TASK = {"id": TASK_ID, "status": "pending", "usage": {"credits_reserved": 5}}
ROWS = (
    Row("200", 200, TASK, "accepted"),
    Row("201 with its id alone", 201, {"id": TASK_ID}, "accepted"),
    Row("a task that failed at once", 200, TASK | error("content_policy_violation"), "accepted"),
    Row("a task that failed with a number", 200, TASK | error(400), "accepted"),
    Row("null error", 200, {**TASK, "error": None}, "accepted"),
    Row("400", 400, error(400, "invalid_request_error"), "rejected", "vendor_rejected"),
    Row("400 in a word", 400, error("invalid_request", "invalid_request_error"), "rejected", "vendor_rejected"),
    Row("400 in digits", 400, error("400", "invalid_request_error"), "rejected", "vendor_rejected"),
    Row("400 about content", 400, error("content_policy_violation"), "rejected", "content_rejected"),
    Row("400 of that type", 400, error(400, "content_policy_violation"), "rejected", "content_rejected"),
    Row("400 in such words", 400, error(400, message="Blocked by safety filters"), "rejected", "content_rejected"),
    Row("403 about content", 403, error("content_policy_violation"), "rejected", "content_rejected"),
    Row("413", 413, error(413), "rejected", "vendor_rejected"),
    Row("415", 415, error(415), "rejected", "vendor_rejected"),
    Row("422", 422, error(422), "rejected", "vendor_rejected"),
    Row("401", 401, error(401, "authentication_error"), "rejected", "vendor_auth"),
    Row("402", 402, error(402, "insufficient_quota"), "rejected", "vendor_account_empty"),
    Row("402 of the other word", 402, error("quota_exceeded"), "rejected", "vendor_account_empty"),
    Row("403", 403, error(403, "permission_error"), "rejected", "vendor_auth"),
    Row("403 about the model", 403, error("model_access_denied"), "rejected", "vendor_route_missing"),
    Row("404", 404, error(404, "not_found_error"), "rejected", "vendor_route_missing"),
    Row("429", 429, error(429, "rate_limit_error"), "throttled", "vendor_throttled"),
    Row("429 in a word", 429, error("rate_limit_exceeded", "evo_api_error"), "throttled", "vendor_throttled"),
    Row("429 of the frequency", 429, error("quota_exceeded"), "throttled", "vendor_throttled"),
    Row("429 about money", 429, error("insufficient_quota"), "rejected", "vendor_account_empty"),
    Row("429 about money by type", 429, error(429, "insufficient_quota"), "rejected", "vendor_account_empty"),
    Row("402 in a 200", 200, error(402, "insufficient_quota"), "rejected", "vendor_account_empty"),
    Row("402 in digits in a 200", 200, error("402"), "rejected", "vendor_account_empty"),
    Row("a word in a 200", 200, error("no_money", "insufficient_quota"), "rejected", "vendor_account_empty"),
    Row("429 in a 200", 200, error(429), "throttled", "vendor_throttled"),
    Row("400 in a 200 with a state", 200, error(400, status="failed"), "ambiguous"),
    Row("an unknown word in a 200", 200, error("queue_full"), "ambiguous"),
    Row("code 0", 200, error(0), "ambiguous"),
    Row("code true", 200, error(True), "ambiguous"),
    Row("500 in a 200", 200, error(500, "internal_server_error"), "ambiguous"),
    Row("400 that names a task", 400, error(400, id=TASK_ID), "ambiguous"),
    Row("429 that names a task", 429, error(429, id=TASK_ID), "ambiguous"),
    Row("200 in a 500", 500, TASK, "ambiguous"),
    *(Row(str(code), code, error(code), "ambiguous") for code in (302, 408, 409, 418, 500, 502, 503, 504)),
    Row("an error of text", 400, {"error": "no"}, "ambiguous"),
    Row("another envelope", 403, {"reason": "blocked by a proxy"}, "rejected", "vendor_auth"),
    Row("no id", 200, {"status": "pending"}, "ambiguous"),
    Row("null id", 200, {"id": None}, "ambiguous"),
    Row("a number as id", 200, {"id": 12}, "ambiguous"),
    Row("an id of 10 kB", 200, {"id": "t" * 10_000}, "ambiguous"),
    Row("an id with slashes", 200, {"id": "../../etc/passwd"}, "ambiguous"),
    *(Row(f"an id of {dots}", 200, {"id": dots}, "ambiguous") for dots in (".", "..")),
    Row("an id elsewhere", 200, {"data": {"id": TASK_ID}}, "ambiguous"),
    Row("nothing", 200, b"", "ambiguous"),
    Row("truncated", 200, b'{"id":"task-unified-17', "ambiguous"),
    Row("an array", 200, [TASK], "ambiguous"),
    Row("too deep", 200, b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "ambiguous"),
    Row("HTML", 200, b"<html>sign in</html>", "ambiguous", None, "text/html"),
    Row("JSON as HTML", 400, error(400), "ambiguous", None, "text/html"),
)


ANSWERS = Answers(ROWS, TASK_ID)
