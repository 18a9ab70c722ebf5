"""GMI Cloud's request queue with the models `wan2.6-t2v`, `wan2.6-i2v` and `wan2.6-r2v`, as its guides document them.

Each rule names its source: "the guide" is the usage guide of `wan2.6-i2v` ("Request Parameters", "Request Status
Values"); the guides of `wan2.6-t2v` and `wan2.6-r2v` have tables of the same form; the shapes of the answers are those
of the queue's own reference. Where they leave room, the simulator takes the stricter reading:

- a field that a model's table does not list is refused, and so is a text that is longer than its table allows;
- `wan2.6-r2v` takes 5 or 10 seconds: its options are not shown, its example has 10, and its siblings enumerate theirs;
- `null` is a value for `audio_url` alone, where the guide names it as the default.

No page shows an error: it is `{"error": TEXT}`, as published clients read it, and a failed request carries the same
field. The envelope of the list is not shown either: it is `requests`, newest first. The guide knows `cancelled` and no
call that cancels: the marker `fail=cancelled` plays it. There are no callbacks. No page names a price, so the journal
uses the development prices; nor does one say whether a failed request stays charged: it does here, unless the simulator
is told otherwise. The media behind the addresses are not fetched, so a clip made from an image is 16:9.
"""

import uuid
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from onetake.dev.simulator.journal import Job
from onetake.dev.simulator.prices import micros_per_second
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
    require_json,
    shown_word,
    web_address,
)

QUEUE = "/api/v1/ie/requestqueue/apikey"
ORGANISATION = "1f0c6a52-7a52-4b0e-9d3b-6f1f3a9a7c11"
MODES = {"wan2.6-t2v": "text-to-video", "wan2.6-i2v": "image-to-video", "wan2.6-r2v": "reference-to-video"}
PRICE_MICROS_PER_S = {mode: micros_per_second(f"gmi/wan-2.6/{mode}") for mode in MODES.values()}

# The guide of `wan2.6-t2v`: ten values, WIDTH*HEIGHT.
TIER_OF_SIZE = {f"{width}*{height}": tier for (tier, _), (width, height) in PIXELS.items()}

_STATUSES = {"pending": "queued", "processing": "processing", "success": "success"}


def _one_of(*seconds: int) -> AfterValidator:
    def check(value: int) -> int:
        if value not in seconds:
            raise ValueError(f"must be one of {', '.join(map(str, seconds))}")
        return value

    return AfterValidator(check)


def _known_size(size: str) -> str:
    if size not in TIER_OF_SIZE:
        raise ValueError(f"must be one of {', '.join(TIER_OF_SIZE)}")
    return size


Address = Annotated[str, AfterValidator(web_address)]
Prompt = Annotated[str, Field(max_length=1500)]
Size = Annotated[str, AfterValidator(_known_size)]


class _Payload(Strict):
    """What every model takes."""

    negative_prompt: str = Field(default="", max_length=500)
    shot_type: Literal["single", "multi"] = "single"
    watermark: bool = False
    seed: int = Field(default=0, ge=0, le=2_147_483_647)

    @property
    def has_sound(self) -> bool:
        return True


class _WithSwitches(_Payload):
    """What the text and the image model take. `audio` counts only without `audio_url`, and `shot_type` only with
    `prompt_extend` (the guide): what does not count is not refused."""

    duration: Annotated[int, _one_of(5, 10, 15)] = 5
    prompt_extend: bool = True
    audio_url: Address | None = None
    audio: bool = True

    @property
    def has_sound(self) -> bool:
        return self.audio or self.audio_url is not None


class TextPayload(_WithSwitches):
    prompt: Annotated[Prompt, AfterValidator(not_blank)]
    size: Size = "1920*1080"


class ImagePayload(_WithSwitches):
    prompt: Prompt = ""
    img_url: Address
    resolution: Literal["720P", "1080P"] = "1080P"

    @property
    def size(self) -> str:
        return "1280*720" if self.resolution == "720P" else "1920*1080"


class ReferencePayload(_Payload):
    prompt: Prompt = ""
    reference_video_urls: list[Address] = Field(min_length=1, max_length=3)
    size: Size = "1920*1080"
    duration: Annotated[int, _one_of(5, 10)] = 5


class _Text(Strict):
    model: Literal["wan2.6-t2v"]
    payload: TextPayload


class _Image(Strict):
    model: Literal["wan2.6-i2v"]
    payload: ImagePayload


class _Reference(Strict):
    model: Literal["wan2.6-r2v"]
    payload: ReferencePayload


