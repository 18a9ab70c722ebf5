"""APIXO, model `wan-2-6-video`: requests and answers as documented on its model page (read 2026-11-20).

Where the pages contradict each other or are silent, the choice and its reason stand beside the fact.
"""

from typing import cast
from urllib.parse import quote

import httpx

from onetake.core.contracts import GenerationRequest, Plan, StatusReading
from onetake.core.ports import SubmitOrder, SubmitOutcome, VendorStatus
from providers.catalogue import load_catalogue
from providers.readings import Job, links_of, moment_of, results_in, status_of
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
    says_404,
    task_id_of,
)

MODEL = "wan-2-6-video"

# The field of our request -> the field of `input`. Sent only when given; lists hold one address each.
SCALARS = ("negative_prompt", "prompt_extend", "shot_type", "watermark")

FACTS = load_catalogue().vendors["apixo"]


def submit_request(base_url: str, order: SubmitOrder) -> httpx.Request:
    """`POST /generateTask/wan-2-6-video`: the model is in the path, the mode in the body."""
    body: dict[str, object] = {"request_type": "callback" if order.callback_url else "async"}
    if order.callback_url:
        body["callback_url"] = order.callback_url
    return json_post(f"{base_url}/generateTask/{MODEL}", {**body, "input": _input(order)})


def _input(order: SubmitOrder) -> dict[str, object]:
    request, plan = order.request, order.plan
    given: dict[str, object] = {"mode": plan.route.rsplit("/", 1)[-1], "prompt": request.prompt}
    given |= {"resolution": plan.resolution, "duration": plan.duration_s}
    given |= {name: value for name in SCALARS if (value := getattr(request, name)) is not None}
    if plan.sound is not None:
        given["sound"] = plan.sound
    if order.seed is not None:
        given["seed"] = order.seed
    return given | _media(request)


def _media(request: GenerationRequest) -> dict[str, object]:
    lists = {
        "image_urls": [request.image] if request.image else [],
        "reference_urls": list(request.references),
        "audio_urls": [request.audio_url] if request.audio_url else [],
    }
    return {name: addresses for name, addresses in lists.items() if addresses}


def submit_outcome(response: httpx.Response) -> SubmitOutcome:
    """Accepted is a 2xx with `code` 200 and `data.taskId`; the envelope's code wins over the HTTP status."""
    body = json_object(response)
    if body is None or body.keys().isdisjoint(("code", "message", "data")):
        return not_understood(FACTS.outcomes, response)
    status, named = envelope_status(response.status_code, body.get("code")), nested(body, "data", "taskId")
    words = nested(body, "data", "error") or body.get("message")
    return outcome_of(FACTS.outcomes, response, Answer(status, named, words=words))


def status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
    """`GET /statusTask/wan-2-6-video?taskId=`: the same model path as at submit."""
    del plan
    return httpx.Request("GET", f"{base_url}/statusTask/{MODEL}?taskId={quote(vendor_task_id, safe='')}")


def read_status(response: httpx.Response) -> VendorStatus | None:
    """`data.state` decides: a failed task also answers HTTP 200 with code 200."""
    body = json_object(response)
    if body is None:
        return None
    status = envelope_status(response.status_code, body.get("code"))
    if says_404(response.status_code, body.get("code")):
        return VendorStatus(StatusReading(state="missing", vendor_state="404"))
    data = body.get("data")
    if not 200 <= status < 300 or not isinstance(data, dict):
        return None
    return status_of(FACTS, _job(cast("dict[str, object]", data)))


def _job(data: dict[str, object]) -> Job:
    """`resultJson` is JSON inside a string: `{"resultUrls": [...]}`."""
    return Job(
        data.get("state"),
        named=data.get("taskId"),
        links=links_of(data.get("resultJson")) or results_in(data),
        code=data.get("failCode"),
        words=data.get("failMsg"),
        created_at=moment_of(data.get("createTime")),
    )


def callback_hint(body: bytes) -> CallbackHint:
    """The callback's body has the shape of the status answer; it may claim anything."""
    claimed = decoded_object(body)
    return CallbackHint(
        task_id_of(nested(claimed, "data", "taskId")), safe_text(nested(claimed, "data", "state")) or None
    )
