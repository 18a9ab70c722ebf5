"""What every route accepts and costs: the data of `routes/*.toml`, one file a vendor, checked once when it is loaded.

A typo, an unknown field or a price without a matching choice is an error at start. This module knows no settings, no
clock and no network; `providers.admission` applies it to requests.
"""

import hashlib
import re
import tomllib
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from onetake.core.contracts import Cadence
from onetake.core.errors import CATALOGUE
from onetake.core.names import FailedJobCost, RefusedOf
from providers.pricing import Fact, Positive, PriceTable, repeated_days
from providers.states import States

OptionalField = Literal[
    "negative_prompt",
    "aspect_ratio",
    "image",
    "videos",
    "references",
    "audio_url",
    "sound",
    "shot_type",
    "prompt_extend",
    "seed",
    "watermark",
]
SEED_MOST = 2_147_483_647
_IN_DOUBT = ("408", "409", "500", "502", "503", "504", "520", "599")  # the job may exist all the same
ROUTES = Path(__file__).parent / "routes"

# The pixels that this family of models renders, by resolution and aspect ratio.
PIXELS: dict[tuple[str, str], tuple[int, int]] = {
    ("720p", "16:9"): (1280, 720),
    ("720p", "9:16"): (720, 1280),
    ("720p", "1:1"): (960, 960),
    ("720p", "4:3"): (1088, 832),
    ("720p", "3:4"): (832, 1088),
    ("1080p", "16:9"): (1920, 1080),
    ("1080p", "9:16"): (1080, 1920),
    ("1080p", "1:1"): (1440, 1440),
    ("1080p", "4:3"): (1632, 1248),
    ("1080p", "3:4"): (1248, 1632),
}


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no pattern: {error}") from None
    return text


def _error_code(text: str) -> str:
    if text not in CATALOGUE:
        raise ValueError(f"{text!r} is no error code")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
ErrorCode = Annotated[str, AfterValidator(_error_code)]


class Range(Fact):
    """Whole numbers from `least` to `most`, or only those in `choices`."""

    least: int = 0
    most: int = 0
    choices: tuple[int, ...] = ()
    default: int

    @property
    def legal(self) -> tuple[int, ...]:
        return self.choices or tuple(range(self.least, self.most + 1))

    def allows(self, value: int) -> bool:
        return value in self.legal

    def nearest(self, value: int) -> int:
        return min(self.legal, key=lambda candidate: (abs(candidate - value), candidate))

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) if self.choices else f"{self.least} to {self.most}"

    @model_validator(mode="after")
    def _default_is_legal(self) -> Self:
        if not self.allows(self.default):
            raise ValueError(f"the default {self.default} is not allowed")
        return self


class Choices(Fact):
    """One of a few words."""

    choices: tuple[str, ...]
    default: str

    @model_validator(mode="after")
    def _default_is_legal(self) -> Self:
        if self.default not in self.choices:
            raise ValueError(f"the default {self.default!r} is not one of the choices")
        return self


class TextLimit(Fact):
    """The longest text, in characters."""

    most: int
    required: bool = True


class Count(Fact):
    """How many inputs of one kind."""

    least: int
    most: int


class Kinds(Fact):
    """How many of the references may be images, and how many videos."""

    image: int = 0
    video: int = 0


class ImageLimits(Fact):
    """What an input image may be. `alpha` says whether transparency is allowed."""

    formats: tuple[Literal["jpeg", "png", "bmp", "webp"], ...]
    least_px: int
    most_px: int
    most_bytes: int
    alpha: bool


class ClipLimits(Fact):
    """What an input video or sound may be."""

    formats: tuple[Literal["mp4", "mov", "mp3", "wav"], ...]
    least_s: float
    most_s: float
    most_bytes: int


class MediaLimits(Fact):
    """The limits of each kind of input that the route takes."""

    image: ImageLimits | None = None
    video: ClipLimits | None = None
    audio: ClipLimits | None = None


