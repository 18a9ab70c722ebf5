"""What one clip is expected to cost on a day: which dated table counts, and exactly which one it was.

A price that no document names is not guessed: the route needs `ONETAKE_PRICES` before it can run.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from onetake.core.contracts import Price
from onetake.core.errors import Refused
from onetake.core.money import format_usd, micros_up
from providers.catalogue import Catalogue, Route, VendorData
from providers.contracts import FailedJobContract, refuse_wrong_contracts
from providers.pricing import Configured, ConfiguredPrices, in_force, repeated_days

FILE: Final = "The file that ONETAKE_PRICES names"
UNDATED: Final = "undated"


@dataclass(frozen=True)
class PriceFile:
    """The operator's file as it was read once; `digest` is of its bytes, and empty without a file."""

    prices: ConfiguredPrices = field(default_factory=ConfiguredPrices)
    digest: str = ""


@dataclass(frozen=True)
class Choice:
    """What decides the price of a clip on its route. `sound` is None on a route without that field."""

    resolution: str
    sound: bool | None
    duration_s: int


@dataclass(frozen=True)
class Priced:
    """A price, the day from which it counts (None: from ever) and where it was read."""

    price: Price
    valid_from: date | None
    source: str


class Tariff:
    """The prices of a catalogue and of the operator's file, by day."""

    def __init__(self, catalogue: Catalogue, path: str | None) -> None:
        """Read and check the file. Raises Refused(`settings_invalid`) with all that is wrong in it."""
        file = _read(path) if path else PriceFile()
        if problems := list(_problems(file.prices, catalogue)):
            raise _wrong(problems)
        refuse_wrong_contracts(file.prices.failed_job_cost)
        self._catalogue, self._configured = catalogue, file.prices
        both = hashlib.sha256(f"{catalogue.version} {file.digest}".encode()).hexdigest()[:12]
        self.version = both if file.digest else catalogue.version

    @property
    def failed_job_cost(self) -> tuple[FailedJobContract, ...]:
        """What contracts say of failed jobs."""
        return self._configured.failed_job_cost

    def price(self, name: str, choice: Choice, day: date) -> Priced:
        """The price of one clip on this day (UTC), rounded up to a micro. `Price.table_version` names the data and the
        day from which they count. Raises Refused(`price_missing`) naming the setting, KeyError for no route."""
        vendor_name, vendor, route = self._catalogue.by_name[name]
        seconds = choice.duration_s + route.input_seconds_most
        if (own := in_force(self._configured.of_second(name, choice.resolution), day)) is not None:
            unit = f"{format_usd(micros_up(own.usd))} a second, configured"
            credit = self.credit(vendor_name, vendor, day)
            of = [own, credit] if credit else [own]
            return self._priced(own.usd * seconds, unit, credit and credit.usd, of)
        return self._documented(name, vendor_name, vendor, route, choice, day)

    def days(self, name: str) -> list[date]:
        """The days on which a price of this route may change, in order."""
        vendor_name, _, route = self._catalogue.by_name[name]
        entries = [each for one in route.resolutions.choices for each in self._configured.of_second(name, one)]
        found = [*route.price, *entries, *self._configured.of_credit(vendor_name)]
        return sorted({each.valid_from for each in found if each.valid_from is not None})

    def _documented(
        self, name: str, vendor_name: str, vendor: VendorData, route: Route, choice: Choice, day: date
    ) -> Priced:
        table = in_force(route.price, day)
        lines = table.lines(choice.resolution, choice.sound, choice.duration_s) if table else []
        if table is None or not lines:
            setting = f'[usd_per_second."{name}"] "{choice.resolution}"'
            raise Refused("price_missing", f"Set {setting} in the file ONETAKE_PRICES names.")
        (amount,) = lines
        of_table = Configured(usd=amount, valid_from=table.valid_from, source=table.source)
        if table.unit == "usd_per_second":
            unit = f"{format_usd(micros_up(amount / choice.duration_s))} a second"
            return self._priced(amount, unit, None, [of_table])
        credit = self.credit(vendor_name, vendor, day)
        if credit is None:
            setting = f"Set [credits] {vendor_name} in the file ONETAKE_PRICES names: USD for one credit."
            raise Refused("price_missing", setting)
        unit = f"{amount.normalize():f} credits at ${credit.usd.normalize():f}"
        return self._priced(amount * credit.usd, unit, credit.usd, [of_table, credit])

    def credit(self, vendor_name: str, vendor: VendorData, day: date) -> Configured | None:
        """What a credit of this vendor costs on this day: as configured, else as documented; None when neither is."""
        own = in_force(self._configured.of_credit(vendor_name), day)
        if own is not None or vendor.credit.usd is None:
            return own
        return Configured(usd=vendor.credit.usd, source=vendor.credit.source)

    def _priced(self, usd: Decimal, unit: str, usd_per_credit: Decimal | None, of: list[Configured]) -> Priced:
        """A table and a credit count together from the later of their days: each change makes another version."""
        valid_from = max((each.valid_from for each in of if each.valid_from is not None), default=None)
        version = f"{self.version}/{valid_from or UNDATED}"
        price = Price(amount_micros=micros_up(usd), unit=unit, table_version=version, usd_per_credit=usd_per_credit)
        return Priced(price, valid_from, "; ".join(each.source or "ONETAKE_PRICES" for each in of))


@cache
def _read(path: str) -> PriceFile:
    try:
        content = Path(path).read_bytes()
        prices = ConfiguredPrices.model_validate(tomllib.loads(content.decode()))
    except OSError:
        problem = f"{FILE} cannot be read."
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+, column \d+|end of document", str(error))
        problem = f"{FILE} is not TOML{f' at {place[0]}' if place else ''}."
    except ValidationError as error:
        raise _wrong([".".join(map(str, each["loc"])) for each in error.errors(include_input=False)]) from None
    except ValueError:
        problem = f"{FILE} is not TOML: it is not UTF-8."
    else:
        return PriceFile(prices, hashlib.sha256(content).hexdigest())
    raise Refused("settings_invalid", problem)


def _wrong(problems: list[str]) -> Refused:
    return Refused("settings_invalid", f"{FILE} is wrong at: {', '.join(problems)}.")


def _problems(prices: ConfiguredPrices, catalogue: Catalogue) -> Iterator[str]:
    """What the file names and the catalogue does not, with the nearest name; and days that are given twice."""
    for place, vendor in prices.vendors():
        if vendor not in catalogue.vendors:
            yield f"{place} (no vendor {vendor}{_nearest(vendor, tuple(catalogue.vendors))})"
    for place, name, resolution in prices.resolutions():
        found = catalogue.route(name)
        if found is None:
            yield f"{place} (no route {name}{_nearest(name, catalogue.route_names())})"
        elif resolution not in found[2].resolutions.choices:
            yield f"{place}.{resolution} (no resolution of {name}{_nearest(resolution, found[2].resolutions.choices)})"
    yield from _given_twice(prices)


def _given_twice(prices: ConfiguredPrices) -> Iterator[str]:
    for vendor in dict.fromkeys(vendor for _, vendor in prices.vendors()):
        for day in repeated_days(prices.of_credit(vendor)):
            yield f"credit (two of {vendor} from {day} on)"
    for name, resolution in dict.fromkeys((name, resolution) for _, name, resolution in prices.resolutions()):
        for day in repeated_days(prices.of_second(name, resolution)):
            yield f"price (two of {name} at {resolution} from {day} on)"


def _nearest(given: str, names: tuple[str, ...]) -> str:
    close = get_close_matches(given, names, n=1, cutoff=0.4)
    return f"; nearest: {close[0]}" if close else ""
