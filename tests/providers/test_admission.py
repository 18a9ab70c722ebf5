"""Routes, keys, the most it may cost, and what a plan pins. The rules of each route are in `test_route_rules.py`."""

from decimal import Decimal

import pytest

from onetake.core.contracts import Cadence, GenerationRequest, Queues
from onetake.core.errors import Violation
from providers.admission import RouteAdmission
from tests.providers.documented import DOCUMENTED, refusal
from tests.providers.parts import MODEL, MODES, PROMPT, plan_of, request_for, request_on, settings


def test_the_routes_are_the_documented_nineteen() -> None:
    assert set(RouteAdmission(settings()).catalogue.route_names()) == set(DOCUMENTED)


@pytest.mark.parametrize("route", DOCUMENTED)
def test_every_optional_field_of_the_document_is_accepted_where_it_belongs(route: str) -> None:
    found = RouteAdmission(settings()).catalogue.route(route)
    assert found is not None
    assert found[2].fields == set(DOCUMENTED[route].named)


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        ("apixo/wan-2.6/text-to-vido", "Did you mean apixo/wan-2.6/text-to-video"),
        ("apixo/wan-2.7/text-to-video", "Did you mean apixo/wan-2.6/text-to-video"),
        ("", ""),
        ("zzz", ""),
        ("x" * 100_000, ""),
    ],
)
def test_a_route_that_does_not_exist_is_refused_with_its_neighbours(given: str, detail: str) -> None:
    refused = refusal(GenerationRequest(route=given, prompt=PROMPT))
    assert refused.code == "route_unknown"
    assert refused.detail.startswith(detail)
    assert len(refused.detail) < 300


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize("route", DOCUMENTED)
def test_a_vendor_without_a_key_names_the_setting(route: str, key: str | None) -> None:
    vendor = route.partition("/")[0]
    refused = refusal(request_on(route), **{f"{vendor}_api_key": key})
    expected = ("vendor_key_missing", f"Set ONETAKE_{vendor.upper()}_API_KEY for the workers.")
    assert (refused.code, refused.detail) == expected


def test_a_broken_rule_is_told_before_a_missing_key() -> None:
    assert refusal(request_for(duration_s=99), apixo_api_key=None).code == "request_invalid"


@pytest.mark.parametrize("limit", ["0.50", "0.5000001", "1e999999", "1000"])
def test_a_price_within_max_cost_passes(limit: str) -> None:
    assert plan_of(request_for(max_cost_usd=Decimal(limit))).price.amount_micros == 500_000


@pytest.mark.parametrize("limit", ["0", "0.49", "0.4999999", "0.4999999999999999999999999999999999999", "1e-999999"])
def test_a_price_above_max_cost_is_refused_with_both_amounts(limit: str) -> None:
    refused = refusal(request_for(max_cost_usd=Decimal(limit)))
    assert refused.code == "max_cost_exceeded"
    assert refused.detail.startswith("It costs $0.50; max_cost_usd is $0")


# -- The plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_times_of_production(mode: str) -> None:
    plan = plan_of(request_for(mode))
    first_read_s = 45 if mode.startswith("reference") else 30
    assert plan.time_scale == 1
    assert plan.cadence == Cadence(first_read_s=first_read_s, interval_s=10, growth=1.1, max_interval_s=15)
    assert plan.deadline_s == 1800
    assert plan.unknown_deadline_s == 1800
    assert plan.unreachable_limit_s == 600
    assert plan.heartbeat_timeout_s == 15


def test_a_scale_shortens_every_time_and_nothing_else() -> None:
    whole, short = plan_of(request_for()), plan_of(request_for(), time_scale=0.4)
    assert short.cadence == Cadence(first_read_s=12, interval_s=4, growth=1.1, max_interval_s=6)
    scaled = {
        "deadline_s",
        "unknown_deadline_s",
        "unreachable_limit_s",
        "heartbeat_timeout_s",
        "absence_window_s",
        "result_lifetime_s",
    }
    for name in scaled:
        assert getattr(short, name) == pytest.approx(getattr(whole, name) * 0.4)  # pyright: ignore[reportUnknownMemberType]
    same = set(type(whole).model_fields) - scaled - {"cadence", "time_scale"}
    assert short.model_dump(include=same) == whole.model_dump(include=same)
    assert short.time_scale == 0.4


def test_a_heartbeat_is_never_shorter_than_a_busy_machine_can_keep() -> None:
    assert plan_of(request_for(), time_scale=0.001).heartbeat_timeout_s == 4


def test_a_callers_deadline_is_taken_as_it_is() -> None:
    assert plan_of(request_for(deadline_s=60)).deadline_s == 60
    assert plan_of(request_for(deadline_s=60), time_scale=0.1).deadline_s == 60


@pytest.mark.parametrize("mode", MODES)
def test_a_deadline_before_the_first_read_and_a_margin_is_refused_with_the_least_one(mode: str) -> None:
    least = 75 if mode.startswith("reference") else 60
    for given in (1, least - 1):
        (violation,) = refusal(request_for(mode, deadline_s=given)).violations
        assert violation == Violation("/deadline_s", str(given), f"at least {least} for this route", str(least))
    plan = plan_of(request_for(mode, deadline_s=least))
    assert plan.deadline_s >= plan.cadence.first_read_s + 30


def test_every_route_has_a_least_deadline_below_its_own() -> None:
    admission = RouteAdmission(settings())
    for _, vendor, route in admission.catalogue.by_name.values():
        assert admission.least_deadline_s(vendor, route) <= vendor.vendor.deadline_s


def test_a_request_that_no_run_can_be_started_with_is_refused_whole() -> None:
    fat = request_for().model_copy(update={"labels": {f"key {number}": "v" * 128 for number in range(2500)}})
    (violation,) = refusal(fat).violations
    assert violation.pointer == ""
    assert "of at most 262144 bytes" in violation.allowed


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_pins_what_the_vendor_documents(mode: str) -> None:
    plan = RouteAdmission(settings()).plan(request_for(mode), base_queue="here")
    assert (plan.route, plan.vendor) == (f"{MODEL}/{mode}", "apixo")
    assert (plan.callbacks, plan.cancelable, plan.takes_seed) == (True, False, True)
    assert plan.failed_job_cost == "unknown"
    assert plan.reported_cost_most == 3
    assert plan.queues == Queues(
        base="here", submit="here-submit-apixo", read="here-read-apixo", media="here-media-apixo"
    )
    assert (plan.width, plan.height) == ((1280, 720) if mode == "text-to-video" else (None, None))
    assert plan.max_asset_bytes == 512 * 1024 * 1024


def test_text_to_video_knows_its_pixels() -> None:
    plan = plan_of(request_for(resolution="1080p"))
    assert (plan.width, plan.height) == (1920, 1080)


def test_the_bound_of_reported_costs_is_pinned() -> None:
    assert plan_of(request_for(), reported_cost_most="1.5").reported_cost_most == Decimal("1.5")
