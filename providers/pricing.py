"""Prices as data: a vendor's own unit with its dated tables, and the dated prices that an operator configures.

`providers.tariff` says which of them counts on a day.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from providers.contracts import FailedJobContract

Positive = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Day = Annotated[date, Field(strict=True)]


class Dated(Protocol):
    """Something that counts from a day on (UTC), until a later one of its kind does; without a day, from ever."""

    @property
    def valid_from(self) -> date | None: ...


D = TypeVar("D", bound=Dated)


def in_force(entries: Iterable[D], day: date) -> D | None:
    """The entry that counts on this day: the latest one that is not in the future."""
    begun = [entry for entry in entries if entry.valid_from is None or entry.valid_from <= day]
    return max(begun, key=lambda entry: entry.valid_from or date.min, default=None)


def repeated_days(entries: Iterable[Dated]) -> list[str]:
    """The days on which more than one entry would begin to count."""
    days = Counter(str(entry.valid_from or "undated") for entry in entries)
    return [day for day, count in days.items() if count > 1]


class Fact(BaseModel):
    """A fact of a data file; what the file misspells is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UsdRate(Fact):
    """One line in USD a second; `sound` only where the vendor prices it."""

    resolution: str
    sound: bool | None = None
    usd: Positive


class Documented(Fact):
    """A table as a document has it: from the day of the document, or on which it was read."""

    valid_from: Day
    source: str


class UsdPerSecond(Documented):
    """USD per second of output, by resolution and sound."""

    unit: Literal["usd_per_second"]
    table: tuple[UsdRate, ...]

    @property
    def prices_sound(self) -> bool:
        """Whether sound has a price of its own."""
        return any(line.sound is not None for line in self.table)

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        """The dollars of one clip, by every line that applies: a loaded route has exactly one."""
        return [
            line.usd * duration_s
            for line in self.table
            if line.resolution == resolution and line.sound in (None, sound)
        ]


class CreditRate(Fact):
    """One line in credits a second."""

    resolution: str
    credits: Positive


class CreditsPerSecond(Documented):
    """Credits per second of output, by resolution."""

    unit: Literal["credits_per_second"]
    table: tuple[CreditRate, ...]

    @property
    def prices_sound(self) -> bool:
        return False

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        del sound
        return [line.credits * duration_s for line in self.table if line.resolution == resolution]


class ClipRate(Fact):
    """One line in credits a clip."""

    resolution: str
    duration_s: int
    credits: Positive


class CreditsPerClip(Documented):
    """Credits per clip, by resolution and duration: not linear in seconds."""

    unit: Literal["credits_per_clip"]
    table: tuple[ClipRate, ...]

    @property
    def prices_sound(self) -> bool:
        return False

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        del sound
        return [line.credits for line in self.table if (line.resolution, line.duration_s) == (resolution, duration_s)]


class Undocumented(Documented):
    """No document names a price."""

    unit: Literal["undocumented"]

    @property
    def prices_sound(self) -> bool:
        return False

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        del resolution, sound, duration_s
        return []


PriceTable = Annotated[UsdPerSecond | CreditsPerSecond | CreditsPerClip | Undocumented, Field(discriminator="unit")]


class DatedCredit(Fact):
    """What one credit of a vendor costs from a day on."""

    vendor: str
    valid_from: Day
    usd: Positive
    source: str = ""


class DatedPrice(Fact):
    """USD a second of a route from a day on, for the resolutions that are named."""

    route: str
    valid_from: Day
    usd_per_second: Annotated[dict[str, Positive], Field(min_length=1)]
    source: str = ""


class Configured(Fact):
    """One configured figure in USD: of a credit, or of a second at one resolution."""

    usd: Decimal
    valid_from: date | None = None
    source: str = ""


class ConfiguredPrices(Fact):
    """The file that `ONETAKE_PRICES` names: what a credit costs by vendor, and USD a second by route and resolution.

    The short forms `[credits]` and `[usd_per_second]` count from ever, `[[credit]]` and `[[price]]` from their day on.
    A configured price of a route goes before the documented one: an account may have its own. So does what a contract
    says in `[[failed_job_cost]]`.
    """

    credits: dict[str, Positive] = Field(default_factory=dict[str, Decimal])
    usd_per_second: dict[str, dict[str, Positive]] = Field(default_factory=dict[str, dict[str, Decimal]])
    credit: tuple[DatedCredit, ...] = ()
    price: tuple[DatedPrice, ...] = ()
    failed_job_cost: tuple[FailedJobContract, ...] = ()

    def of_credit(self, vendor: str) -> list[Configured]:
        """All that is configured for a credit of this vendor."""
        undated = [Configured(usd=self.credits[vendor])] if vendor in self.credits else []
        dated = [each for each in self.credit if each.vendor == vendor]
        return undated + [Configured(usd=each.usd, valid_from=each.valid_from, source=each.source) for each in dated]

    def of_second(self, route: str, resolution: str) -> list[Configured]:
        """All that is configured for a second of this route at this resolution."""
        short = self.usd_per_second.get(route, {})
        undated = [Configured(usd=short[resolution])] if resolution in short else []
        dated = [each for each in self.price if each.route == route and resolution in each.usd_per_second]
        return undated + [
            Configured(usd=each.usd_per_second[resolution], valid_from=each.valid_from, source=each.source)
            for each in dated
        ]

    def resolutions(self) -> list[tuple[str, str, str]]:
        """Every place, route and resolution for which the file names a price."""
        short = [
            (f"usd_per_second.{route}", route, each) for route, table in self.usd_per_second.items() for each in table
        ]
        return short + [
            (f"price.{number}", each.route, resolution)
            for number, each in enumerate(self.price)
            for resolution in each.usd_per_second
        ]

    def vendors(self) -> list[tuple[str, str]]:
        """Every place and vendor for which the file names the price of a credit."""
        dated = [(f"credit.{number}", each.vendor) for number, each in enumerate(self.credit)]
        return [(f"credits.{vendor}", vendor) for vendor in self.credits] + dated
