"""APIXO, model `wan-2-6-video`, as its page "Wan 2.6 Video" documents it.

Each rule names the part of the page it comes from. Webhook delivery and the error envelope come from APIXO's pages
"Webhooks" and "Error Codes". Where the page leaves room, the simulator takes the stricter reading:

- a field that the page does not list, or lists for other modes only, is refused (the page says so for `sound` only);
- `request_type` must be there, because the page calls it required, although the page also gives it a default;
- `null` is not a value, booleans are not numbers, and a URL is an absolute http or https address.

Two things follow the page's looser words: a `prompt` of more than 1500 characters is accepted and truncated (the
journal says so), and a `callback_url` with `request_type: async` is accepted and never called. The media behind the
URLs are not fetched, so their pixels, sizes and seconds are not judged; a file name that contradicts the formats is.
The page does not say whether a failed task stays charged: it does here, unless the simulator is told otherwise.
"""

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetake.dev.simulator.journal import Job
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
    shown_word,
    web_address,
)

MODEL = "wan-2-6-video"
PROMPT_MAX_CHARS = 1500

# "Billing": micro-USD a second by mode, tier and sound. Tabulated, not derived: the page's flash prices follow no rule.
PRICE_MICROS_PER_S: dict[tuple[str, str, bool], int] = {
    ("text-to-video", "720p", True): 100_000,
    ("text-to-video", "1080p", True): 150_000,
    ("image-to-video", "720p", True): 100_000,
    ("image-to-video", "1080p", True): 150_000,
    ("reference-to-video", "720p", True): 200_000,
    ("reference-to-video", "1080p", True): 300_000,
    ("image-to-video-flash", "720p", False): 25_000,
    ("image-to-video-flash", "720p", True): 50_000,
    ("image-to-video-flash", "1080p", False): 37_500,
    ("image-to-video-flash", "1080p", True): 75_000,
    ("reference-to-video-flash", "720p", False): 50_000,
    ("reference-to-video-flash", "720p", True): 100_000,
    ("reference-to-video-flash", "1080p", False): 80_000,
    ("reference-to-video-flash", "1080p", True): 160_000,
}

# "HTTP errors"; 404 is from the page "Error Codes".
_MESSAGES = {
    400: "Invalid request",
    401: "Missing or invalid API key",
    402: "Insufficient balance or quota",
    403: "Key or route cannot access the model",
    404: "Model or task not found",
    429: "Rate limit or concurrency limit reached",
    500: "Server error",
    502: "Model provider error",
    503: "Service temporarily unavailable",
    504: "Model provider timeout",
}

# "Task failure codes"
_FAIL_MESSAGES = {
    "PromptInvalid": "Prompt is invalid or rejected by provider",
    "MissingParameter": "Required fields are missing",
    "BadRequest": "Required fields are malformed",
    "SensitiveContent": "Prompt or media failed safety checks",
    "SensitiveContentDetected": "Prompt or media failed safety checks",
    "RateLimitExceeded": "Model service or route rate limit was reached",
    "Task TimeOut": "Model generation timed out",
    "Timeout": "Model generation timed out",
}

_IMAGES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp"})
_VIDEOS = frozenset({".mp4", ".mov"})
_AUDIO = frozenset({".wav", ".mp3"})
_OTHER_MEDIA = frozenset({".gif", ".svg", ".tiff", ".heic", ".avif", ".avi", ".mkv", ".webm", ".flac", ".ogg", ".m4a"})
_MEDIA = _IMAGES | _VIDEOS | _AUDIO | _OTHER_MEDIA


def _suffix(url: str) -> str:
    """Return the file name's ending when it names a kind of media, else nothing: many links carry none."""
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    return suffix if suffix in _MEDIA else ""


def _media_url(allowed: frozenset[str]) -> AfterValidator:
    def check(url: str) -> str:
        if _suffix(web_address(url)) not in allowed | {""}:
            raise ValueError(f"must be one of {', '.join(sorted(allowed))}")
        return url

    return AfterValidator(check)


def _integer_or_numeric_string(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) else value


ImageUrl = Annotated[str, _media_url(_IMAGES)]
ReferenceUrl = Annotated[str, _media_url(_IMAGES | _VIDEOS)]
AudioUrl = Annotated[str, _media_url(_AUDIO)]
Numeric = BeforeValidator(_integer_or_numeric_string)
Duration = Annotated[int, Numeric, Field(ge=2, le=15)]
ReferenceDuration = Annotated[int, Numeric, Field(ge=2, le=10)]
Resolution = Literal["720p", "1080p"]


class _Input(Strict):
    """What every mode takes ("Parameters")."""

    prompt: Annotated[str, AfterValidator(not_blank)]
    negative_prompt: str = ""
    resolution: Resolution = "720p"
    duration: Duration = 5
    audio_urls: list[AudioUrl] = Field(default=[], min_length=1, max_length=1)
    prompt_extend: bool = True
    shot_type: Literal["single", "multi"] = "single"
    seed: int = Field(default=0, ge=0, le=2_147_483_647)
    watermark: bool = False

    @property
    def has_sound(self) -> bool:
        """The page has a switch for sound in flash modes only; the others have one price and one kind of clip."""
        return True


class _Image(_Input):
    image_urls: list[ImageUrl] = Field(min_length=1, max_length=1)


