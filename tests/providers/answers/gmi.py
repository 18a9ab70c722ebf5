"""What GMI answers to a submission, and what each answer means."""

from tests.providers.answers.answers import Answers, Row

ID = "6f1d1f0e-58a1-4b7e-9a3d-0f5b7e0c1a42"


def row(status: int, body: object, outcome: str, code: str | None = None) -> Row:
    return Row(f"{status} {str(body)[:60]}", status, body, outcome, code)


ROWS = (
    row(400, {"error": "no"}, "rejected", "vendor_rejected"),
    row(400, {"message": "no"}, "rejected", "vendor_rejected"),
    row(400, {"detail": "no"}, "rejected", "vendor_rejected"),
    row(400, {"error": {"code": 400, "message": "no"}}, "rejected", "vendor_rejected"),
    row(400, {"error": {"code": "bad"}}, "rejected", "vendor_rejected"),
    row(400, {"error": "no", "request_id": None}, "rejected", "vendor_rejected"),
    row(413, {"error": "no"}, "rejected", "vendor_rejected"),
    row(415, {"error": "no"}, "rejected", "vendor_rejected"),
    row(422, {"detail": [{"loc": ["payload"], "input": "canary"}]}, "rejected", "vendor_rejected"),
    row(400, {"error": "sensitive content"}, "rejected", "content_rejected"),
    row(422, {"error": "NSFW"}, "rejected", "content_rejected"),
    row(401, {"error": "policy"}, "rejected", "vendor_auth"),
    row(403, {"error": "no"}, "rejected", "vendor_auth"),
    row(402, {"error": "no"}, "rejected", "vendor_account_empty"),
    row(404, {"error": "no"}, "rejected", "vendor_route_missing"),
    row(429, {"error": "no"}, "throttled", "vendor_throttled"),
    *(row(status, {"error": "no"}, "ambiguous") for status in (302, 405, 408, 409, 418, 500, 502, 503, 504, 599)),
    row(200, {"error": "no"}, "ambiguous"),
    row(200, {"status": "queued"}, "ambiguous"),
    row(200, {"request_id": None}, "ambiguous"),
    row(200, {"request_id": ""}, "ambiguous"),
    row(200, {"request_id": 7}, "ambiguous"),
    row(200, {"request_id": "a/b"}, "ambiguous"),
    row(200, {"request_id": "x" * 10_000}, "ambiguous"),
    row(400, {"error": "no", "request_id": ID}, "ambiguous"),
    row(429, {"error": "no", "request_id": ID}, "ambiguous"),
    row(500, {"request_id": ID, "status": "queued"}, "ambiguous"),
    row(400, {}, "ambiguous"),
    row(400, [], "ambiguous"),
    row(200, None, "ambiguous"),
    row(200, {"request_id": ID}, "accepted"),
    row(201, {"request_id": ID, "status": "queued"}, "accepted"),
    *(row(200, {"request_id": ID, "status": status}, "accepted") for status in ("success", "failed", "cancelled", 7)),
)


ANSWERS = Answers(ROWS, ID)