Submission = _Text | _Image | _Reference
_BODY: TypeAdapter[Submission] = TypeAdapter(Annotated[Submission, Field(discriminator="model")])


class Gmi(SimulatedVendor):
    """The queue's endpoints under `/gmi/api/v1/ie/requestqueue/apikey`."""

    name: ClassVar[str] = "gmi"
    base_path: ClassVar[str] = "/gmi"
    state_at: ClassVar[tuple[str, ...]] = ("status",)
    result_at: ClassVar[tuple[str, ...]] = ("outcome",)
    refunds_failed_jobs: ClassVar[bool] = False
    # None are documented, and no request has a field for one.
    callbacks: ClassVar[CallbackPolicy] = CallbackPolicy(acknowledges=lambda _: True, timeout_s=0, retry_gaps_s=())

    def routes(self, handler: Handler) -> Sequence[BaseRoute]:
        async def submit(request: Request) -> Response:
            return await handler.submit(self, request)

        async def one(request: Request) -> Response:
            return await handler.status(self, request, request.path_params["request_id"])

        async def listing(request: Request) -> Response:
            model_id = request.query_params.get("model_id", "")
            return await handler.listing(self, request, lambda jobs: _listed(jobs, model_id))

        async def models(request: Request) -> Response:
            return await handler.listing(self, request, lambda _: {"model_ids": [*MODES]})

        return [
            Route(f"{QUEUE}/requests", submit, methods=["POST"]),
            Route(f"{QUEUE}/requests", listing, methods=["GET"]),
            Route(f"{QUEUE}/requests/{{request_id}}", one, methods=["GET"]),
            Route(f"{QUEUE}/models", models, methods=["GET"]),
        ]

    def order(self, request: Request, body: bytes) -> ClipOrder:
        require_json(request)
        try:
            return _order(_BODY.validate_json(body))
        except ValidationError as error:
            # Published clients meet 404 for a model that is not there, and 400 for a payload that does not fit.
            unknown_model = error.errors(include_input=False)[0]["type"] == "union_tag_invalid"
            raise Refusal(404 if unknown_model else 400, first_fault(error, MODES)) from None

    def new_task_id(self) -> str:
        return str(uuid.uuid4())

    def receipt(self, job: Job, *, with_task_id: bool) -> JsonValue:
        named: dict[str, JsonValue] = {"request_id": job.task_id} if with_task_id else {}
        return {**named, "model": job.model, "status": "queued", **_times(job, job.created_at)}

    def status(self, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
        ended = state in ("success", "failed")
        assert not ended or job.finished_at is not None
        shown: dict[str, JsonValue] = {
            "request_id": job.task_id,
            "org_id": ORGANISATION,
            "model": job.model,
            "status": _shown_status(job, state),
            "is_public": False,
            "payload": job.said,
            "outcome": None,
            **_times(job, job.finished_at if ended and job.finished_at else job.created_at),
        }
        if state == "success":
            media: list[JsonValue] = [{"id": str(at), "url": url} for at, url in enumerate(urls)]
            shown["outcome"] = {"media_urls": None if "bad-result" in job.script else media}
        if state == "failed":
            shown["error"] = f"{job.fail_code}: the model backend reported a failure"
        return shown

    def error(self, status: int, detail: str) -> JsonValue:
        del status
        return {"error": detail}


def _listed(jobs: Sequence[tuple[Job, JsonValue]], model_id: str) -> JsonValue:
    if not model_id:
        raise Refusal(400, "model_id: must be given")
    return {"requests": [shown for job, shown in jobs if job.model == model_id]}


def _shown_status(job: Job, state: ShownState) -> JsonValue:
    if state == "unknown":
        return shown_word(job, "finalizing")
    if state == "failed":
        return "cancelled" if job.fail_code == "cancelled" else "failed"
    return _STATUSES[state]


def _times(job: Job, updated_at: float) -> dict[str, JsonValue]:
    return {"created_at": int(job.created_at), "updated_at": int(updated_at), "queued_at": int(job.created_at)}


def _order(wanted: Submission) -> ClipOrder:
    mode, payload = MODES[wanted.model], wanted.payload
    tier = TIER_OF_SIZE[payload.size]
    width, height = map(int, payload.size.split("*"))
    return ClipOrder(
        model=wanted.model,
        mode=mode,
        prompt=payload.prompt,
        duration_s=payload.duration,
        resolution=tier,
        width=width,
        height=height,
        sound=payload.has_sound,
        price_micros=payload.duration * PRICE_MICROS_PER_S[mode][tier],
        said=payload.model_dump(mode="json", exclude_unset=True),
    )
