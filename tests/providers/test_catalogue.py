"""The files of the catalogue are checked when they are loaded, and the error names what is wrong."""

import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from providers.catalogue import ROUTES, Catalogue, Range, Route, load_catalogue, read_catalogue
from tests.providers.parts import VENDORS

Table = dict[str, Any]
Change = Callable[[Table], object]

# Under these, a key is a name that people chose and not one of ours.
FREE = {"sources"}


def _read(vendor: str) -> Table:
    return tomllib.loads((ROUTES / f"{vendor}.toml").read_text(encoding="utf-8"))


def _problem(vendor: str, data: Table) -> str:
    with pytest.raises(ValidationError) as caught:
        Catalogue.model_validate({"version": "1", "vendors": {vendor: data}})
    return str(caught.value)


def _tables(value: object) -> Iterator[Table]:
    if isinstance(value, dict):
        table = cast("Table", value)
        yield table
        for name, below in table.items():
            if name not in FREE:
                yield from _tables(below)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _tables(item)


@pytest.mark.parametrize("vendor", VENDORS)
def test_any_key_that_is_misspelt_is_an_error_that_names_the_vendor_and_the_key(vendor: str) -> None:
    data, tried = _read(vendor), 0
    for table in list(_tables(data)):
        for key in list(table):
            before = dict(table)
            table[f"{key}_x"] = table.pop(key)
            problem = _problem(vendor, data)
            assert f"vendors.{vendor}." in problem, key
            assert f"{key}_x" in problem or f"'{key}'" in problem, problem
            table.clear()
            table.update(before)
            tried += 1
    assert tried > 100
    Catalogue.model_validate({"version": "1", "vendors": {vendor: data}})


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_file_that_is_no_toml_is_an_error_that_names_it(vendor: str, tmp_path: Path) -> None:
    shutil.copytree(ROUTES, tmp_path / "routes")
    broken = tmp_path / "routes" / f"{vendor}.toml"
    broken.write_text(broken.read_text(encoding="utf-8").replace("[credit]", "[credit", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^{vendor}\.toml: .*line"):
        read_catalogue(tmp_path / "routes")


def test_the_version_changes_with_any_byte(tmp_path: Path) -> None:
    shutil.copytree(ROUTES, tmp_path / "routes")
    assert read_catalogue(tmp_path / "routes").version == load_catalogue().version
    file = tmp_path / "routes" / "gmi.toml"
    file.write_bytes(file.read_bytes() + b"\n")
    assert read_catalogue(tmp_path / "routes").version != load_catalogue().version


# -- What is written right and wrong all the same ----------------------------------------------------------------------


def _flash(data: Table) -> Table:
    return next(route for route in data["routes"] if route["mode"] == "image-to-video-flash")


def _prices(data: Table) -> list[Table]:
    return _flash(data)["price"][0]["table"]


WRONG: dict[str, tuple[Change, str]] = {
    "an unknown field": (lambda data: _flash(data)["fields"].append("sounds"), "fields"),
    "a missing price": (lambda data: _prices(data).pop(), "image-to-video-flash: no price for 1080p, 2 s, sound True"),
    "no prices": (lambda data: _flash(data).pop("price"), "price"),
    "two prices": (
        lambda data: _prices(data).append({"resolution": "720p", "sound": True, "usd": "1"}),
        "image-to-video-flash: 2 price for 720p, 2 s, sound True",
    ),
    "a price for a resolution that is none": (
        lambda data: _prices(data).append({"resolution": "4k", "usd": "1"}),
        "image-to-video-flash: 4k is not one of its resolutions",
    ),
    "a price that is no number": (lambda data: _prices(data)[0].update(usd="0,10"), "table.0.usd"),
    "a price of nothing": (lambda data: _prices(data)[0].update(usd="0"), "table.0.usd"),
    "two prices from one day": (
        lambda data: _flash(data)["price"].append(_flash(data)["price"][0]),
        "image-to-video-flash: two prices from 2026-11-20 on",
    ),
    "a price without its day": (lambda data: _flash(data)["price"][0].pop("valid_from"), "valid_from"),
    "a negative price": (lambda data: _prices(data)[0].update(usd="-0.1"), "table.0.usd"),
    "another unit": (lambda data: _flash(data)["price"][0].update(unit="eur_per_second"), "eur_per_second"),
    "a default that is no choice": (lambda data: _flash(data)["resolutions"].update(default="480p"), "'480p'"),
    "a default out of range": (lambda data: _flash(data)["duration_s"].update(default=16), "the default 16"),
    "a field without its count": (lambda data: _flash(data).pop("image"), "image needs both"),
    "a count without its field": (lambda data: _flash(data)["fields"].remove("image"), "image needs both"),
    "a field without its rule": (lambda data: _flash(data).pop("negative_prompt"), "negative_prompt needs both"),
    "a rule without its field": (
        lambda data: _flash(data).update(aspect_ratios={"choices": ["16:9"], "default": "16:9"}),
        "aspect_ratio needs both",
    ),
    "a format that is none": (lambda data: _flash(data)["media"]["image"]["formats"].append("gif"), "formats"),
    "a cost that is none": (lambda data: data["vendor"].update(failed_job_cost="maybe"), "failed_job_cost"),
    "an error code that is none": (lambda data: data["outcomes"][0].update(error="rejected"), "'rejected' is no error"),
    "a pattern that is none": (lambda data: data["failures"][0].update(words="("), "is no pattern"),
    "no source": (lambda data: data["vendor"].update(documented=[]), "documented"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_in_a_file_is_an_error_that_names_it(name: str) -> None:
    change, named = WRONG[name]
    data = _read("apixo")
    change(data)
    assert named in _problem("apixo", data)


def test_a_clip_price_is_needed_for_every_duration() -> None:
    data = _read("wan26ai")
    data["routes"][0]["price"][0]["table"].pop()
    assert "text-to-video: no price for 1080p, 15 s, sound None" in _problem("wan26ai", data)


# -- What ships --------------------------------------------------------------------------------------------------------


def test_the_files_that_ship_are_right_and_dated() -> None:
    data = load_catalogue()
    assert tuple(data.vendors) == VENDORS
    for vendor in data.vendors.values():
        assert any(re.search(r"20\d\d-\d\d-\d\d", source) for source in vendor.vendor.documented)


def test_every_input_that_a_route_takes_has_its_limits() -> None:
    """Or it would not be looked at."""
    for name, (_, _, route) in load_catalogue().by_name.items():
        images = route.image.most or route.reference_kinds.image
        videos = route.videos.most or route.reference_kinds.video
        assert bool(images) == (route.media.image is not None), name
        assert bool(videos) == (route.media.video is not None), name
        assert ("audio_url" in route.fields) == (route.media.audio is not None), name
        assert bool(route.references.most) == bool(route.reference_kinds.image + route.reference_kinds.video), name


@pytest.mark.parametrize(
    ("given", "allowed", "nearest"), [(4, False, 5), (5, True, 5), (7, False, 5), (8, False, 10), (99, False, 15)]
)
def test_a_range_may_be_a_few_numbers(given: int, allowed: bool, nearest: int) -> None:
    few = Range(least=5, most=15, default=5, choices=(5, 10, 15))
    assert (allowed, nearest) == (few.allows(given), few.nearest(given))
    assert str(few) == "5, 10, 15"


def test_a_resolution_whose_pixels_nobody_knows_is_an_error_that_names_it() -> None:
    route = load_catalogue().vendors["apixo"].routes[0].model_dump()
    choices = {"choices": ("720p", "4k"), "default": "720p"}
    table = [{"resolution": "720p", "usd": "0.1"}, {"resolution": "4k", "usd": "1"}]
    price = {"valid_from": date(2026, 11, 20), "unit": "usd_per_second", "source": "s", "table": table}
    with pytest.raises(ValidationError, match="no pixels are known for 4k at 16:9"):
        Route.model_validate(route | {"resolutions": choices, "price": [price]})
