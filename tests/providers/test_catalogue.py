"""The data file of the catalogue is checked when it is loaded, and the error names what is wrong."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import providers.catalogue
from providers.catalogue import CatalogueData, Range, load_catalogue

TEXT = (Path(providers.catalogue.__file__).parent / "catalogue.toml").read_text(encoding="utf-8")
Change = Callable[[dict[str, Any]], object]


def _vendor(data: dict[str, Any]) -> dict[str, Any]:
    return data["vendors"]["apixo"]


def _flash(data: dict[str, Any]) -> dict[str, Any]:
    return next(route for route in _vendor(data)["routes"] if route["mode"] == "image-to-video-flash")


def _prices(data: dict[str, Any]) -> list[dict[str, Any]]:
    return _flash(data)["price"]["table"]


WRONG: dict[str, tuple[Change, str]] = {
    "an unknown key": (lambda data: data.update(vendor={}), "vendor\n"),
    "an unknown key of a vendor": (lambda data: _vendor(data).update(cancellable=True), "vendors.apixo.cancellable"),
    "an unknown key of a route": (lambda data: _flash(data).update(durations={}), "durations"),
    "an unknown key of a cadence": (lambda data: _vendor(data)["cadence"].update(intervall_s=1), "cadence.intervall_s"),
    "a missing key of a cadence": (lambda data: _vendor(data)["cadence"].pop("interval_s"), "cadence.interval_s"),
    "an unknown key of a price": (lambda data: _prices(data)[0].update(eur="1"), "price.table.0.eur"),
    "an unknown field": (lambda data: _flash(data)["fields"].append("sounds"), "fields"),
    "a missing price": (lambda data: _prices(data).pop(), "image-to-video-flash: no price for 1080p, sound True"),
    "no prices": (lambda data: _flash(data).pop("price"), "price"),
    "two prices": (
        lambda data: _prices(data).append({"resolution": "720p", "sound": True, "usd": "1"}),
        "image-to-video-flash: 2 price for 720p, sound True",
    ),
    "a price for a resolution that is none": (
        lambda data: _prices(data).append({"resolution": "4k", "usd": "1"}),
        "image-to-video-flash: 4k is not one of its resolutions",
    ),
    "pixels for a resolution that is none": (
        lambda data: _flash(data).update(pixels={"702p": [1, 1]}),
        "image-to-video-flash: 702p is not one of its resolutions",
    ),
    "a price that is no number": (lambda data: _prices(data)[0].update(usd="0,10"), "price.table.0.usd"),
    "a price of nothing": (lambda data: _prices(data)[0].update(usd="0"), "price.table.0.usd"),
    "a negative price": (lambda data: _prices(data)[0].update(usd="-0.1"), "price.table.0.usd"),
    "another unit": (lambda data: _flash(data)["price"].update(unit="eur_per_second"), "price.unit"),
    "a default that is no choice": (lambda data: _flash(data)["resolutions"].update(default="480p"), "'480p'"),
    "a default out of range": (lambda data: _flash(data)["duration_s"].update(default=16), "default of duration_s"),
    "a field without its count": (lambda data: _flash(data).pop("image"), "image needs both"),
    "a count without its field": (lambda data: _flash(data)["fields"].remove("image"), "image needs both"),
    "a cost that is none": (lambda data: _vendor(data).update(failed_job_cost="maybe"), "failed_job_cost"),
    "no source": (lambda data: _vendor(data).update(documented=[]), "documented"),
    "no version": (lambda data: data.pop("version"), "version"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_the_file_is_an_error_that_names_it(name: str) -> None:
    change, named = WRONG[name]
    data = tomllib.loads(TEXT)
    change(data)
    with pytest.raises(ValidationError) as caught:
        CatalogueData.model_validate(data)
    assert named in str(caught.value)


def test_the_file_that_ships_is_right_and_dated() -> None:
    data = load_catalogue()
    assert data == CatalogueData.model_validate(tomllib.loads(TEXT))
    assert data.version.startswith("20")
    assert all("20" in source for source in data.vendors["apixo"].documented)


@pytest.mark.parametrize(
    ("given", "allowed", "nearest"), [(4, False, 5), (5, True, 5), (7, False, 5), (8, False, 10), (99, False, 15)]
)
def test_a_range_may_be_a_few_numbers(given: int, allowed: bool, nearest: int) -> None:
    few = Range(least=5, most=15, default=5, choices=(5, 10, 15))
    assert (allowed, nearest) == (few.allows(given), few.nearest(given))
    assert str(few) == "5, 10, 15"
