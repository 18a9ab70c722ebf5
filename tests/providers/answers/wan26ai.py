"""What wan26ai.app answers to a submission, and what each answer means."""

from tests.providers.answers.answers import Answers, Row

TASK = {"task_id": "n35abc123def456wan26", "status": "IN_PROGRESS"}


def envelope(code: object, *, data: object = None, message: object = "words") -> dict[str, object]:
    return {"code": code, "message": message, "data": data}


GONE = ("the model is not available", "unsupported model", "model wan/2-6-text-to-video has been retired")
ROWS = (
    # accepted
    Row("200", 200, envelope(200, data=TASK), "accepted"),
    Row("the code in digits", 200, envelope("200", data=TASK), "accepted"),
    Row("no code", 202, {"data": TASK}, "accepted"),
    Row("a job that has failed at once", 200, envelope(200, data=TASK | {"status": "FAILED"}), "accepted"),
    # the rows of the table
    Row("400 about content", 400, envelope(400, message="NSFW"), "rejected", "content_rejected"),
    Row("403 about content", 403, envelope(403, message="violates our policy"), "rejected", "content_rejected"),
    *(Row(f"400: {words}", 400, envelope(400, message=words), "rejected", "vendor_route_missing") for words in GONE),
    Row("400", 400, envelope(400), "rejected", "vendor_rejected"),
    Row("413", 413, envelope(413), "rejected", "vendor_rejected"),
    Row("415", 415, envelope(415), "rejected", "vendor_rejected"),
    Row("422", 422, envelope(422), "rejected", "vendor_rejected"),
    Row("401", 401, envelope(401), "rejected", "vendor_auth"),
    Row("401 whatever it says", 401, envelope(401, message="policy"), "rejected", "vendor_auth"),
    Row("402", 402, envelope(402), "rejected", "vendor_account_empty"),
    Row("403", 403, envelope(403), "rejected", "vendor_auth"),
    Row("404", 404, envelope(404), "rejected", "vendor_route_missing"),
    Row("429", 429, envelope(429), "throttled", "vendor_throttled"),
    *(Row(str(status), status, envelope(status), "ambiguous") for status in (500, 502, 503, 504, 599)),
    # the envelope's code wins
    Row("402 in a 200", 200, envelope(402), "rejected", "vendor_account_empty"),
    Row("402 in digits in a 200", 200, envelope("402"), "rejected", "vendor_account_empty"),
    Row("429 in a 200", 200, envelope(429), "throttled", "vendor_throttled"),
    Row("500 in a 200", 200, envelope(500), "ambiguous"),
    Row("200 in a 500", 500, envelope(200, data=TASK), "ambiguous"),
    Row("401 with a word for a code", 401, envelope("unauthorized"), "rejected", "vendor_auth"),
    # shapes that no page shows
    Row("an error as text", 401, {"error": "Unauthorized"}, "rejected", "vendor_auth"),
    Row("an error as object", 402, {"error": {"message": "no credits"}}, "rejected", "vendor_account_empty"),
    Row("an error about content", 400, {"error": "sensitive content"}, "rejected", "content_rejected"),
    # whatever no row knows
    *(Row(str(status), status, envelope(status), "ambiguous") for status in (302, 405, 408, 409, 418)),
    Row("an unknown code", 200, envelope(10_001), "ambiguous"),
    Row("an unknown code with a task", 200, envelope(0, data=TASK), "ambiguous"),
    Row("a word for a code, no task", 200, envelope("insufficient_credits"), "ambiguous"),
    Row("no data", 200, envelope(200), "ambiguous"),
    Row("no id", 200, envelope(200, data={"status": "IN_PROGRESS"}), "ambiguous"),
    Row("an empty id", 200, envelope(200, data={"task_id": ""}), "ambiguous"),
    Row("an id with slashes", 200, envelope(200, data={"task_id": "../x"}), "ambiguous"),
    Row("an id of 10 kB", 200, envelope(200, data={"task_id": "t" * 10_000}), "ambiguous"),
    Row("400 that names a task", 400, envelope(400, data=TASK), "ambiguous"),
    Row("another envelope", 403, {"reason": "blocked by a proxy"}, "rejected", "vendor_auth"),
    Row("an empty body", 401, b"", "rejected", "vendor_auth"),
    Row("plain words", 401, b"401 Unauthorized", "rejected", "vendor_auth", "text/plain"),
    Row("HTML", 200, b"<html>", "ambiguous", None, "text/html"),
    Row("an array", 200, [envelope(200, data=TASK)], "ambiguous"),
    Row("truncated", 200, b'{"code":200,"data":{"task_id":"n35', "ambiguous"),
)


ANSWERS = Answers(ROWS, TASK["task_id"])