class Rhythm(Cadence):
    """A cadence in the data file."""

    model_config = ConfigDict(extra="forbid")


class OutcomeRow(Fact):
    """One row of the table HTTP status x vendor code -> outcome of a submission. The first row that fits decides.

    `http` and `code` are patterns for the whole text, `words` for a part; missing ones always fit. `charged` is
    `refunded` where a document says that the vendor gives back what it took. `about` says whom a refusal of our key or
    account concerns: everything there, or only the model that was asked for.
    """

    http: Pattern
    code: Pattern | None = None
    words: Pattern | None = None
    outcome: Literal["rejected", "throttled", "ambiguous"]
    error: ErrorCode = "submission_outcome_unknown"
    charged: Literal["no", "refunded", "unknown"] = "no"
    about: RefusedOf = "account"
    source: str

    @model_validator(mode="after")
    def _a_server_error_needs_the_vendors_own_code(self) -> Self:
        """A page of a proxy has such a status, too: it must not pass for the vendor's word that nothing is owed."""
        if self.outcome == "rejected" and self.code is None and any(re.fullmatch(self.http, at) for at in _IN_DOUBT):
            raise ValueError(f"{self.http}: a refusal with such a status needs a `code`")
        return self


class FailureRow(Fact):
    """One row of the table vendor code x words -> our code of a failed job. The first row that fits decides."""

    code: Pattern | None = None
    words: Pattern | None = None
    error: ErrorCode
    source: str


class Credit(Fact):
    """What one credit costs, where a document says it."""

    usd: Positive | None = None
    source: str


