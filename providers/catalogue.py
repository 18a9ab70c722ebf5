"""What every route accepts and costs: the data of `catalogue.toml`, checked once when it is loaded.

A typo, an unknown field or a price without a matching choice is an error at start. This module knows no settings, no
clock and no network; `providers.admission` applies it to requests.
"""

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from onetake.contracts import Cadence, FailedJobCost
from onetake.money import micros_up

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


class Fact(BaseModel):
    """A fact of the data file; what the file misspells is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Fact):
    """Whole numbers from least to most, or only those in `choices`."""

    least: int
    most: int
    default: int
    choices: tuple[int, ...] = ()

    def allows(self, value: int) -> bool:
        return value in self.choices if self.choices else self.least <= value <= self.most

    def nearest(self, value: int) -> int:
        legal = self.choices or range(self.least, self.most + 1)
        return min(legal, key=lambda candidate: (abs(candidate - value), candidate))

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) if self.choices else f"{self.least} to {self.most}"


class Choices(Fact):
    """One of a few words."""

    choices: tuple[str, ...]
    default: str

    @model_validator(mode="after")
    def _default_is_legal(self) -> Self:
        if self.default not in self.choices:
            raise ValueError(f"default {self.default!r} is not one of the choices")
        return self


class TextLimit(Fact):
    """The longest text, in characters."""

    most: int
    required: bool = True


class Count(Fact):
    """How many inputs of one kind."""

    least: int
    most: int


class Rate(Fact):
    """One line of a price table; `sound` only where the vendor prices it."""

    resolution: str
    sound: bool | None = None
    usd: Annotated[Decimal, Field(gt=0)]


class Rhythm(Cadence):
    """A cadence in the data file."""

    model_config = ConfigDict(extra="forbid")


class PriceTable(Fact):
    """USD per second of output, by resolution and sound."""

    unit: Literal["usd_per_second"]
    table: tuple[Rate, ...]

    def rates(self, resolution: str, sound: bool | None) -> tuple[Decimal, ...]:
        """The lines for a choice; a route that was loaded has exactly one for each of its choices."""
        return tuple(line.usd for line in self.table if line.resolution == resolution and line.sound in (None, sound))

    def rate(self, resolution: str, sound: bool | None) -> Decimal:
        (usd,) = self.rates(resolution, sound)
        return usd

    def amount_micros(self, resolution: str, sound: bool | None, duration_s: int) -> int:
        """The price of one clip, rounded up to a micro."""
        return micros_up(self.rate(resolution, sound) * duration_s)


class Route(Fact):
    """One mode of one model at one vendor."""

    model: str
    mode: str
    fields: frozenset[OptionalField]
    duration_s: Range
    resolutions: Choices
    pixels: dict[str, tuple[int, int]] = Field(default_factory=dict[str, tuple[int, int]])
    aspect_ratios: Choices | None = None
    prompt: TextLimit
    negative_prompt: TextLimit | None = None
    image: Count = Count(least=0, most=0)
    videos: Count = Count(least=0, most=0)
    references: Count = Count(least=0, most=0)
    sound_default: bool | None = None
    first_read_s: float | None = None
    price: PriceTable

    @model_validator(mode="after")
    def _every_choice_has_one_price(self) -> Self:
        for resolution in self.resolutions.choices:
            for sound in (None,) if self.sound_default is None else (False, True):
                found = len(self.price.rates(resolution, sound))
                if found != 1:
                    raise ValueError(f"{self.mode}: {found or 'no'} price for {resolution}, sound {sound}")
        return self

    @model_validator(mode="after")
    def _names_belong_together(self) -> Self:
        named = {*self.pixels, *(line.resolution for line in self.price.table)}
        if strange := sorted(named - set(self.resolutions.choices)):
            raise ValueError(f"{self.mode}: {', '.join(strange)} is not one of its resolutions")
        for name in ("image", "videos", "references"):
            count: Count = getattr(self, name)
            if (name in self.fields) != (count.most > 0):
                raise ValueError(f"{self.mode}: {name} needs both a place in `fields` and a count")
        if not self.duration_s.allows(self.duration_s.default):
            raise ValueError(f"{self.mode}: the default of duration_s is not allowed")
        return self


class Vendor(Fact):
    """One vendor: how it behaves, and its routes."""

    base_url: str
    callbacks: bool
    cancelable: bool
    failed_job_cost: FailedJobCost
    deadline_s: float
    documented: Annotated[tuple[str, ...], Field(min_length=1)]
    undocumented: tuple[str, ...] = ()
    cadence: Rhythm
    routes: tuple[Route, ...]


class CatalogueData(Fact):
    """The whole file. `version` is pinned in every plan and every hold."""

    version: str
    vendors: dict[str, Vendor]

    def route(self, name: str) -> tuple[str, Vendor, Route] | None:
        """Find `vendor/model/mode`; None when there is no such route."""
        return self._by_name().get(name)

    def route_names(self) -> tuple[str, ...]:
        return tuple(self._by_name())

    def _by_name(self) -> dict[str, tuple[str, Vendor, Route]]:
        return {
            f"{name}/{route.model}/{route.mode}": (name, vendor, route)
            for name, vendor in self.vendors.items()
            for route in vendor.routes
        }


@cache
def load_catalogue() -> CatalogueData:
    """Read and check the data file shipped with the package. Raises pydantic.ValidationError for a wrong file."""
    text = (Path(__file__).parent / "catalogue.toml").read_text(encoding="utf-8")
    return CatalogueData.model_validate(tomllib.loads(text))
