"""gptimage2's unified endpoint, models Wan 2.6, as its "Wan 2.6 API Production Guide" shows it (2026-04-11).

The guide shows requests only. Answers, errors and callbacks are those of the API it mirrors (docs.evolink.ai, read
2026-11-20). Where the pages contradict each other or are silent, the choice and its reason stand beside the fact.
"""

from urllib.parse import quote

import httpx

from onetake.core.contracts import GenerationRequest, Plan, StatusReading
from onetake.core.ports import SubmitOrder, SubmitOutcome, VendorStatus
from providers.catalogue import load_catalogue
from providers.readings import Job, error_in, moment_of, results_in, status_of
from providers.vendor import (
    Answer,
    CallbackHint,
    decoded_object,
    envelope_status,
    json_object,
    json_post,
    nested,
    not_understood,
    outcome_of,
    safe_text,
    task_id_of,
)

# The models' pages: the status that each `error.type` stands for, for an error that arrives inside a 200 with a word
# as its code.
HTTP_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "insufficient_quota": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "internal_server_error": 500,
    "upstream_error": 502,
    "service_unavailable_error": 503,
}

FACTS = load_catalogue().vendors["gptimage2"]


def submit_request(base_url: str, order: SubmitOrder) -> httpx.Request:
    """`POST /videos/generations`: one address for all models, everything in the body."""
    return json_post(f"{base_url}/videos/generations", _body(order))


def _body(order: SubmitOrder) -> dict[str, object]:
    request, plan = order.request, order.plan
    body: dict[str, object] = {"model": plan.vendor_model, "prompt": request.prompt, **_media(request)}
    if plan.aspect_ratio is not None:
        body["aspect_ratio"] = plan.aspect_ratio
    body |= {"quality": plan.resolution, "duration": plan.duration_s}
    if request.prompt_extend is not None:
        body["prompt_extend"] = request.prompt_extend
    if request.shot_type is not None:
        body["model_params"] = {"shot_type": request.shot_type}
    if order.callback_url:
        body["callback_url"] = order.callback_url
    return body


def _media(request: GenerationRequest) -> dict[str, object]:
    lists = {"image_urls": [request.image] if request.image else [], "video_urls": list(request.references)}
    return {name: addresses for name, addresses in lists.items() if addresses}


def submit_outcome(response: httpx.Response) -> SubmitOutcome:
    """Accepted is a 2xx with `id`, whatever else stands there: a job that failed at once is one to be read and settled.

    `usage.credits_reserved` is a reservation and no charge: the job is settled on what was generated, which no answer
    shows. So it is not read.
    """
    body = json_object(response)
    if body is None or (response.status_code // 100 != 2 and not isinstance(body.get("error"), dict)):
        return not_understood(FACTS.outcomes, response)
    answer = Answer(
        _status(response, body),
        body.get("id"),
        code=_code(body),
        words=nested(body, "error", "message"),
    )
    return outcome_of(FACTS.outcomes, response, answer)


def _status(response: httpx.Response, body: dict[str, object]) -> int:
    """The status of an answer. An error inside a 2xx counts as what it stands for, unless it is the error of a task."""
    about_a_task = body.get("id") is not None or body.get("status") is not None
    return envelope_status(response.status_code, None if about_a_task else _stands_for(body))


def _stands_for(body: dict[str, object]) -> object:
    code, kind = nested(body, "error", "code"), nested(body, "error", "type")
    return HTTP_OF_TYPE.get(kind) if _is_word(code) and isinstance(kind, str) else code


def _code(body: dict[str, object]) -> object:
    """The word that the tables go by: `error.code` is an integer on a model's page and a word on the task's page,
    `error.type` is always a word."""
    code = nested(body, "error", "code")
    return code if _is_word(code) else nested(body, "error", "type")


def _is_word(code: object) -> bool:
    return isinstance(code, str) and not code.isdigit()


def status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
    """`GET /tasks/{id}`."""
    del plan
    return httpx.Request("GET", f"{base_url}/tasks/{quote(vendor_task_id, safe='')}")


def read_status(response: httpx.Response) -> VendorStatus | None:
    """`status` decides. No page names a cancelled one: a cancelled task has failed with `request_cancelled`."""
    body = json_object(response)
    if body is None:
        return None
    if body.keys().isdisjoint(("id", "status")):
        missing = _status(response, body) == 404 and isinstance(body.get("error"), dict)
        return VendorStatus(StatusReading(state="missing", vendor_state="404")) if missing else None
    return status_of(FACTS, _job(body)) if response.status_code // 100 == 2 else None


def _job(body: dict[str, object]) -> Job:
    return Job(
        body.get("status"),
        named=body.get("id"),
        links=results_in(body),
        code=_code(body),
        words=nested(body, "error", "message") or error_in(body.get("error"))[1],
        created_at=moment_of(body.get("created")),
    )


def callback_hint(body: bytes) -> CallbackHint:
    """The callback's body has the shape of the status answer; it may claim anything."""
    claimed = decoded_object(body) or {}
    return CallbackHint(task_id_of(claimed.get("id")), safe_text(claimed.get("status")) or None)
