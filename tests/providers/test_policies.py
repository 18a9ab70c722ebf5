"""Policies at admission: the narrowest word on each point counts; a caller's own choice is refused, never changed."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest

from onetake.core.contracts import Plan, Policy
from onetake.core.errors import Refused
from onetake.core.names import VENDOR_NAMES
from onetake.core.ports import SubmitOrder, Terms
from providers.admission import RouteAdmission
from providers.catalogue import load_catalogue
from providers.policies import Decided, checked_pattern
from providers.vendors import VENDORS
from tests.providers.parts import request_on, settings

ROUTE: Final = "apixo/wan-2.6/text-to-video"
FLASH: Final = "apixo/wan-2.6/image-to-video-flash"
REFERENCE: Final = "gptimage2/wan-2.6/reference-to-video"


def policy(scope: str = "everyone", key: str = "", pattern: str = "*", **points: Any) -> Policy:
    return Policy.model_validate({"id": 1, "scope": scope, "key": key, "pattern": pattern, **points})


def planned(*policies: Policy, route: str = ROUTE, **fields: Any) -> Plan:
    request = request_on(route, **fields)
    terms = Terms(at=datetime.now(UTC), policies=policies)
    return RouteAdmission(settings()).plan(request, terms, base_queue="onetake")


def refused(*policies: Policy, route: str = ROUTE, **fields: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        planned(*policies, route=route, **fields)
    assert caught.value.code == "policy_refused"
    return [(each.pointer, each.allowed) for each in caught.value.violations]


@pytest.mark.parametrize(
    ("points", "fields", "pointer", "allowed"),
    [
        ({"allowed": False}, {}, "/route", "no generation"),
        ({"most_seconds": 5}, {"duration_s": 6}, "/duration_s", "at most 5 seconds"),
        ({"most_seconds": 1}, {}, "/duration_s", "at most 1 seconds"),
        ({"highest_resolution": "720p"}, {"resolution": "1080p"}, "/resolution", "at most 720p"),
        ({"most_micros": 100_000}, {"duration_s": 2}, "/max_cost_usd", "at most $0.10 for one generation"),
        ({"watermark": "forced"}, {"watermark": False}, "/watermark", "true"),
        ({"watermark": "forbidden"}, {"watermark": True}, "/watermark", "false"),
        ({"prompt_extend": "forbidden"}, {"prompt_extend": True}, "/prompt_extend", "false"),
        ({"sound": "forced"}, {}, "/sound", "only routes that take it"),
    ],
)
def test_what_a_policy_does_not_allow_is_refused_with_the_limit_and_the_policy(
    points: dict[str, Any], fields: dict[str, Any], pointer: str, allowed: str
) -> None:
    narrow = policy("tenant", "acme", "apixo/*", **points)
    (violation,) = refused(narrow, **fields)
    assert violation[0] == pointer
    assert violation[1].startswith(allowed)
    assert violation[1].endswith("by the policy of tenant acme for apixo/*")


def test_what_a_policy_puts_in_the_callers_place_must_still_be_a_request_that_the_route_takes() -> None:
    with pytest.raises(Refused, match="several shots are only made with it") as caught:
        planned(policy(prompt_extend="forbidden"), route="aivideoapi/wan-2.6/text-to-video", shot_type="multi")
    assert caught.value.code == "policy_refused"
    assert "by the policy of everyone for *" in str(caught.value.violations[0])


def test_all_that_is_not_allowed_is_told_at_once() -> None:
    told = refused(policy(most_seconds=3, highest_resolution="720p"), duration_s=9, resolution="1080p")
    assert [pointer for pointer, _ in told] == ["/duration_s", "/resolution"]


def test_a_choice_that_is_left_open_is_narrowed_and_the_answer_says_by_whom() -> None:
    plan = planned(policy(most_seconds=3, highest_resolution="720p"), route=REFERENCE)
    assert plan.duration_s <= 3
    assert plan.resolution == "720p"
    own = planned(policy(most_seconds=9), duration_s=7, resolution="1080p")
    assert (own.duration_s, own.resolution) == (7, "1080p")


def test_the_vendors_limits_stay_the_outer_wall() -> None:
    with pytest.raises(Refused) as caught:
        planned(policy(most_seconds=60), duration_s=60)
    assert caught.value.code == "request_invalid"


@pytest.mark.parametrize("name", VENDOR_NAMES)
@pytest.mark.parametrize(("force", "value"), [("forced", True), ("forbidden", False)])
def test_what_is_forced_reaches_the_vendor_and_costs_what_it_costs(name: str, force: str, value: bool) -> None:
    """The bytes that leave are those of a caller who had asked for it."""
    data = load_catalogue().vendors[name]
    tried = 0
    for route in data.routes:
        for field in {"watermark", "prompt_extend", "sound"} & route.fields:
            full = f"{name}/{route.model}/{route.mode}"
            plain, asked = request_on(full), request_on(full, **{field: value})
            ours = RouteAdmission(settings()).plan(
                plain, Terms(at=datetime.now(UTC), policies=(policy(**{field: force}),)), base_queue="q"
            )
            theirs = RouteAdmission(settings()).plan(asked, base_queue="q")
            sent = [
                VENDORS[name].submit_request("https://vendor.example", SubmitOrder(plan, request, None, 7)).content
                for plan, request in ((ours, plain), (theirs, asked))
            ]
            assert sent[0] == sent[1]
            assert ours.price == theirs.price
            assert field in ours.policies[0]
            tried += 1
    assert tried or name == "wan26ai"


def test_on_each_point_the_narrowest_policy_counts() -> None:
    policies = (
        policy(pattern="*", most_seconds=10, most_micros=1),
        policy("tenant", "acme", "*", most_seconds=8, sound="forced"),
        policy("tenant", "acme", "apixo/*", most_seconds=7),
        policy("feature", "acme/ads", "*", most_seconds=6),
        policy("user", "acme/ann", "*", most_micros=5),
        policy("user", "acme/ann", "gmi/*", most_seconds=2),
    )
    decided = Decided.of(policies, ROUTE)
    said = {name: (value, by.scope) for name, (value, by) in decided.points.items()}
    assert said == {"most_seconds": (6, "feature"), "most_micros": (5, "user"), "sound": ("forced", "tenant")}


def test_a_narrower_policy_may_allow_what_a_wider_one_forbids() -> None:
    wide, narrow = policy(allowed=False), policy("tenant", "acme", "*/text-to-video", allowed=True)
    assert planned(wide, narrow).route == ROUTE
    assert refused(wide, narrow, route=FLASH)


@pytest.mark.parametrize(
    ("given", "means"), [("apixo", "apixo/*"), ("*/wan-2.6/reference-to-video*", None), ("*", None)]
)
def test_a_pattern_names_routes_that_exist(given: str, means: str | None) -> None:
    assert checked_pattern(given, load_catalogue()) == (means or given)


@pytest.mark.parametrize(
    ("given", "told"), [("apixo/wan-2.5/*", "No route matches"), ("apixa", "apixo"), ("a?b", "not a pattern")]
)
def test_a_pattern_that_names_no_route_is_refused(given: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        checked_pattern(given, load_catalogue())
