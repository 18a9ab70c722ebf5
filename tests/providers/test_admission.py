"""Every rule of every route, just inside and just outside; what a plan pins; what a clip costs."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onetake.contracts import Cadence, GenerationRequest, Plan, Queues
from onetake.errors import Refused, Violation
from providers.admission import Catalogue
from tests.providers.parts import FLASH, MEDIA, MODEL, MODES, PROMPT, plan_of, request_for, settings

PNG, MP3 = "https://example.com/a.png", "https://example.com/a.mp3"
LONGEST = {mode: 10 if mode.startswith("reference") else 15 for mode in MODES}
ANYWHERE = ("negative_prompt", "audio_url", "shot_type", "prompt_extend", "seed", "watermark")

# Dollars a second of output, as the document's section "Billing" tabulates them.
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
PRICES: dict[tuple[str, str, bool | None], str] = {
    **{(mode, resolution, None): usd for (mode, resolution), usd in STANDARD_USD.items()},
    **{(*key, False): off for key, (off, _) in FLASH_USD.items()},
    **{(*key, True): on for key, (_, on) in FLASH_USD.items()},
}


def refusal(request: GenerationRequest, **named: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        plan_of(request, **named)
    return caught.value


def violations(mode: str, /, **fields: Any) -> tuple[Violation, ...]:
    refused = refusal(request_for(mode, **fields))
    assert refused.code == "request_invalid"
    assert str(refused) == f"{refused.entry.sentence} {'; '.join(map(str, refused.violations))}"
    return refused.violations


# -- Just inside -------------------------------------------------------------------------------------------------------

INSIDE: tuple[tuple[str, dict[str, Any]], ...] = tuple(
    (mode, fields)
    for mode in MODES
    for fields in (
        {},
        {"duration_s": 2},
        {"duration_s": LONGEST[mode]},
        {"resolution": "720p"},
        {"resolution": "1080p"},
        {"prompt": "x"},
        {"prompt": "x" * 1500},
        {"prompt": "火" * 1500},
        {"negative_prompt": ""},
        {"negative_prompt": "x" * 500},
        {"shot_type": "single"},
        {"shot_type": "multi"},
        {"prompt_extend": False},
        {"seed": 0},
        {"seed": 2_147_483_647},
        {"watermark": False},
        {"audio_url": MP3},
        {"audio_url": "http://example.com"},
        {"audio_url": "https://example.com/" + "a" * 2028},
        {"max_cost_usd": 100},
        *(({"sound": True}, {"sound": False}, {"sound": True, "audio_url": MP3}) if mode in FLASH else ()),
        *(({"references": (PNG,) * 5},) if mode.startswith("reference") else ()),
    )
)


@pytest.mark.parametrize(("mode", "fields"), INSIDE)
def test_a_value_just_inside_passes(mode: str, fields: dict[str, Any]) -> None:
    plan = plan_of(request_for(mode, **fields))
    assert plan.duration_s == fields.get("duration_s", 5)
    assert plan.resolution == fields.get("resolution", "1080p" if mode.startswith("reference") else "720p")
    assert plan.sound is (fields.get("sound", True) if mode in FLASH else None)


# -- Just outside ------------------------------------------------------------------------------------------------------

FAR = "an http or https address of at most 2048 characters"


def _nothing(mode: str, name: str) -> Violation:
    return Violation(f"/{name}", "a value", f"nothing: {mode} has no {name} at this vendor")


def _outside(mode: str) -> tuple[tuple[dict[str, Any], Violation], ...]:
    most = LONGEST[mode]
    seconds, seeds, sizes = f"2 to {most} seconds", "0 to 2147483647", "720p, 1080p"
    return (
        ({"duration_s": 1}, Violation("/duration_s", "1", seconds, "2")),
        ({"duration_s": 0}, Violation("/duration_s", "0", seconds, "2")),
        ({"duration_s": -7}, Violation("/duration_s", "-7", seconds, "2")),
        ({"duration_s": most + 1}, Violation("/duration_s", str(most + 1), seconds, str(most))),
        ({"resolution": "1080"}, Violation("/resolution", "'1080'", sizes, "1080p")),
        ({"resolution": "720P"}, Violation("/resolution", "'720P'", sizes, "720p")),
        ({"resolution": "\n\x1b" + "x" * 50}, Violation("/resolution", repr("\n\x1b" + "x" * 30), sizes, "720p")),
        ({"shot_type": "Multi"}, Violation("/shot_type", "'Multi'", "single, multi", "multi")),
        ({"prompt": ""}, Violation("/prompt", "nothing but spaces", "1 to 1500 characters")),
        ({"prompt": " \n\t "}, Violation("/prompt", "nothing but spaces", "1 to 1500 characters")),
        ({"prompt": "x" * 1501}, Violation("/prompt", "1501 characters", "at most 1500 characters")),
        ({"prompt": "half \ud800"}, Violation("/prompt", "half a character", "text that can be sent as UTF-8")),
        ({"negative_prompt": "x" * 501}, Violation("/negative_prompt", "501 characters", "at most 500 characters")),
        ({"seed": -1}, Violation("/seed", "-1", seeds, "0")),
        ({"seed": 2_147_483_648}, Violation("/seed", "2147483648", seeds, "2147483647")),
        ({"aspect_ratio": "16:9"}, _nothing(mode, "aspect_ratio")),
        ({"videos": (PNG,)}, _nothing(mode, "videos")),
        *(
            ({"audio_url": text}, Violation("/audio_url", "another kind of text", FAR))
            for text in (
                "",
                "a.mp3",
                "ftp://example.com/a.mp3",
                "data:audio/mp3;base64,AA",
                "https://",
                "https:///a.mp3",
                "https://u:p@example.com/a.mp3",
                "https://example.com/a b",
                "https://example.com/a\nb",
                "https://example.com/" + "a" * 2029,
            )
        ),
        *_outside_of_media(mode),
    )


def _outside_of_media(mode: str) -> tuple[tuple[dict[str, Any], Violation], ...]:
    rows: list[tuple[dict[str, Any], Violation]] = []
    if mode in FLASH:
        quiet = "sound on, or no audio_url: the vendor would ignore it"
        rows.append(
            ({"sound": False, "audio_url": MP3}, Violation("/audio_url", "an address with sound off", quiet)),
        )
    else:
        rows += [({"sound": value}, _nothing(mode, "sound")) for value in (True, False)]
    if mode.startswith("image"):
        rows.append(({"image": None}, Violation("/image", "0 addresses", "exactly 1 address")))
        rows.append(({"image": "hero.png"}, Violation("/image", "another kind of text", FAR)))
    else:
        rows.append(({"image": PNG}, _nothing(mode, "image")))
    if mode.startswith("reference"):
        rows.append(({"references": ()}, Violation("/references", "0 addresses", "1 to 5 addresses")))
        rows.append(({"references": (PNG,) * 6}, Violation("/references", "6 addresses", "1 to 5 addresses")))
        rows.append(({"references": (PNG, "x", PNG)}, Violation("/references/1", "another kind of text", FAR)))
    else:
        rows.append(({"references": (PNG,)}, _nothing(mode, "references")))
    return tuple(rows)


OUTSIDE = tuple((mode, fields, expected) for mode in MODES for fields, expected in _outside(mode))


@pytest.mark.parametrize(("mode", "fields", "expected"), OUTSIDE)
def test_a_value_just_outside_is_refused_with_what_was_given_and_what_is_allowed(
    mode: str, fields: dict[str, Any], expected: Violation
) -> None:
    assert violations(mode, **fields) == (expected,)


def test_all_broken_rules_are_told_at_once() -> None:
    broken = violations(
        "reference-to-video",
        prompt="x" * 1501,
        negative_prompt="x" * 501,
        duration_s=11,
        resolution="4k",
        shot_type="wide",
        aspect_ratio="16:9",
        image=PNG,
        sound=True,
        references=(),
        audio_url="nowhere",
        seed=-1,
    )
    named = "aspect_ratio image sound prompt negative_prompt duration_s resolution shot_type references audio_url seed"
    assert sorted(f"/{name}" for name in named.split()) == sorted(one.pointer for one in broken)


def test_a_thousand_bad_addresses_are_a_few_violations() -> None:
    broken = violations("reference-to-video", references=("nowhere",) * 1000)
    assert [one.pointer for one in broken] == ["/references", *(f"/references/{n}" for n in range(5))]


TEXTS = st.sampled_from(["", " ", "x" * 2000]) | st.text(max_size=30)


@given(
    st.sampled_from(MODES),
    st.fixed_dictionaries(
        {},
        optional={
            "duration_s": st.integers(),
            "resolution": TEXTS | st.sampled_from(["720p", "1080p"]),
            "aspect_ratio": TEXTS,
            "shot_type": TEXTS,
            "seed": st.integers(),
            "sound": st.booleans(),
            "image": TEXTS.map("canary-image {}".format),
            "audio_url": TEXTS.map("canary-audio {}".format),
            "references": st.lists(TEXTS.map("canary-reference {}".format), max_size=7).map(tuple),
            "negative_prompt": TEXTS.map(lambda text: "canary-negative " + text * 20),
            "padding": st.sampled_from([0, 2000]),
        },
    ),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_request_is_a_plan_or_one_refusal_that_repeats_no_text(mode: str, fields: dict[str, Any]) -> None:
    padding = fields.pop("padding", 0)
    request = request_for(mode, **{**fields, "prompt": PROMPT + "x" * padding})
    verdict = _verdict(request)
    if isinstance(verdict, Refused):
        assert verdict.code == "request_invalid"
        assert verdict.violations
        assert "canary" not in str(verdict) + repr(verdict.violations)
        assert len(str(verdict)) < 4000
        assert str(verdict).isprintable()
    else:
        assert verdict == plan_of(request), "the same request gives the same plan"


def _verdict(request: GenerationRequest) -> Plan | Refused:
    try:
        return plan_of(request)
    except Refused as refused:
        return refused


# -- Routes, keys, the most it may cost --------------------------------------------------------------------------------


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
def test_a_vendor_without_a_key_names_the_setting(key: str | None) -> None:
    refused = refusal(request_for(), apixo_api_key=key)
    assert (refused.code, refused.detail) == ("vendor_key_missing", "Set ONETAKE_APIXO_API_KEY for the workers.")


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


# -- Prices ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "resolution", "sound"), PRICES)
def test_every_duration_costs_what_the_document_says(mode: str, resolution: str, sound: bool | None) -> None:
    usd = Decimal(PRICES[mode, resolution, sound])
    for duration_s in range(2, LONGEST[mode] + 1):
        plan = plan_of(request_for(mode, resolution=resolution, sound=sound, duration_s=duration_s))
        if sound is None and mode in FLASH:
            assert plan.sound is True
        assert plan.price.amount_micros == usd * duration_s * 1_000_000
        assert plan.price.table_version == Catalogue(settings()).data.version
        shown = usd.normalize() if usd.normalize().as_tuple().exponent < -2 else usd  # type: ignore[operator]
        assert plan.price.unit == f"${shown} a second"


def test_the_defaults_of_a_route_decide_its_price() -> None:
    amounts = {mode: plan_of(request_for(mode)).price.amount_micros for mode in MODES}
    assert amounts == {
        "text-to-video": 500_000,
        "image-to-video": 500_000,
        "image-to-video-flash": 250_000,
        "reference-to-video": 1_500_000,
        "reference-to-video-flash": 800_000,
    }


# -- The plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_times_of_production(mode: str) -> None:
    plan = plan_of(request_for(mode))
    first_read_s = 45 if mode.startswith("reference") else 30
    assert plan.time_scale == 1
    assert plan.cadence == Cadence(first_read_s=first_read_s, interval_s=10, growth=1.1, max_interval_s=15)
    assert plan.deadline_s == 1800
    assert plan.unknown_deadline_s == 1800
    assert plan.throttle_limit_s == 1800
    assert plan.unreachable_limit_s == 600
    assert plan.heartbeat_timeout_s == 15


def test_a_scale_shortens_every_time_and_nothing_else() -> None:
    whole, short = plan_of(request_for()), plan_of(request_for(), time_scale=0.2)
    assert short.cadence == Cadence(first_read_s=6, interval_s=2, growth=1.1, max_interval_s=3)
    for name in ("deadline_s", "unknown_deadline_s", "throttle_limit_s", "unreachable_limit_s", "heartbeat_timeout_s"):
        assert getattr(short, name) == pytest.approx(getattr(whole, name) * 0.2)  # pyright: ignore[reportUnknownMemberType]
    same = set(type(whole).model_fields) - {
        "cadence",
        "deadline_s",
        "unknown_deadline_s",
        "throttle_limit_s",
        "unreachable_limit_s",
        "heartbeat_timeout_s",
        "time_scale",
    }
    assert short.model_dump(include=same) == whole.model_dump(include=same)
    assert short.time_scale == 0.2


def test_a_heartbeat_is_never_shorter_than_a_busy_machine_can_keep() -> None:
    assert plan_of(request_for(), time_scale=0.001).heartbeat_timeout_s == 2


def test_a_callers_deadline_is_taken_as_it_is() -> None:
    assert plan_of(request_for(deadline_s=60)).deadline_s == 60
    assert plan_of(request_for(deadline_s=60), time_scale=0.1).deadline_s == 60


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_pins_what_the_vendor_documents(mode: str) -> None:
    plan = Catalogue(settings()).plan(request_for(mode), base_queue="house")
    assert (plan.route, plan.vendor) == (f"{MODEL}/{mode}", "apixo")
    assert (plan.callbacks, plan.cancelable, plan.takes_seed) == (True, False, True)
    assert plan.failed_job_cost == "unknown"
    assert plan.queues == Queues(submit="house-submit-apixo", read="house-read-apixo", media="house-media")
    assert (plan.width, plan.height) == ((1280, 720) if mode == "text-to-video" else (None, None))
    assert plan.max_asset_bytes == 512 * 1024 * 1024


def test_text_to_video_knows_its_pixels() -> None:
    plan = plan_of(request_for(resolution="1080p"))
    assert (plan.width, plan.height) == (1920, 1080)


def test_the_routes_are_the_documented_five() -> None:
    assert set(Catalogue(settings()).data.route_names()) == {f"{MODEL}/{mode}" for mode in MEDIA}


@pytest.mark.parametrize("mode", MODES)
def test_every_optional_field_of_the_document_is_accepted_where_it_belongs(mode: str) -> None:
    route = Catalogue(settings()).data.route(f"{MODEL}/{mode}")
    assert route is not None
    own = {"image"} if mode.startswith("image") else {"references"} if mode.startswith("reference") else set[str]()
    sound = {"sound"} if mode in FLASH else set[str]()
    assert route[2].fields == {*ANYWHERE, *own, *sound}
