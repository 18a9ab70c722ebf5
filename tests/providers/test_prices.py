"""What a clip costs, by the vendors' documents or by the operator's file of prices."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from onetake.core.money import micros_up
from providers.admission import RouteAdmission
from tests.providers.documented import DOCUMENTED, TO_10, UNPRICED, refusal
from tests.providers.parts import MODEL, plan_of, request_for, request_on, settings

# Dollars a second of output, as APIXO's section "Billing" tabulates them.
STANDARD_USD = {
    ("text-to-video", "720p"): "0.10",
    ("text-to-video", "1080p"): "0.15",
    ("image-to-video", "720p"): "0.10",
    ("image-to-video", "1080p"): "0.15",
    ("reference-to-video", "720p"): "0.20",
    ("reference-to-video", "1080p"): "0.30",
}
FLASH_USD = {
    ("image-to-video-flash", "720p"): ("0.025", "0.05"),
    ("image-to-video-flash", "1080p"): ("0.0375", "0.075"),
    ("reference-to-video-flash", "720p"): ("0.05", "0.10"),
    ("reference-to-video-flash", "1080p"): ("0.08", "0.16"),
}
# wan26ai: credits a clip, "Credit consumption". aivideoapi: credits a second, "Pricing", and 20 credits are 0.10 USD.
CLIP_CREDITS = {
    ("720p", 5): 80,
    ("720p", 10): 150,
    ("720p", 15): 220,
    ("1080p", 5): 115,
    ("1080p", 10): 220,
    ("1080p", 15): 325,
}
SECOND_CREDITS = {"720p": 24, "1080p": 40}


@dataclass(frozen=True)
class Cost:
    """What a document says one choice costs."""

    route: str
    resolution: str
    sound: bool | None
    duration_s: int
    usd: Decimal
    unit: str


def _documented_costs(route: str) -> list[Cost]:
    vendor, _, mode = route.split("/")
    known, rows = DOCUMENTED[route], list[Cost]()
    for resolution in ("720p", "1080p"):
        for sound in (None, False, True) if "sound" in known.named else (None,):
            for seconds in known.legal:
                usd, unit = _cost(vendor, mode, resolution, seconds, sound=sound)
                rows.append(Cost(route, resolution, sound, seconds, usd, unit))
    return rows


def _cost(vendor: str, mode: str, resolution: str, seconds: int, *, sound: bool | None) -> tuple[Decimal, str]:
    if vendor == "wan26ai":
        number = CLIP_CREDITS[resolution, seconds]
        return number * Decimal("0.01"), f"{number} credits at $0.01"
    if vendor == "aivideoapi":
        number = SECOND_CREDITS[resolution] * seconds
        return number * Decimal("0.10") / 20, f"{number} credits at $0.005"
    off_on = FLASH_USD.get((mode, resolution))
    usd = off_on[sound is not False] if off_on else STANDARD_USD[mode, resolution]
    return Decimal(usd) * seconds, f"${usd} a second"


COSTS = [cost for route in DOCUMENTED if route not in UNPRICED for cost in _documented_costs(route)]


@pytest.mark.parametrize("route", [route for route in DOCUMENTED if route not in UNPRICED])
def test_every_choice_costs_what_the_document_says(route: str) -> None:
    costs = [cost for cost in COSTS if cost.route == route]
    assert costs
    for cost in costs:
        fields = {"resolution": cost.resolution, "sound": cost.sound, "duration_s": cost.duration_s}
        price = plan_of(request_on(route, **fields)).price
        assert cost.usd * 1_000_000 == price.amount_micros, cost
        assert cost.unit == price.unit
        assert price.table_version == f"{RouteAdmission(settings()).tariff.version}/2026-11-20"


def test_the_defaults_of_a_route_decide_its_price() -> None:
    amounts = {route: plan_of(request_on(route)).price.amount_micros for route in DOCUMENTED if route not in UNPRICED}
    assert amounts == {
        "wan26ai/wan-2.6/text-to-video": 1_150_000,
        "wan26ai/wan-2.6/image-to-video": 1_150_000,
        "wan26ai/wan-2.6/video-to-video": 1_150_000,
        "apixo/wan-2.6/text-to-video": 500_000,
        "apixo/wan-2.6/image-to-video": 500_000,
        "apixo/wan-2.6/image-to-video-flash": 250_000,
        "apixo/wan-2.6/reference-to-video": 1_500_000,
        "apixo/wan-2.6/reference-to-video-flash": 800_000,
        "aivideoapi/wan-2.6/text-to-video": 1_000_000,
        "aivideoapi/wan-2.6/image-to-video": 1_000_000,
        "aivideoapi/wan-2.6/reference-to-video": 1_000_000,
    }


@pytest.mark.parametrize("resolution", ["720p", "1080p"])
@pytest.mark.parametrize("route", UNPRICED)
def test_a_price_that_no_document_names_must_be_configured_and_the_error_says_where(
    route: str, resolution: str
) -> None:
    refused = refusal(request_on(route, resolution=resolution), prices=None)
    expected = f'Set [usd_per_second."{route}"] "{resolution}" in the file ONETAKE_PRICES names.'
    assert (refused.code, refused.detail) == ("price_missing", expected)
    assert plan_of(request_on(route, resolution=resolution)).price.unit.endswith(" a second, configured")


def test_a_vendor_that_bills_credits_of_no_known_worth_needs_their_rate() -> None:
    refused = refusal(request_on("wan26ai/wan-2.6/text-to-video"), prices=None)
    expected = "Set [credits] wan26ai in the file ONETAKE_PRICES names: USD for one credit."
    assert (refused.code, refused.detail) == ("price_missing", expected)


def _prices(folder: Path, text: str) -> str:
    path = folder / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_rate_of_credits_is_rounded_up_once_and_pinned(tmp_path: Path) -> None:
    prices = _prices(tmp_path, '[credits]\nwan26ai = "0.0033333333"\naivideoapi = "0.004"\n')
    price = plan_of(request_on("wan26ai/wan-2.6/text-to-video", duration_s=10), prices=prices).price
    assert price.usd_per_credit == Decimal("0.0033333333")
    assert price.amount_micros == micros_up(Decimal("0.733333326")) == 733_334
    other = plan_of(request_on("aivideoapi/wan-2.6/text-to-video"), prices=prices).price
    assert (other.amount_micros, other.usd_per_credit) == (800_000, Decimal("0.004")), "an account's rate wins"


def test_a_configured_price_goes_before_the_documented_one_where_it_is_configured(tmp_path: Path) -> None:
    route = f"{MODEL}/text-to-video"
    prices = _prices(tmp_path, f'[usd_per_second."{route}"]\n720p = "0.07"\n')
    price = plan_of(request_on(route), prices=prices).price
    assert (price.amount_micros, price.unit) == (350_000, "$0.07 a second, configured")
    assert plan_of(request_on(route, resolution="1080p"), prices=prices).price.amount_micros == 750_000


@pytest.mark.parametrize(("mode", "usd"), [("reference-to-video", "0.08"), ("reference-to-video-flash", "0.04")])
def test_seconds_of_the_references_are_priced_where_the_vendor_bills_them(mode: str, usd: str) -> None:
    """At most five seconds in total, however many references."""
    for duration_s in TO_10:
        price = plan_of(request_on(f"gptimage2/wan-2.6/{mode}", duration_s=duration_s)).price
        assert price.amount_micros == Decimal(usd) * (duration_s + 5) * 1_000_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[credits\n", "is not TOML at line 1, column 9."),
        ("[credit]\nwan26ai = 1\n", "is wrong at: credit."),
        ("[credits]\nwan26ai = 0\n", "is wrong at: credits.wan26ai."),
        ('[usd_per_second."a/b/c"]\n720p = "free"\n', "is wrong at: usd_per_second.a/b/c.720p."),
    ],
)
def test_a_file_of_prices_that_is_wrong_is_refused_by_its_setting(tmp_path: Path, text: str, problem: str) -> None:
    refused = refusal(request_for(), prices=_prices(tmp_path, text))
    assert (refused.code, refused.detail) == ("settings_invalid", f"The file that ONETAKE_PRICES names {problem}")


def test_a_file_of_prices_that_is_not_there_is_refused_by_its_setting(tmp_path: Path) -> None:
    refused = refusal(request_for(), prices=str(tmp_path / "none.toml"))
    assert refused.detail == "The file that ONETAKE_PRICES names cannot be read."
