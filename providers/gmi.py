"""GMI Cloud, models `wan2.6-t2v`, `wan2.6-i2v` and `wan2.6-r2v`, on its request queue (read 2026-11-20).

Polling only: no callback is documented. Where the pages contradict each other or are silent, the choice and its reason
stand beside the fact.
"""

from collections.abc import Mapping
from urllib.parse import quote

import httpx

from onetake.core.contracts import GenerationRequest, Plan, StatusReading
from onetake.core.ports import SubmitOrder, SubmitOutcome, VendorStatus
from providers.catalogue import load_catalogue
from providers.readings import Job, error_in, links_of, moment_of, results_in, status_of
from providers.vendor import (
    MOST_UNIX_S,
    Answer,
    CallbackHint,
    ListedJob,
    json_object,
    json_post,
    listed_objects,
    nested,
    not_understood,
    number_of,
    outcome_of,
    task_id_of,
)

REQUESTS = "/api/v1/ie/requestqueue/apikey/requests"

# Fields that have the same name in our request and in `payload`. Sent only when given.
SCALARS = ("negative_prompt", "audio_url", "shot_type", "prompt_extend", "watermark")

# A job's id. No published error of this vendor has one, so a refusal that has one may be a job.
TASK_ID = "request_id"

FACTS = load_catalogue().vendors["gmi"]


def submit_request(base_url: str, order: SubmitOrder) -> httpx.Request:
    """`POST .../requests`: the model decides the mode. There is no field for a callback."""
    return json_post(f"{base_url}{REQUESTS}", {"model": order.plan.vendor_model, "payload": _payload(order)})


def _payload(order: SubmitOrder) -> dict[str, object]:
    request, plan = order.request, order.plan
    given: dict[str, object] = {"prompt": request.prompt, **_media(request), **_size(plan)}
    given["duration"] = plan.duration_s
    given |= {name: value for name in SCALARS if (value := getattr(request, name)) is not None}
    if plan.sound is not None:
        given["audio"] = plan.sound
    if order.seed is not None:
        given["seed"] = order.seed
    return given


def _media(request: GenerationRequest) -> dict[str, object]:
    media: dict[str, object] = {"img_url": request.image, "reference_video_urls": list(request.references)}
    return {name: value for name, value in media.items() if value}


def _size(plan: Plan) -> dict[str, object]:
    """`size` is WIDTH*HEIGHT; where the input decides the aspect ratio it is `resolution`, with a capital P."""
    if plan.width is None or plan.height is None:
        return {"resolution": plan.resolution.upper()}
    return {"size": f"{plan.width}*{plan.height}"}


def submit_outcome(response: httpx.Response) -> SubmitOutcome:
    """Accepted is a 2xx with `request_id`, whatever its `status`: some models of this queue answer when all is over,
    and even a request that failed at once is one to be read and settled."""
    body = json_object(response)
    if body is None or body.keys().isdisjoint(("request_id", "error", "message", "detail")):
        return not_understood(FACTS.outcomes, response, TASK_ID)
    answer = Answer(response.status_code, body.get(TASK_ID), code=nested(body, "error", "code"), words=_said(body))
    return outcome_of(FACTS.outcomes, response, answer, TASK_ID)


def status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
    """`GET .../requests/{request_id}`: status and result in one."""
    del plan
    return httpx.Request("GET", f"{base_url}{REQUESTS}/{quote(vendor_task_id, safe='')}")


def list_request(base_url: str, plan: Plan) -> httpx.Request:
    """`GET .../requests?model_id=`: our requests of one model."""
    return httpx.Request("GET", f"{base_url}{REQUESTS}", params={"model_id": plan.vendor_model})


def listed_jobs(response: httpx.Response, order: SubmitOrder) -> tuple[ListedJob, ...] | None:
    """The requests whose model and `payload` are those of the order. The envelope is not documented: the names that
    published clients read, and a bare list, are understood."""
    items = listed_objects(response, "requests", "data", "items")
    if items is None:
        return None
    model, payload = order.plan.vendor_model, _payload(order)
    jobs = [_listed_job(item) for item in items if item.get("model") == model and item.get("payload") == payload]
    understood = [job for job in jobs if job is not None]
    return tuple({job.task_id: job for job in understood}.values()) if len(understood) == len(jobs) else None


def _listed_job(item: Mapping[str, object]) -> ListedJob | None:
    task_id, created_at = task_id_of(item.get("request_id")), number_of(item.get("created_at"), MOST_UNIX_S)
    return None if task_id is None or created_at is None else ListedJob(task_id, float(created_at))


def read_status(response: httpx.Response) -> VendorStatus | None:
    """The request object. No page shows an error; published clients read `error`, and a 404 with it is a request that
    the vendor does not know. A proxy that knows no such path says so in `message` or `detail`."""
    body = json_object(response)
    if body is None:
        return None
    if response.status_code == 404 and body.get("error") is not None:
        return VendorStatus(StatusReading(state="missing", vendor_state="404"))
    if not response.is_success or body.keys().isdisjoint(("request_id", "status")):
        return None
    return status_of(FACTS, _job(body))


def _job(body: Mapping[str, object]) -> Job:
    """No documented call cancels, so it was not us; what it costs is as unknown as the cost of a failed one."""
    links = links_of(nested(body, "outcome", "media_urls"), nested(body, "outcome", "video_url")) or results_in(body)
    has_failed = FACTS.states.meaning(body.get("status")) in {"failed", "canceled"}
    return Job(
        body.get("status"),
        named=body.get("request_id"),
        links=links,
        code=nested(body, "error", "code"),
        words=_said(body, "outcome") if has_failed else error_in(body.get("error"))[1],
        created_at=moment_of(body.get("created_at")),
    )


def _said(body: Mapping[str, object], *more: str) -> str:
    """The first text that explains: no page shows an error, so every place seen in clients is looked at. Texts only:
    a list of broken fields repeats the values that were sent."""
    places = (value for name in ("error", "message", "detail", *more) for value in _texts_at(body.get(name)))
    return next((text for text in places if isinstance(text, str) and text.strip()), "")


def _texts_at(value: object) -> tuple[object, ...]:
    return (value, nested(value, "message"), nested(value, "error"), nested(value, "detail"))


def callback_hint(body: bytes) -> CallbackHint:
    """GMI calls nobody back: whatever came is not from it."""
    del body
    return CallbackHint()