class FieldDefaults(Fact):
    """What a vendor's document says that it does where these fields are not sent: they change the clip."""

    shot_type: Literal["single", "multi"] | None = None
    prompt_extend: bool | None = None
    watermark: bool | None = None

    @property
    def named(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class Route(Fact):
    """One mode of one model at one vendor. Every default that its document names, and that changes the clip or the
    price, stands here; `sound_default` also where the field that switches sound off is not documented."""

    model: str
    mode: str
    vendor_model: str
    fields: frozenset[OptionalField]
    duration_s: Range
    resolutions: Choices
    aspect_ratios: Choices | None = None
    pixels: Literal["landscape", "by_aspect_ratio", "of_the_input"] = "of_the_input"
    prompt: TextLimit
    negative_prompt: TextLimit | None = None
    image: Count = Count(least=0, most=0)
    videos: Count = Count(least=0, most=0)
    references: Count = Count(least=0, most=0)
    reference_kinds: Kinds = Kinds()
    media: MediaLimits = MediaLimits()
    sound_default: bool | None = None
    defaults: FieldDefaults = FieldDefaults()
    multi_shot_needs_prompt_extend: bool = False
    input_seconds_most: int = 0
    first_read_s: float | None = None
    price: Annotated[tuple[PriceTable, ...], Field(min_length=1)]
    sources: dict[str, str] = Field(default_factory=dict[str, str])

    def pixels_of(self, resolution: str, aspect_ratio: str | None) -> tuple[int, int] | tuple[None, None]:
        """The pixels to expect, or nothing when they follow the input."""
        ratio = {"landscape": "16:9", "by_aspect_ratio": aspect_ratio, "of_the_input": None}[self.pixels]
        return PIXELS[resolution, ratio] if ratio else (None, None)

    @model_validator(mode="after")
    def _every_choice_has_one_price(self) -> Self:
        if days := repeated_days(self.price):
            raise ValueError(f"{self.mode}: two prices from {days[0]} on")
        for table in self.price:
            if table.unit != "undocumented":
                self._has_one_price_each(table)
        return self

    def _has_one_price_each(self, table: PriceTable) -> None:
        for resolution in self.resolutions.choices:
            for duration_s in self.duration_s.legal:
                for sound in (None,) if self.sound_default is None else (False, True):
                    found = len(table.lines(resolution, sound, duration_s))
                    if found != 1:
                        raise ValueError(
                            f"{self.mode}: {found or 'no'} price for {resolution}, {duration_s} s, sound {sound}"
                        )

    @model_validator(mode="after")
    def _names_belong_together(self) -> Self:
        tables = [table for table in self.price if table.unit != "undocumented"]
        priced = {line.resolution for table in tables for line in table.table}
        if strange := sorted(priced - set(self.resolutions.choices)):
            raise ValueError(f"{self.mode}: {', '.join(strange)} is not one of its resolutions")
        ratios = {"landscape": ("16:9",), "of_the_input": ()}.get(self.pixels)
        for ratio in ratios if ratios is not None else (self.aspect_ratios.choices if self.aspect_ratios else ()):
            if unknown := [each for each in self.resolutions.choices if (each, ratio) not in PIXELS]:
                raise ValueError(f"{self.mode}: no pixels are known for {unknown[0]} at {ratio}")
        for name in ("image", "videos", "references"):
            count: Count = getattr(self, name)
            if (name in self.fields) != (count.most > 0):
                raise ValueError(f"{self.mode}: {name} needs both a place in `fields` and a count")
        for name, there in (
            ("aspect_ratio", self.aspect_ratios is not None),
            ("negative_prompt", self.negative_prompt is not None),
        ):
            if (name in self.fields) != there:
                raise ValueError(f"{self.mode}: {name} needs both a place in `fields` and its rule")
        if strange := sorted(self.defaults.named.keys() - self.fields):
            raise ValueError(f"{self.mode}: {strange[0]} has a default and no place in `fields`")
        return self


class VendorFacts(Fact):
    """How a vendor behaves. A missing `base_url` must be configured."""

    base_url: str | None = None
    callbacks: bool
    cancelable: bool
    failed_job_cost: FailedJobCost
    bills: Literal["ordered_seconds", "generated_seconds"] = "ordered_seconds"
    deadline_s: float
    result_lifetime_s: float | None = None
    # What can tell how a submission without an answer ended. The balance counts only where a document says that a job
    # is charged when it is created; `absence_window_s` is how long two equal looks must lie apart.
    lists_jobs: bool = False
    balance: Literal["charged_at_creation"] | None = None
    absence_window_s: Annotated[float, Field(gt=0)] = 120.0
    documented: Annotated[tuple[str, ...], Field(min_length=1)]
    undocumented: tuple[str, ...] = ()


class VendorData(Fact):
    """One vendor's file."""

    vendor: VendorFacts
    credit: Credit
    cadence: Rhythm
    states: States
    outcomes: Annotated[tuple[OutcomeRow, ...], Field(min_length=1)]
    failures: tuple[FailureRow, ...] = ()
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]


class Catalogue(Fact):
    """All vendors. `version` changes with any byte of the files and is pinned in every plan and every hold."""

    version: str
    vendors: dict[str, VendorData]

    def route(self, name: str) -> tuple[str, VendorData, Route] | None:
        """Find `vendor/model/mode`; None when there is no such route."""
        return self.by_name.get(name)

    def route_names(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    @cached_property
    def by_name(self) -> dict[str, tuple[str, VendorData, Route]]:
        return {
            f"{name}/{route.model}/{route.mode}": (name, vendor, route)
            for name, vendor in self.vendors.items()
            for route in vendor.routes
        }


def read_catalogue(folder: Path) -> Catalogue:
    """Read and check a folder of vendor files. Raises ValueError (pydantic's, too) naming the file that is wrong."""
    digest, vendors = hashlib.sha256(), dict[str, object]()
    for path in sorted(folder.glob("*.toml")):
        digest.update(path.read_bytes())
        try:
            vendors[path.stem] = tomllib.loads(path.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path.name}: {error}") from None
    return Catalogue.model_validate({"version": digest.hexdigest()[:12], "vendors": vendors})


@cache
def load_catalogue() -> Catalogue:
    """The catalogue shipped with the package."""
    return read_catalogue(ROUTES)
