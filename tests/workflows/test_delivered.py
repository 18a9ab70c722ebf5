"""What a delivered clip is told to differ in, and what it costs where a vendor bills what it made."""

from dataclasses import replace

import pytest

from activities.delivered import differences
from onetake.core.clips import ClipFacts
from onetake.core.contracts import Asset, Plan
from providers.catalogue import load_catalogue
from tests.providers.parts import plan_of, request_for, request_on
from workflows.outcomes import Charge, charge_of, reserved_or_billed

FACTS = ClipFacts(duration_s=5.0, width=1280, height=720, fps=24.0, codec="h264", has_audio=True)
SHAPELESS = {"width": None, "height": None, "aspect_ratio": "16:9"}


def plan() -> Plan:
    return plan_of(request_for(duration_s=5, resolution="720p")).model_copy(update={"sound": True})


def told(facts: ClipFacts, **changes: object) -> list[str]:
    return [notice.code for notice in differences(plan().model_copy(update=changes), facts)]


def test_a_clip_as_ordered_is_told_nothing_of() -> None:
    assert told(FACTS) == []
    assert told(replace(FACTS, duration_s=5.4)) == []
    assert told(replace(FACTS, width=1281, height=719), **SHAPELESS) == []


@pytest.mark.parametrize(
    ("code", "facts"),
    [
        ("duration_differs", replace(FACTS, duration_s=2.5)),
        ("pixels_differ", replace(FACTS, width=720, height=1280)),
        ("frames_missing", replace(FACTS, fps=8.0)),
        ("sound_missing", replace(FACTS, has_audio=False)),
    ],
)
def test_what_differs_from_the_order_is_told(code: str, facts: ClipFacts) -> None:
    assert told(facts) == [code]


def test_another_shape_is_told_where_the_pixels_are_not_documented() -> None:
    assert told(replace(FACTS, width=720, height=1280), **SHAPELESS) == ["aspect_ratio_differs"]


def test_sound_that_nobody_ordered_is_not_missed() -> None:
    assert told(replace(FACTS, has_audio=False), sound=False) == []


# -- What a vendor bills that settles on what it generated -------------------------------------------------------------


def billing(route: str = "gptimage2/wan-2.6/text-to-video", duration_s: int = 10) -> Plan:
    return plan_of(request_on(route, duration_s=duration_s, resolution="720p"))


@pytest.mark.parametrize(
    ("measured_s", "billed_s"),
    [(5.0, 5), (5.04, 5), (4.96, 5), (5.5, 6), (0.2, 1), (9.74, None), (10, None), (12, None)],
)
def test_a_short_clip_is_posted_by_its_seconds_where_the_vendor_bills_what_it_generated(
    measured_s: float, billed_s: int | None
) -> None:
    ordered = billing()
    charge = charge_of(ordered, None, (asset(measured_s),))
    micros = None if billed_s is None else ordered.price.amount_micros * billed_s // 10
    assert (charge.micros, charge.basis) == (micros, "pinned_price")
    assert [notice.code for notice in charge.notices] == ([] if billed_s is None else ["billed_as_measured"])


def test_several_clips_of_a_job_are_billed_together() -> None:
    ordered = billing()
    assert charge_of(ordered, None, (asset(2), asset(3))).micros == ordered.price.amount_micros // 2


def test_what_the_vendor_reports_goes_before_what_was_measured() -> None:
    assert charge_of(billing(), 7, (asset(5),)) == Charge(7, "vendor_reported")


def test_without_a_clip_the_pinned_price_counts() -> None:
    assert charge_of(billing(), None) == charge_of(None, None) == Charge(None, "pinned_price")


def test_a_vendor_that_bills_what_was_ordered_gets_the_price() -> None:
    assert charge_of(billing("apixo/wan-2.6/text-to-video"), None, (asset(5),)) == Charge(None, "pinned_price")


def test_what_a_vendor_reserves_is_no_report() -> None:
    assert reserved_or_billed(billing(), 5) is None
    assert reserved_or_billed(billing("apixo/wan-2.6/text-to-video"), 5) == 5


def test_only_one_vendor_documents_that_it_bills_what_it_generated() -> None:
    vendors = load_catalogue().vendors
    assert [name for name, data in vendors.items() if data.vendor.bills == "generated_seconds"] == ["gptimage2"]


def test_a_clip_is_sought_as_long_as_the_vendor_keeps_it() -> None:
    assert billing().result_lifetime_s == 86_400
    assert billing("apixo/wan-2.6/text-to-video").result_lifetime_s == 6 * 3600


def asset(duration_s: float, **differing: object) -> Asset:
    """A clip of so many seconds as a route at 720p makes them."""
    given: dict[str, object] = {
        "key": "acme/gen_1/1/0-0000000000000000.mp4",
        "sha256": "0" * 64,
        "size_bytes": 1,
        "content_type": "video/mp4",
        "duration_s": duration_s,
        "width": 1280,
        "height": 720,
        "fps": 24,
        "codec": "h264",
        "has_audio": True,
    }
    return Asset.model_validate(given | differing)
