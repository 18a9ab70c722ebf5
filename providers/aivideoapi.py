"""aivideoapi.ai, model Wan 2.6: requests and answers as its page "Wan 2.6" documents them (read 2026-11-20).

That page shows neither the task JSON nor the callback; both are taken from the vendor's page "Seedance 2". Where the
pages are silent, the choice and its reason stand beside the fact.
"""

from typing import cast
from urllib.parse import quote

import httpx

from onetake.core.contracts import Plan, StatusReading
from onetake.core.names import InputKind
from onetake.core.ports import Account, SubmitOrder, SubmitOutcome, VendorStatus
from providers.catalogue import load_catalogue
from providers.readings import Job, error_in, links_of, moment_of, results_in, status_of
from providers.vendor import (
    Answer,
    CallbackHint,
    decoded_object,
    envelope_status,
    json_object,
    json_post,
    nested,
    not_understood,
    number_of,
    outcome_of,
    safe_text,
    task_id_of,
)

# Fields of `input` that carry our names. Sent only when given.
SCALARS = ("negative_prompt", "shot_type", "prompt_extend", "watermark")

# "Error Reference": the status that each code stands for, for a code that arrives inside a 200.
HTTP_OF_CODE = {
    "invalid_request": 400,
    "invalid_api_key": 401,
    "insufficient_credits": 402,
    "ip_not_allowed": 403,
    "model_not_found": 404,
    "task_not_found": 404,
    "rate_limit_exceeded": 429,
    "spend_limit_exceeded": 429,
    "internal_error": 500,
    "upstream_error": 503,
}

FACTS = load_catalogue().vendors["aivideoapi"]


def submit_request(base_url: str, order: SubmitOrder) -> httpx.Request:
    """`POST /videos/generations`: the model's name says the mode, `callback_url` stands beside `input`."""
    body: dict[str, object] = {"model": order.plan.vendor_model}
    if order.callback_url:
        body["callback_url"] = order.callback_url
    return json_post(f"{base_url}/videos/generations", {**body, "input": _input(order)})


def _input(order: SubmitOrder) -> dict[str, object]:
    request, plan = order.request, order.plan
    given: dict[str, object] = {"prompt": request.prompt, **_media(order)}
    if plan.aspect_ratio is not None:
        given["aspect_ratio"] = plan.aspect_ratio
    given |= {"resolution": plan.resolution, "duration": plan.duration_s}
    given |= {name: value for name in SCALARS if (value := getattr(request, name)) is not None}
    if plan.sound is not None:
        given["audio"] = plan.sound
    if order.seed is not None:
        given["seed"] = order.seed
    return given


def _media(order: SubmitOrder) -> dict[str, object]:
    request = order.request
    lists = {
        "image_urls": [request.image] if request.image else _references(order, "image"),
        "video_urls": _references(order, "video"),
        "audio_urls": [request.audio_url] if request.audio_url else [],
    }
    return {name: addresses for name, addresses in lists.items() if addresses}


def _references(order: SubmitOrder, kind: InputKind) -> list[str]:
    """The references of one kind, in the request's order: the page numbers `character1..n` by order and does not say
    how two lists count together."""
    pairs = zip(order.request.references, order.plan.reference_kinds, strict=True)
    return [url for url, found in pairs if found == kind]


def submit_outcome(response: httpx.Response) -> SubmitOutcome:
    """Accepted is a 2xx with `code` 200 and `data.taskId`; an error inside a 2xx counts as the status it stands for."""
    body = json_object(response)
    if body is None or body.keys().isdisjoint(("code", "msg", "data", "error")):
        return not_understood(FACTS.outcomes, response)
    code, words = _said(body)
    named = nested(body, "data", "taskId")
    return outcome_of(FACTS.outcomes, response, Answer(_status(response.status_code, code), named, code, words))


def _said(body: dict[str, object]) -> tuple[object, object]:
    """Code and words of either envelope: `{error: {code, message, type}}`, or `{code, msg, data}` with another code."""
    error = body.get("error")
    if isinstance(error, dict):
        named = cast("dict[str, object]", error)
        return named.get("code"), named.get("message")
    return body.get("code"), body.get("msg") or error


def _status(http_status: int, code: object) -> int:
    """The status of an answer whose code is a number or one of the documented words."""
    return envelope_status(http_status, HTTP_OF_CODE.get(code, code) if isinstance(code, str) else code)


def status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
    """`GET /tasks/{taskId}`."""
    del plan
    return httpx.Request("GET", f"{base_url}/tasks/{quote(vendor_task_id, safe='')}")


def read_status(response: httpx.Response) -> VendorStatus | None:
    """`status` decides. Only the vendor's own `task_not_found` says that a job is missing."""
    body = json_object(response)
    if body is None:
        return None
    task = _task(body)
    if "status" not in task and _says_not_found(response.status_code, body):
        return VendorStatus(StatusReading(state="missing", vendor_state="404"))
    # A failed task carries an error of its own: only the envelope's code speaks of the answer.
    understood = 200 <= envelope_status(response.status_code, body.get("code")) < 300
    return status_of(FACTS, _job(task)) if understood and not task.keys().isdisjoint(("id", "status")) else None


def _says_not_found(http_status: int, body: dict[str, object]) -> bool:
    code, _ = _said(body)
    return _status(http_status, code) == 404 and code in ("task_not_found", 404, "404")


def _task(body: dict[str, object]) -> dict[str, object]:
    """The task stands alone on the page that shows it; this vendor wraps its other answers, so both are read."""
    data = body.get("data")
    return cast("dict[str, object]", data) if isinstance(data, dict) else body


def _job(task: dict[str, object]) -> Job:
    code, words = error_in(task.get("error"))
    return Job(
        task.get("status"),
        named=task.get("id"),
        links=links_of(nested(task, "output", "urls")) or results_in(task),
        code=code,
        words=words,
        created_at=moment_of(task.get("created_at")),
    )


def account_request(base_url: str) -> httpx.Request:
    """`GET /credits`."""
    return httpx.Request("GET", f"{base_url}/credits")


def read_account(response: httpx.Response) -> Account | None:
    """`data` with `balance` and `total_consumed`, in credits."""
    body = json_object(response)
    if body is None or not 200 <= envelope_status(response.status_code, body.get("code")) < 300:
        return None
    balance, consumed = number_of(nested(body, "data", "balance")), number_of(nested(body, "data", "total_consumed"))
    return None if balance is None or consumed is None else Account(balance, consumed)


def callback_hint(body: bytes) -> CallbackHint:
    """The callback's body is the task JSON; it may claim anything."""
    task = _task(decoded_object(body) or {})
    return CallbackHint(task_id_of(task.get("id")), safe_text(task.get("status")) or None)
