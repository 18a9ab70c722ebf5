"""aivideoapi.ai, the three models of Wan 2.6, as its page "Wan 2.6" documents them.

Each rule names the part of the guide it comes from; "the guide" is that page. It shows neither a task nor a callback:
their form is that of the vendor's page "Seedance 2", and the balance that of its page "Credits". Where the guide
leaves room, the simulator takes the stricter reading:

- a field that the guide does not list, or lists for other models only, is refused;
- `null` is not a value, strings and booleans are not numbers, an empty list is not a list of addresses;
- a list of images takes no address that is named like a video, and so on; formats, pixels and sizes are not judged;
- a callback is sent once: no retry is documented.

`progress` is always null, which the page allows: its unit is not documented.
"""

import mimetypes
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetake.dev.simulator.journal import Job
from onetake.dev.simulator.rendering import PIXELS
from onetake.dev.simulator.vendor import (
    REFUSED_ON_DEMAND,
    TASK_NOT_FOUND,
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
    shown_results,
    shown_word,
    web_address,
)

# The guide, "Pricing": credits a second for all models. A credit is USD 0.005 (page "Seedance 2": 20 are 0.10 USD).
CREDITS_PER_S = {"720p": 24, "1080p": 40}
MICROS_PER_CREDIT = 5_000
CREDITS_PURCHASED = 10_000_000

# The guide, "Error Reference": HTTP status -> code, type and words.
_ERRORS: dict[int, tuple[str, str, str]] = {
    400: ("invalid_request", "invalid_request_error", "Missing or invalid parameters"),
    401: ("invalid_api_key", "authentication_error", "API key is invalid, disabled, or deleted"),
    402: ("insufficient_credits", "billing_error", "Your credit balance is too low. Please top up."),
    403: ("ip_not_allowed", "permission_error", "Request IP not in the key's allowlist"),
    404: ("model_not_found", "invalid_request_error", "Model does not exist or is inactive"),
    429: ("rate_limit_exceeded", "rate_limit_error", "Too many requests, please slow down"),
    500: ("internal_error", "api_error", "Unexpected server error"),
    503: ("upstream_error", "upstream_error", "Upstream AI provider returned an error"),
}
_TASK_NOT_FOUND = ("task_not_found", "invalid_request_error", "Task ID does not exist")
_SPEND_LIMIT = ("spend_limit_exceeded", "billing_error", "Key spend limit reached (hourly/daily/total)")

_WORDS: dict[ShownState, str] = {"success": "completed"}


def _address_of(kind: Literal["image", "video", "audio"]) -> AfterValidator:
    def check(url: str) -> str:
        named, _ = mimetypes.guess_type(urlsplit(web_address(url)).path)
        if named and not named.startswith(kind):
            raise ValueError(f"must be the address of {kind}")
        return url

    return AfterValidator(check)


ImageUrl = Annotated[str, _address_of("image")]
VideoUrl = Annotated[str, _address_of("video")]
AudioUrl = Annotated[str, _address_of("audio")]
AspectRatio = Literal["16:9", "9:16", "1:1", "4:3", "3:4"]
Duration = Annotated[int, Field(ge=2, le=15)]
ReferenceDuration = Annotated[int, Field(ge=2, le=10)]


class _Input(Strict):
    """The guide, "Common Input"."""

    prompt: Annotated[str, Field(max_length=1500), AfterValidator(not_blank)]
    negative_prompt: str = Field(default="", max_length=500)
    resolution: Literal["720p", "1080p"] = "1080p"
    shot_type: Literal["single", "multi"] = "single"
    prompt_extend: bool = True
    watermark: bool = False
    seed: int = Field(default=0, ge=0, le=2_147_483_647)
    duration: Duration = 5

    @property
    def has_sound(self) -> bool:
        """The guide has a switch for two of the models; without it the upstream model decides, and here it plays."""
        return True

    @property
    def ratio(self) -> str:
        """The shape of the clip; one that follows the first frame is not looked at here."""
        return "16:9"

    @model_validator(mode="after")
    def _multi_is_extended(self) -> "_Input":
        if self.shot_type == "multi" and not self.prompt_extend:
            raise ValueError("shot_type multi requires prompt_extend to be true")
        return self


class TextInput(_Input):
    """The guide, "Text-to-Video Input"."""

    aspect_ratio: AspectRatio = "16:9"
    audio_urls: list[AudioUrl] = Field(default=[], min_length=1)

    @property
    def ratio(self) -> str:
        return self.aspect_ratio


class ImageInput(_Input):
    """The guide, "Image-to-Video Input"."""

    image_urls: list[ImageUrl] = Field(min_length=1, max_length=1)
    audio_urls: list[AudioUrl] = Field(default=[], min_length=1)
    audio: bool = True

    @property
    def has_sound(self) -> bool:
        return self.audio


class ReferenceInput(_Input):
    """The guide, "Reference-to-Video Input"."""

    image_urls: list[ImageUrl] = Field(default=[], min_length=1, max_length=5)
    video_urls: list[VideoUrl] = Field(default=[], min_length=1, max_length=3)
    aspect_ratio: AspectRatio = "16:9"
    duration: ReferenceDuration = 5
    audio: bool = True

    @property
    def has_sound(self) -> bool:
        return self.audio

    @property
    def ratio(self) -> str:
        return self.aspect_ratio

    @model_validator(mode="after")
    def _one_to_five_references(self) -> "ReferenceInput":
        if not 1 <= len(self.image_urls) + len(self.video_urls) <= 5:
            raise ValueError("image_urls and video_urls take 1 to 5 references together")
        return self


