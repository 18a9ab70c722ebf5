"""gptimage2's unified endpoint with the five models of Wan 2.6, as its guide and the API it mirrors document them.

"The guide" is gptimage2's "Wan 2.6 API Production Guide": section 3 has the address and two requests, section 4 the
durations. It shows no answer, so answers, errors, tasks and callbacks are EvoLink's ("E": the page of each model, "Get
Task Detail", "Error Codes"). Where the pages leave room, the simulator takes the stricter reading:

- a field that the model's page does not list is refused, also inside `model_params`; the audio fields there are listed
  without their names, so they are refused too;
- `shot_type` counts only with `prompt_extend` (E), so the pair is taken and only one of them has an effect;
- `null` is not a value, strings and booleans are not numbers, and a URL is an absolute http or https address;
- a longer prompt than 1500 characters is refused (E: `maxLength`).

`error.code` is an integer on the models' pages and a word on the task's page, and so it is here. No page shows how an
empty balance is refused on the models' pages: the type is the word of E's newer pages. The media behind the URLs are
not fetched: every reference is billed as the longest one, and a clip made from an image is 16:9. No page names a price:
the journal uses the development prices.
"""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetake.dev.simulator.journal import Job
from onetake.dev.simulator.prices import micros_per_credit, micros_per_second
from onetake.dev.simulator.rendering import PIXELS
from onetake.dev.simulator.vendor import (
    REFUSED_ON_DEMAND,
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

# The guide, section 3, and E for the flash models.
MODES = {
    "wan2.6-text-to-video": "text-to-video",
    "wan2.6-image-to-video": "image-to-video",
    "wan2.6-image-to-video-flash": "image-to-video-flash",
    "wan2.6-reference-video": "reference-to-video",
    "wan2.6-reference-video-flash": "reference-to-video-flash",
}
PRICE_MICROS_PER_S = {mode: micros_per_second(f"gptimage2/wan-2.6/{mode}") for mode in MODES.values()}
MICROS_PER_CREDIT = micros_per_credit("gptimage2")

# E, "Input video billing rules": 1 video up to 5 s, 2 videos up to 2.5 s each, 3 videos up to 1.65 s each.
BILLED_INPUT_MS = {0: 0, 1: 5000, 2: 2 * 2500, 3: 3 * 1650}

TASK_ID_PREFIX = "task-unified-"
_TASK_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"

Error = tuple[int | str, str, str]
"""The code, the type and the words of an error."""

# E, the models' pages.
_ERRORS: dict[int, Error] = {
    400: (400, "invalid_request_error", "Invalid request format"),
    401: (401, "authentication_error", "Invalid authentication credentials"),
    402: (402, "insufficient_quota", "Insufficient credits"),
    403: (403, "permission_error", "Access denied for this model"),
    404: (404, "not_found_error", "Specified model not found"),
    429: (429, "rate_limit_error", "Rate limit exceeded"),
    500: (500, "internal_server_error", "Internal server error"),
    502: (502, "upstream_error", "Bad gateway"),
    503: (503, "service_unavailable_error", "Service temporarily unavailable"),
}
_SUGGESTIONS = {
    404: "wan2.6-text-to-video",
    429: "retry after 60 seconds",
    500: "try again later",
    502: "try again later",
    503: "retry after 30 seconds",
}

# E, the task's page.
_TASK_ERRORS: dict[int, Error] = {
    400: ("invalid_task_id", "invalid_request_error", "Invalid task id"),
    401: ("unauthorized", "authentication_error", "Invalid authentication credentials"),
    404: ("task_not_found", "invalid_request_error", "Task not found"),
    429: ("rate_limit_exceeded", "evo_api_error", "Rate limit exceeded"),
    500: ("internal_error", "evo_api_error", "Internal server error"),
    503: ("service_unavailable", "evo_api_error", "Service temporarily unavailable"),
}

# E, "Error Codes": why a task failed.
_FAIL_MESSAGES = {
    "content_policy_violation": "Content policy violation.\nYour request was blocked by safety filters.",
    "invalid_parameters": "Invalid request parameters",
    "image_processing_error": "Image processing failed",
    "image_dimension_mismatch": "Image dimensions don't match request",
    "request_cancelled": "Request was cancelled",
    "generation_failed_no_content": "Model failed to generate output",
    "service_error": "Internal service error",
    "generation_timeout": "Task processing timed out",
    "resource_exhausted": "Upstream resources temporarily depleted",
    "quota_exceeded": "Rate limit or quota exceeded",
    "service_unavailable": "Service temporarily unavailable",
}

_STATUSES: dict[ShownState, str] = {"success": "completed"}
_PROGRESS: dict[ShownState, int] = {"processing": 50, "unknown": 50, "success": 100}

_IMAGES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp"})
_VIDEOS = frozenset({".mp4", ".mov"})
_OTHER_MEDIA = frozenset({".gif", ".svg", ".tiff", ".heic", ".avif", ".avi", ".mkv", ".webm", ".mp3", ".wav", ".ogg"})


def _address_of(allowed: frozenset[str]) -> AfterValidator:
    """An address whose name, where it names a kind of media, names one of these: many links name none."""
    refused = (_IMAGES | _VIDEOS | _OTHER_MEDIA) - allowed

    def check(url: str) -> str:
        if PurePosixPath(urlsplit(web_address(url)).path).suffix.lower() in refused:
            raise ValueError(f"must be one of {', '.join(sorted(allowed))}")
        return url

    return AfterValidator(check)


ImageUrl = Annotated[str, _address_of(_IMAGES)]
VideoUrl = Annotated[str, _address_of(_VIDEOS)]
AspectRatio = Literal["16:9", "9:16", "1:1", "4:3", "3:4"]


class _ModelParams(Strict):
    shot_type: Literal["single", "multi"] = "single"


class _Task(Strict):
    """What every model takes."""

    prompt: Annotated[str, Field(max_length=1500), AfterValidator(not_blank)]
    quality: Literal["720p", "1080p"] = "720p"
    model_params: _ModelParams = _ModelParams()
    callback_url: Annotated[str, Field(max_length=2048), AfterValidator(public_https)] = ""


class TextToVideo(_Task):
    model: Literal["wan2.6-text-to-video"]
    aspect_ratio: AspectRatio = "16:9"
    duration: int = Field(default=5, ge=2, le=15)
    prompt_extend: bool = True


class ImageToVideo(_Task):
    model: Literal["wan2.6-image-to-video", "wan2.6-image-to-video-flash"]
    image_urls: list[ImageUrl] = Field(min_length=1, max_length=1)
    duration: int = Field(default=5, ge=2, le=15)
    prompt_extend: bool = True


class ReferenceVideo(_Task):
    model: Literal["wan2.6-reference-video", "wan2.6-reference-video-flash"]
    video_urls: list[VideoUrl] = Field(min_length=1, max_length=3)
    aspect_ratio: AspectRatio = "16:9"
    duration: int = Field(default=5, ge=2, le=10)


AnyTask = TextToVideo | ImageToVideo | ReferenceVideo
_TASK: TypeAdapter[AnyTask] = TypeAdapter(Annotated[AnyTask, Field(discriminator="model")])


class Gptimage2(SimulatedVendor):
    """The two endpoints under `/gptimage2/v1`."""

    name: ClassVar[str] = "gptimage2"
    base_path: ClassVar[str] = "/gptimage2/v1"
    state_at: ClassVar[tuple[str, ...]] = ("status",)
    result_at: ClassVar[tuple[str, ...]] = ("results",)
    refunds_failed_jobs: ClassVar[bool] = True  # E: charged for a successful video only
    bills_generated: ClassVar[bool] = True  # E: reserved for the duration, settled on what was generated
    # E, "Callback Mechanism": 10 s, any 2xx, up to three retries.
    callbacks: ClassVar[CallbackPolicy] = CallbackPolicy(
        acknowledges=lambda status: 200 <= status < 300, timeout_s=10, retry_gaps_s=(1, 2, 4)
    )

    def routes(self, handler: Handler) -> Sequence[BaseRoute]:
        task_page = _TaskPage(self._api_key)

        async def generations(request: Request) -> Response:
            return await handler.submit(self, request)

        async def task(request: Request) -> Response:
            task_id: str = request.path_params["task_id"]
            return await handler.status(task_page, request, task_id if task_id.startswith(TASK_ID_PREFIX) else "")

        return [
            Route("/v1/videos/generations", generations, methods=["POST"]),
            Route("/v1/tasks/{task_id}", task, methods=["GET"]),
        ]

    def order(self, request: Request, body: bytes) -> ClipOrder:
        require_json(request)
        try:
            return _order(_TASK.validate_json(body))
        except ValidationError as error:
            status = 404 if error.errors()[0]["type"] == "union_tag_invalid" else 400
            raise Refusal(status, first_fault(error, MODES)) from None

    def new_task_id(self) -> str:
        letters = "".join(secrets.choice(_TASK_LETTERS) for _ in range(8))
        return f"{TASK_ID_PREFIX}{int(time.time())}-{letters}"

    def receipt(self, job: Job, *, with_task_id: bool) -> JsonValue:
        task = _task(job, "pending")
        if not with_task_id:
            del task["id"]
        task["task_info"] = {
            "can_cancel": True,
            "estimated_time": round(job.render_s),
            "video_duration": job.duration_s,
        }
        task["usage"] = {
            "billing_rule": "per_second",
            "credits_reserved": shown_charge(job, _credits(job)),
            "user_group": "default",
        }
        return task

    def status(self, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
        task = _task(job, state)
        if state == "success":
            task["results"] = shown_results(job, urls)
        if state == "failed":
            words = _FAIL_MESSAGES.get(job.fail_code or "", "Unclassified error")
            task["error"] = {"code": job.fail_code, "message": words, "type": "task_error"}
        return task

    def error(self, status: int, detail: str) -> JsonValue:
        shown = _error(_ERRORS, status, detail)
        if status == 429 and detail == REFUSED_ON_DEMAND:
            shown["type"] = "insufficient_quota"  # E uses the word for an empty balance
        elif status in _SUGGESTIONS:
            shown["fallback_suggestion"] = _SUGGESTIONS[status]
        return {"error": shown}


class _TaskPage(Gptimage2):
    """The same vendor on the page of a task, where the codes are words."""

    def error(self, status: int, detail: str) -> JsonValue:
        return {"error": _error(_TASK_ERRORS, status, detail)}


def _order(task: AnyTask) -> ClipOrder:
    mode = MODES[task.model]
    aspect_ratio = "16:9" if isinstance(task, ImageToVideo) else task.aspect_ratio
    width, height = PIXELS[task.quality, aspect_ratio]
    videos = len(task.video_urls) if isinstance(task, ReferenceVideo) else 0
    billed_ms = task.duration * 1000 + BILLED_INPUT_MS[videos]
    return ClipOrder(
        model=task.model,
        mode=mode,
        prompt=task.prompt,
        duration_s=task.duration,
        resolution=task.quality,
        width=width,
        height=height,
        sound=True,
        price_micros=billed_ms * PRICE_MICROS_PER_S[mode][task.quality] // 1000,
        callback_url=task.callback_url or None,
    )


def _task(job: Job, state: ShownState) -> dict[str, JsonValue]:
    """What every answer about a task shows. A task can be cancelled in principle; no page names the call."""
    return {
        "created": int(job.created_at),
        "id": job.task_id,
        "model": job.model,
        "object": "video.generation.task",
        "progress": _PROGRESS.get(state, 0),
        "status": shown_word(job, "reviewing") if state == "unknown" else _STATUSES.get(state, state),
        "task_info": {"can_cancel": state == "pending"},
        "type": "video",
    }


def _credits(job: Job) -> int | float:
    whole, rest = divmod(job.charged_micros, MICROS_PER_CREDIT)
    return job.charged_micros / MICROS_PER_CREDIT if rest else whole


def _error(page: Mapping[int, Error], status: int, detail: str) -> dict[str, JsonValue]:
    """The page's own words, and the fault behind them where the caller can mend it; `param` names a field."""
    code, kind, words = page.get(status, (status, "unknown_error", "Unknown error"))
    named = re.fullmatch(r"([a-z_.\d]+): (.*)", detail, re.DOTALL)
    message = f"{words}: {named[2] if named else detail}" if status == 400 else words
    shown: dict[str, JsonValue] = {"code": code, "message": message, "type": kind}
    if named:
        shown["param"] = named[1]
    return shown
