"""wan26ai.app, model Wan 2.6: requests and answers as documented on its page (read 2026-11-20).

Where the page is silent, the choice and its reason stand beside the fact.
"""

from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

import httpx

from onetake.core.contracts import Plan, StatusReading
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
    number_of,
    outcome_of,
    safe_text,
    says_404,
    task_id_of,
)

FACTS = load_catalogue().vendors["wan26ai"]

# The page shows the envelope of successes only; `error` is where others of its kind put a refusal's words.
ENVELOPE = ("code", "message", "data", "error")


def submit_request(base_url: str, order: SubmitOrder) -> httpx.Request:
    """`POST /generate`: a flat body, the mode in the model's id, the duration a string.

    `public` is always sent as false: its default is not documented, and a gallery would publish the customer's clip.
    """
    request, plan = order.request, order.plan
    body: dict[str, object] = {
        "model": plan.vendor_model,
        "prompt": request.prompt,
        "duration": str(plan.duration_s),
        "resolution": plan.resolution,
    }
    if request.image is not None:
        body["image_urls"] = [request.image]
    if request.videos:
        body["video_urls"] = list(request.videos)
    if order.callback_url:
        body["callback_url"] = order.callback_url
    return json_post(f"{base_url}/generate", {**body, "public": False})


def submit_outcome(response: httpx.Response) -> SubmitOutcome:
    """Accepted is a 2xx with `code` 200 and `data.task_id`; the envelope's code wins over the HTTP status."""
    body = json_object(response)
    if body is None or body.keys().isdisjoint(ENVELOPE):
        return not_understood(FACTS.outcomes, response)
    code = body.get("code")
    status, named = envelope_status(response.status_code, code), nested(body, "data", "task_id")
    return outcome_of(FACTS.outcomes, response, Answer(status, named, code=code, words=_words(body)))


def _words(body: Mapping[str, object]) -> object:
    """What a refusal says, wherever it stands: no page shows one."""
    error = body.get("error")
    return body.get("message") or nested(error, "message") or error or nested(body, "data", "error_message")


def status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
    """`GET /status?task_id=`; a POST with the id in the body would do the same."""
    del plan
    return httpx.Request("GET", f"{base_url}/status?task_id={quote(vendor_task_id, safe='')}")


def read_status(response: httpx.Response) -> VendorStatus | None:
    """`data.status` decides. How an unknown task is answered is not documented: a 404 in the envelope
    of the other answers says that it is missing."""
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
    consumed = number_of(said := data.get("consumed_credits"))
    return Job(
        data.get("status"),
        named=data.get("task_id"),
        links=links_of(data.get("response")) or results_in(data),
        words=data.get("error_message"),
        reported_units=consumed,
        cost_unusable=consumed is None and said is not None,
        # "Credits charged for the task (0 when refunded)": without the figure nothing is known of the refund.
        refunded=None if consumed is None else consumed == 0,
        created_at=moment_of(data.get("created_at")),
    )


def callback_hint(body: bytes) -> CallbackHint:
    """A callback's body is not documented: the envelope of the status answer is tried, and its `data` by itself."""
    claimed = decoded_object(body)
    data = nested(claimed, "data") or claimed
    return CallbackHint(task_id_of(nested(data, "task_id")), safe_text(nested(data, "status")) or None)
