"""wan26ai.app, model Wan 2.6, as its guide "Wan 2.6 Async Video Generation" documents it.

Each rule names the section of the guide it comes from. Where the guide leaves room, the simulator takes the stricter
reading:

- a field that the guide does not list is refused, and so is `image_urls` or `video_urls` for another model than the one
  it is required for;
- `duration` is a string and `public` a boolean, as listed; `null` is not a value; a URL is absolute, http or https;
- the body and the retries of a callback are not documented: the status answer is sent once, whatever is answered.

What the guide leaves out altogether is a choice, made as mildly as a client must be able to bear: a missing `duration`
is 5 s, the lists have no longest length, errors come in the envelope of the successes, an unknown task is a 404, and a
task that is not done has no `response` and no `error_message`. The guide names no price of a credit: the development
price is charged. The media behind the URLs are not fetched.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetake.dev.simulator.journal import Job, JobState
from onetake.dev.simulator.prices import micros_per_credit
from onetake.dev.simulator.rendering import PIXELS
from onetake.dev.simulator.vendor import (
    CallbackPolicy,
    ClipOrder,
    Handler,
    Refusal,
    ShownState,
    SimulatedVendor,
    Strict,
    first_fault,
    not_blank,
    public_https,
    require_json,
    shown_charge,
    shown_results,
    shown_word,
    web_address,
)

# "Credit consumption": one table for all models, by resolution and duration.
CREDITS: dict[tuple[str, str], int] = {
    ("720p", "5"): 80,
    ("720p", "10"): 150,
    ("720p", "15"): 220,
    ("1080p", "5"): 115,
    ("1080p", "10"): 220,
    ("1080p", "15"): 325,
}

MICROS_PER_CREDIT = micros_per_credit("wan26ai")

# "Error handling"; what it does not list carries the reason phrase of HTTP.
_MESSAGES = {
    400: "Bad Request",
    401: "Unauthorized - Missing or invalid API key.",
    402: "Payment Required - Credit balance could not cover the deduction.",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests - Reduce the polling cadence or request rate.",
    500: "Transient issue; retry with exponential backoff.",
}

# "Check task status" and both sample responses.
_STATUSES: dict[JobState, str] = {
    "pending": "IN_PROGRESS",
    "processing": "IN_PROGRESS",
    "success": "SUCCESS",
    "failed": "FAILED",
}
_SANITIZED = {"model", "prompt", "duration", "resolution"}  # what the sample response shows of the request

Url = Annotated[str, AfterValidator(web_address)]


class _Task(Strict):
    """What every model takes ("Create generation task")."""

    prompt: Annotated[str, Field(max_length=5000), AfterValidator(not_blank)]
    resolution: Literal["720p", "1080p"] = "1080p"
    callback_url: Annotated[str, AfterValidator(public_https)] = ""
    public: bool = False


class TextToVideo(_Task):
    model: Literal["wan/2-6-text-to-video"]
    duration: Literal["5", "10", "15"] = "5"


class ImageToVideo(_Task):
    model: Literal["wan/2-6-image-to-video"]
    duration: Literal["5", "10", "15"] = "5"
    image_urls: list[Url] = Field(min_length=1)


class VideoToVideo(_Task):
    model: Literal["wan/2-6-video-to-video"]
    duration: Literal["5", "10"] = "5"
    video_urls: list[Url] = Field(min_length=1)


AnyTask = TextToVideo | ImageToVideo | VideoToVideo
_TASK: TypeAdapter[AnyTask] = TypeAdapter(Annotated[AnyTask, Field(discriminator="model")])
_MODELS = ("wan/2-6-text-to-video", "wan/2-6-image-to-video", "wan/2-6-video-to-video")


class _Read(Strict):
    task_id: str


class Wan26ai(SimulatedVendor):
    """The two endpoints under `/wan26ai/api`."""

    name: ClassVar[str] = "wan26ai"
    base_path: ClassVar[str] = "/wan26ai/api"
    state_at: ClassVar[tuple[str, ...]] = ("data", "status")
    result_at: ClassVar[tuple[str, ...]] = ("data", "response")
    refunds_failed_jobs: ClassVar[bool] = True  # "Credit consumption": failed jobs are automatically refunded
    callbacks: ClassVar[CallbackPolicy] = CallbackPolicy(
        acknowledges=lambda status: 200 <= status < 300, timeout_s=10, retry_gaps_s=()
    )

    def routes(self, handler: Handler) -> Sequence[BaseRoute]:
        async def generate(request: Request) -> Response:
            return await handler.submit(self, request)

        async def status(request: Request) -> Response:
            if request.method == "GET":
                return await handler.status(self, request, request.query_params.get("task_id", ""))
            return await handler.status(self, request, await _task_id_in(request))

        return [
            Route("/api/generate", generate, methods=["POST"]),
            Route("/api/status", status, methods=["GET", "POST"]),
        ]

    def order(self, request: Request, body: bytes) -> ClipOrder:
        require_json(request)
        try:
            task = _TASK.validate_json(body)
        except ValidationError as error:
            raise Refusal(400, first_fault(error, _MODELS)) from None
        return _order(task)

    def new_task_id(self) -> str:
        return f"n35{secrets.token_hex(6)}wan26"

    def receipt(self, job: Job, *, with_task_id: bool) -> JsonValue:
        named: dict[str, JsonValue] = {"task_id": job.task_id} if with_task_id else {}
        return _success({**named, "status": "IN_PROGRESS"})

    def status(self, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
        refunded = state == "failed" and job.refund_if_failed
        return _success(
            {
                "task_id": job.task_id,
                "status": shown_word(job, "UNDER_REVIEW") if state == "unknown" else _STATUSES[state],
                "request": job.said,
                "response": shown_results(job, urls) if state == "success" else None,
                "consumed_credits": shown_charge(job, 0 if refunded else job.charged_micros // MICROS_PER_CREDIT),
                "error_message": f"Provider error: {job.fail_code}" if state == "failed" else None,
                "created_at": datetime.fromtimestamp(job.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )

    def error(self, status: int, detail: str) -> JsonValue:
        return {"code": status, "message": f"{_MESSAGES.get(status, 'Error')} ({detail})", "data": None}


def _order(task: AnyTask) -> ClipOrder:
    width, height = PIXELS[task.resolution, "16:9"]
    return ClipOrder(
        model=task.model,
        mode=task.model.removeprefix("wan/2-6-"),
        prompt=task.prompt,
        duration_s=int(task.duration),
        resolution=task.resolution,
        width=width,
        height=height,
        sound=True,  # the guide's introduction: synchronized dialogue, SFX, music; no switch for it
        price_micros=CREDITS[task.resolution, task.duration] * MICROS_PER_CREDIT,
        callback_url=task.callback_url or None,
        said=task.model_dump(include=_SANITIZED),
    )


async def _task_id_in(request: Request) -> str:
    """Read the id of a status request by POST; what is no such body names no task."""
    try:
        require_json(request)
        return _Read.model_validate_json(await request.body()).task_id
    except (Refusal, ValidationError):
        return ""


def _success(data: dict[str, JsonValue]) -> JsonValue:
    return {"code": 200, "message": "success", "data": data}