class _Reference(_Input):
    reference_urls: list[ReferenceUrl] = Field(min_length=1, max_length=5)
    resolution: Resolution = "1080p"
    duration: ReferenceDuration = 5

    @model_validator(mode="after")
    def _at_most_three_videos(self) -> "_Reference":
        if sum(_suffix(url) in _VIDEOS for url in self.reference_urls) > 3:
            raise ValueError("reference_urls takes at most 3 videos")
        return self


class TextToVideo(_Input):
    mode: Literal["text-to-video"]


class ImageToVideo(_Image):
    mode: Literal["image-to-video"]


class ImageToVideoFlash(_Image):
    mode: Literal["image-to-video-flash"]
    sound: bool = True

    @property
    def has_sound(self) -> bool:
        return self.sound


class ReferenceToVideo(_Reference):
    mode: Literal["reference-to-video"]


class ReferenceToVideoFlash(_Reference):
    mode: Literal["reference-to-video-flash"]
    sound: bool = True

    @property
    def has_sound(self) -> bool:
        return self.sound


AnyInput = Annotated[
    TextToVideo | ImageToVideo | ImageToVideoFlash | ReferenceToVideo | ReferenceToVideoFlash,
    Field(discriminator="mode"),
]


class _Async(Strict):
    request_type: Literal["async"]
    callback_url: str = ""  # accepted and never called
    input: AnyInput


class _Callback(Strict):
    request_type: Literal["callback"]
    callback_url: Annotated[str, AfterValidator(public_https)]
    input: AnyInput


# Pydantic's names for the members of both unions.
_TAGS = {"async", "callback", *(mode for mode, _, _ in PRICE_MICROS_PER_S)}
_BODY: TypeAdapter[_Async | _Callback] = TypeAdapter(Annotated[_Async | _Callback, Field(discriminator="request_type")])


class Apixo(SimulatedVendor):
    """APIXO's two endpoints under `/apixo/api/v1`."""

    name: ClassVar[str] = "apixo"
    base_path: ClassVar[str] = "/apixo/api/v1"
    state_at: ClassVar[tuple[str, ...]] = ("data", "state")
    result_at: ClassVar[tuple[str, ...]] = ("data", "resultJson")
    refunds_failed_jobs: ClassVar[bool] = False
    # "Webhooks": 200 and nothing else within 30 s, up to 3 retries with growing gaps (their lengths are our choice).
    callbacks: ClassVar[CallbackPolicy] = CallbackPolicy(
        acknowledges=lambda status: status == 200, timeout_s=30, retry_gaps_s=(1, 2, 4)
    )

    def routes(self, handler: Handler) -> Sequence[BaseRoute]:
        async def generate_task(request: Request) -> Response:
            return await handler.submit(self, request)

        async def status_task(request: Request) -> Response:
            return await handler.status(self, request, request.query_params.get("taskId", ""))

        return [
            Route("/api/v1/generateTask/{model}", generate_task, methods=["POST"]),
            Route(f"/api/v1/statusTask/{MODEL}", status_task, methods=["GET"]),
        ]

    def order(self, request: Request, body: bytes) -> ClipOrder:
        if request.path_params["model"] != MODEL:
            raise Refusal(404, "model not found")
        require_json(request)
        try:
            submission = _BODY.validate_json(body)
        except ValidationError as error:
            raise Refusal(400, first_fault(error, _TAGS)) from None
        callback_url = submission.callback_url if isinstance(submission, _Callback) else None
        return _order(submission.input, callback_url)

    def new_task_id(self) -> str:
        return f"task_{secrets.token_hex(12)}"

    def receipt(self, job: Job, *, with_task_id: bool) -> JsonValue:
        return _success({"taskId": job.task_id} if with_task_id else {})

    def status(self, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
        data: dict[str, JsonValue] = {
            "taskId": job.task_id,
            "state": shown_word(job, "reviewing") if state == "unknown" else state,
            "createTime": _ms(job.created_at),
        }
        if state in ("success", "failed"):
            assert job.finished_at is not None
            data["completeTime"] = _ms(job.finished_at)
        if state == "success":
            result = json.dumps({"resultUrls": list(urls)}, separators=(",", ":"))
            data["resultJson"] = result[:-1] if "bad-result" in job.script else result
            data["costTime"] = _ms(job.render_s)
        if state == "failed":
            data["failCode"] = job.fail_code
            data["failMsg"] = _FAIL_MESSAGES.get(job.fail_code or "", "The model service reported a failure")
        return _success(data)

    def error(self, status: int, detail: str) -> JsonValue:
        return {"code": status, "message": _MESSAGES.get(status, "Error"), "data": {"error": detail}}


def _order(wanted: AnyInput, callback_url: str | None) -> ClipOrder:
    width, height = PIXELS[wanted.resolution, "16:9"]
    return ClipOrder(
        model=MODEL,
        mode=wanted.mode,
        prompt=wanted.prompt,
        duration_s=wanted.duration,
        resolution=wanted.resolution,
        width=width,
        height=height,
        sound=wanted.has_sound,
        price_micros=wanted.duration * PRICE_MICROS_PER_S[wanted.mode, wanted.resolution, wanted.has_sound],
        callback_url=callback_url,
        prompt_truncated=len(wanted.prompt) > PROMPT_MAX_CHARS,
    )


def _success(data: dict[str, JsonValue]) -> JsonValue:
    return {"code": 200, "message": "success", "data": data}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
