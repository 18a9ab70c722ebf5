"""What one clip is expected to cost: the vendor's own unit, its table, and the prices that an operator configures.

A price that no document names is not guessed: the route needs `ONETAKE_PRICES` before it can run.
"""

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onetake.core.contracts import Price
from onetake.core.errors import Refused
from onetake.core.money import format_usd, micros_up

Positive = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]


class Fact(BaseModel):
    """A fact of a data file; what the file misspells is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UsdRate(Fact):
    """One line in USD a second; `sound` only where the vendor prices it."""

    resolution: str
    sound: bool | None = None
    usd: Positive


class UsdPerSecond(Fact):
    """USD per second of output, by resolution and sound."""

    unit: Literal["usd_per_second"]
    source: str
    table: tuple[UsdRate, ...]

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


class CreditsPerSecond(Fact):
    """Credits per second of output, by resolution."""

    unit: Literal["credits_per_second"]
    source: str
    table: tuple[CreditRate, ...]

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        del sound
        return [line.credits * duration_s for line in self.table if line.resolution == resolution]


class ClipRate(Fact):
    """One line in credits a clip."""

    resolution: str
    duration_s: int
    credits: Positive


class CreditsPerClip(Fact):
    """Credits per clip, by resolution and duration: not linear in seconds."""

    unit: Literal["credits_per_clip"]
    source: str
    table: tuple[ClipRate, ...]

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        del sound
        return [line.credits for line in self.table if (line.resolution, line.duration_s) == (resolution, duration_s)]


class Undocumented(Fact):
    """No document names a price."""

    unit: Literal["undocumented"]
    source: str

    def lines(self, resolution: str, sound: bool | None, duration_s: int) -> list[Decimal]:
        del resolution, sound, duration_s
        return []


PriceTable = Annotated[UsdPerSecond | CreditsPerSecond | CreditsPerClip | Undocumented, Field(discriminator="unit")]


class ConfiguredPrices(Fact):
    """The file that `ONETAKE_PRICES` names: what a credit costs by vendor, and USD a second by route and resolution.

    A configured price of a route goes before the documented one: an account may have its own.
    """

    credits: dict[str, Positive] = Field(default_factory=dict[str, Decimal])
    usd_per_second: dict[str, dict[str, Positive]] = Field(default_factory=dict[str, dict[str, Decimal]])


@cache
def load_prices(path: str | None) -> ConfiguredPrices:
    """Read the configured prices; none when no file is named. Raises Refused(`settings_invalid`)."""
    if not path:
        return ConfiguredPrices()
    try:
        return ConfiguredPrices.model_validate(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    except OSError:
        problem = "The file that ONETAKE_PRICES names cannot be read."
    except tomllib.TOMLDecodeError:
        problem = "The file that ONETAKE_PRICES names is not TOML."
    except ValidationError as error:
        places = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False))
        problem = f"The file that ONETAKE_PRICES names is wrong at: {places}."
    raise Refused("settings_invalid", problem)


def price_of(
    route: str,
    table: PriceTable,
    *,
    resolution: str,
    sound: bool | None,
    duration_s: int,
    input_seconds: int,
    usd_per_credit: Decimal | None,
    configured: ConfiguredPrices,
    version: str,
) -> Price:
    """The pinned price of one clip, rounded up to a micro. Raises Refused(`price_missing`) naming the setting."""
    if (usd := configured.usd_per_second.get(route, {}).get(resolution)) is not None:
        amount = micros_up(usd * (duration_s + input_seconds))
        unit = f"{format_usd(micros_up(usd))} a second, configured"
        return Price(amount_micros=amount, unit=unit, table_version=version, usd_per_credit=usd_per_credit)
    lines = table.lines(resolution, sound, duration_s)
    if not lines:
        setting = f'[usd_per_second."{route}"] "{resolution}"'
        raise Refused("price_missing", f"Set {setting} in the file ONETAKE_PRICES names.")
    (amount_units,) = lines
    if table.unit == "usd_per_second":
        unit = f"{format_usd(micros_up(amount_units / duration_s))} a second"
        return Price(amount_micros=micros_up(amount_units), unit=unit, table_version=version)
    if usd_per_credit is None:
        vendor = route.partition("/")[0]
        raise Refused("price_missing", f"Set [credits] {vendor} in the file ONETAKE_PRICES names: USD for one credit.")
    unit = f"{amount_units.normalize():f} credits at ${usd_per_credit.normalize():f}"
    return Price(
        amount_micros=micros_up(amount_units * usd_per_credit),
        unit=unit,
        table_version=version,
        usd_per_credit=usd_per_credit,
    )