class _Body(Strict):
    callback_url: Annotated[str, AfterValidator(public_https)] = ""


class _TextToVideo(_Body):
    model: Literal["wan-2.6-text-to-video"]
    input: TextInput


class _ImageToVideo(_Body):
    model: Literal["wan-2.6-image-to-video"]
    input: ImageInput


class _ReferenceToVideo(_Body):
    model: Literal["wan-2.6-reference-to-video"]
    input: ReferenceInput


MODELS = ("wan-2.6-text-to-video", "wan-2.6-image-to-video", "wan-2.6-reference-to-video")
_Submission = _TextToVideo | _ImageToVideo | _ReferenceToVideo
_SUBMISSION: TypeAdapter[_Submission] = TypeAdapter(Annotated[_Submission, Field(discriminator="model")])


class Aivideoapi(SimulatedVendor):
    """The three endpoints under `/aivideoapi/v1`."""

    name: ClassVar[str] = "aivideoapi"
    base_path: ClassVar[str] = "/aivideoapi/v1"
    key_prefix: ClassVar[str] = "sk-"
    state_at: ClassVar[tuple[str, ...]] = ("status",)
    result_at: ClassVar[tuple[str, ...]] = ("output",)
    refunds_failed_jobs: ClassVar[bool] = True  # the guide, "Query Task"
    callbacks: ClassVar[CallbackPolicy] = CallbackPolicy(
        acknowledges=lambda status: 200 <= status < 300, timeout_s=10, retry_gaps_s=()
    )

    def authorise(self, headers: Mapping[str, str]) -> None:
        # The guide, "invalid_api_key": a key that does not start with sk- is refused, whatever was configured.
        if not headers.get("authorization", "").startswith(f"Bearer {self.key_prefix}"):
            raise Refusal(401, "the key does not start with sk-")
        super().authorise(headers)

    def routes(self, handler: Handler) -> Sequence[BaseRoute]:
        async def generations(request: Request) -> Response:
            return await handler.submit(self, request)

        async def task(request: Request) -> Response:
            return await handler.status(self, request, request.path_params["task_id"])

        async def credit(request: Request) -> Response:
            return await handler.account(self, request, _balance)

        return [
            Route("/v1/videos/generations", generations, methods=["POST"]),
            Route("/v1/tasks/{task_id}", task, methods=["GET"]),
            Route("/v1/credits", credit, methods=["GET"]),
        ]

    def order(self, request: Request, body: bytes) -> ClipOrder:
        require_json(request)
        try:
            return _order(_SUBMISSION.validate_json(body))
        except ValidationError as error:
            raise _refusal(error) from None

    def new_task_id(self) -> str:
        return str(uuid.uuid4())

    def receipt(self, job: Job, *, with_task_id: bool) -> JsonValue:
        return _success({"taskId": job.task_id} if with_task_id else {})

    def status(self, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
        task: dict[str, JsonValue] = {
            "id": job.task_id,
            "status": shown_word(job, "reviewing") if state == "unknown" else _WORDS.get(state, state),
            "model": job.model,
            "created_at": int(job.created_at),
        }
        if state == "success":
            assert job.finished_at is not None
            task["completed_at"] = int(job.finished_at)
            task["output"] = {"urls": shown_results(job, urls), "metadata": {}}
        elif state == "failed":
            task["error"] = {"code": job.fail_code, "message": _ERRORS[503][2]}
        else:
            task["progress"] = None
        return task

    def error(self, status: int, detail: str) -> JsonValue:
        code, kind, words = _error(status, detail)
        return {"error": {"code": code, "message": detail if status in (400, 503) else words, "type": kind}}

    def error_in_200(self, status: int, detail: str) -> JsonValue:
        _, _, words = _error(status, detail)
        return {"code": status, "msg": words, "data": None}


def _error(status: int, detail: str) -> tuple[str, str, str]:
    """Code, type and words. Two codes share a status: what the refusal is about tells them apart."""
    if (status, detail) == (404, TASK_NOT_FOUND):
        return _TASK_NOT_FOUND
    if (status, detail) == (429, REFUSED_ON_DEMAND):
        return _SPEND_LIMIT
    return _ERRORS.get(status, _ERRORS[500])


def _order(submission: _Submission) -> ClipOrder:
    wanted, model = submission.input, submission.model
    width, height = PIXELS[wanted.resolution, wanted.ratio]
    return ClipOrder(
        model=model,
        mode=model.removeprefix("wan-2.6-"),
        prompt=wanted.prompt,
        duration_s=wanted.duration,
        resolution=wanted.resolution,
        width=width,
        height=height,
        sound=wanted.has_sound,
        price_micros=wanted.duration * CREDITS_PER_S[wanted.resolution] * MICROS_PER_CREDIT,
        callback_url=submission.callback_url or None,
    )


def _refusal(error: ValidationError) -> Refusal:
    """The guide, "Error Reference": an unknown model is 404, everything else that is wrong is 400."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if fault["type"] == "union_tag_invalid":
        return Refusal(404, "model not found")
    if fault["type"] == "union_tag_not_found":
        return Refusal(400, "'model' is required.")  # the guide, "invalid_request (400)"
    return Refusal(400, first_fault(error, MODELS))


def _balance(spent_micros: int) -> JsonValue:
    consumed = spent_micros // MICROS_PER_CREDIT
    return _success(
        {
            "balance": CREDITS_PURCHASED - consumed,
            "total_purchased": CREDITS_PURCHASED,
            "total_consumed": consumed,
        }
    )


def _success(data: dict[str, JsonValue]) -> JsonValue:
    return {"code": 200, "msg": "success", "data": data}
