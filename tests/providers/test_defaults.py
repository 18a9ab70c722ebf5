"""What a clip gets where the caller names no resolution, duration or sound: the two default profiles."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.errors import Refused
from onetake.core.settings import load_settings
from providers.admission import RouteAdmission
from providers.catalogue import load_catalogue
from providers.defaults import choose, legal
from tests.providers.documented import DOCUMENTED, UNPRICED
from tests.providers.parts import MODEL, plan_of, request_for, request_on, settings

FLASH = request_for("image-to-video-flash")
Decisive = tuple[str, int, bool | None]


def decisive(plan: Plan) -> Decisive:
    return plan.resolution, plan.duration_s, plan.sound


def cheapest(request: GenerationRequest, **named: Any) -> Decisive:
    return decisive(plan_of(request, defaults="cheapest", **named))


def test_the_cheapest_is_the_profile_where_none_is_set() -> None:
    assert load_settings().defaults == "cheapest"


def test_a_profile_of_another_name_is_refused_by_its_setting() -> None:
    with pytest.raises(Refused) as caught:
        load_settings(defaults="dearest")
    assert (caught.value.code, caught.value.detail) == ("settings_invalid", "Wrong: ONETAKE_DEFAULTS.")


@pytest.mark.parametrize("route", DOCUMENTED)
def test_the_vendors_profile_is_what_the_vendor_documents(route: str) -> None:
    known = DOCUMENTED[route]
    assert decisive(plan_of(request_on(route), defaults="vendor")) == (known.resolution, 5, known.sound)


@pytest.mark.parametrize("route", DOCUMENTED)
def test_who_names_nothing_gets_the_lowest_and_shortest_and_no_sound_where_sound_has_a_price(route: str) -> None:
    known = DOCUMENTED[route]
    sound = False if known.sound_has_a_price else known.sound
    assert cheapest(request_on(route)) == ("720p", known.legal[0], sound)


@pytest.mark.parametrize("route", DOCUMENTED)
def test_nothing_that_could_have_been_named_costs_less(route: str) -> None:
    known, taken = DOCUMENTED[route], plan_of(request_on(route), defaults="cheapest").price.amount_micros
    sounds = (True, False) if known.sound_has_a_price else (None,)
    others = [
        plan_of(request_on(route, resolution=resolution, duration_s=seconds, sound=sound)).price.amount_micros
        for resolution in ("720p", "1080p")
        for seconds in known.legal
        for sound in sounds
    ]
    assert taken == min(others)


@given(
    resolution=st.sampled_from([None, "720p", "1080p"]),
    duration_s=st.none() | st.integers(2, 15),
    sound=st.sampled_from([None, True, False]),
)
def test_what_the_caller_names_is_never_changed(
    resolution: str | None, duration_s: int | None, sound: bool | None
) -> None:
    request = FLASH.model_copy(update={"resolution": resolution, "duration_s": duration_s, "sound": sound})
    named = (resolution, duration_s, sound)
    taken = cheapest(request)
    assert taken == tuple(
        each if each is not None else least for each, least in zip(named, ("720p", 2, False), strict=True)
    )


def test_who_names_a_sound_file_keeps_the_sound() -> None:
    request = FLASH.model_copy(update={"audio_url": "https://example.com/a.mp3"})
    assert cheapest(request) == ("720p", 2, True)


def test_sound_without_a_price_of_its_own_is_left_to_the_vendor() -> None:
    assert cheapest(request_on("aivideoapi/wan-2.6/image-to-video")) == ("720p", 2, None)


def test_the_price_decides_and_not_the_resolution(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[usd_per_second."{MODEL}/text-to-video"]\n720p = "0.30"\n1080p = "0.20"\n', encoding="utf-8")
    assert cheapest(request_for(), prices=str(prices)) == ("1080p", 2, None)


def test_of_one_price_the_lowest_then_the_shortest_then_the_routes_own_sound_is_taken() -> None:
    found = load_catalogue().route(FLASH.route)
    assert found
    taken = choose(legal(found[2], FLASH), found[2], FLASH, "cheapest", lambda _: 7)
    assert (taken.resolution, taken.duration_s, taken.sound) == ("720p", 2, True)


def test_where_only_some_prices_are_known_the_cheapest_of_these_is_taken(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[usd_per_second."gmi/wan-2.6/text-to-video"]\n1080p = "0.20"\n', encoding="utf-8")
    assert cheapest(request_on("gmi/wan-2.6/text-to-video"), prices=str(prices)) == ("1080p", 5, True)


@pytest.mark.parametrize("route", UNPRICED)
def test_without_any_price_the_error_names_the_price_of_the_lowest(route: str) -> None:
    with pytest.raises(Refused) as caught:
        plan_of(request_on(route), defaults="cheapest", prices=None)
    expected = f'Set [usd_per_second."{route}"] "720p" in the file ONETAKE_PRICES names.'
    assert (caught.value.code, caught.value.detail) == ("price_missing", expected)


@pytest.mark.parametrize("profile", ["cheapest", "vendor"])
def test_a_choice_outside_of_what_is_left_is_never_taken(profile: Any) -> None:
    """A vendor's default that is not among what may be had gives way to the cheapest that is."""
    found = load_catalogue().route(f"{MODEL}/reference-to-video")
    request = request_for("reference-to-video")
    assert found
    among = tuple(each for each in legal(found[2], request) if each.resolution == "720p" and each.duration_s > 7)
    taken = choose(among, found[2], request, profile, lambda choice: choice.duration_s)
    assert (taken.resolution, taken.duration_s) == ("720p", 8)


def test_a_plan_is_the_same_each_time() -> None:
    admission = RouteAdmission(settings(defaults="cheapest"))
    first, second = (admission.plan(FLASH, base_queue="q") for _ in range(2))
    assert first == second
