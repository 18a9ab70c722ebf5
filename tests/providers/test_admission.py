"""Every rule of every route, just inside and just outside; what a plan pins; what a clip costs.

The tables here are written from the vendors' documents and not from the catalogue's files.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onetake.core.contracts import Cadence, GenerationRequest, Plan, Queues
from onetake.core.errors import Refused, Violation
from onetake.core.money import micros_up
from providers.admission import Catalogue
from tests.providers.parts import MODEL, MODES, PROMPT, plan_of, request_for, request_on, settings

PNG, MP4, MP3 = "https://example.com/a.png", "https://example.com/a.mp4", "https://example.com/a.mp3"
RATIOS = ("16:9", "9:16", "1:1", "4:3", "3:4")


@dataclass(frozen=True)
class Documented:
    """One route as its document has it. `fields` are the optional ones; `inputs` how many of each kind."""

    seconds: str
    legal: tuple[int, ...]
    resolution: str
    fields: str
    inputs: tuple[int, int] = (0, 0)
    prompt: int = 1500
    prompt_required: bool = True
    sound: bool | None = None

    @property
    def named(self) -> tuple[str, ...]:
        return tuple(self.fields.split())


TO_15, TO_10 = tuple(range(2, 16)), tuple(range(2, 11))
LONG, SHORT = ("2 to 15", TO_15), ("2 to 10", TO_10)
FEW, FEWER = ("5, 10, 15", (5, 10, 15)), ("5, 10", (5, 10))
ANYWHERE = "negative_prompt shot_type prompt_extend seed watermark"
DOCUMENTED: dict[str, Documented] = {
    "gptimage2/wan-2.6/text-to-video": Documented(*LONG, "720p", "aspect_ratio shot_type prompt_extend"),
    "gptimage2/wan-2.6/image-to-video": Documented(*LONG, "720p", "image shot_type prompt_extend", (1, 1)),
    "gptimage2/wan-2.6/image-to-video-flash": Documented(*LONG, "720p", "image shot_type prompt_extend", (1, 1)),
    "gptimage2/wan-2.6/reference-to-video": Documented(*SHORT, "720p", "references aspect_ratio shot_type", (1, 3)),
    "gptimage2/wan-2.6/reference-to-video-flash": Documented(
        *SHORT, "720p", "references aspect_ratio shot_type", (1, 3)
    ),
    "wan26ai/wan-2.6/text-to-video": Documented(*FEW, "1080p", "", prompt=5000),
    "wan26ai/wan-2.6/image-to-video": Documented(*FEW, "1080p", "image", (1, 1), prompt=5000),
    "wan26ai/wan-2.6/video-to-video": Documented(*FEWER, "1080p", "videos", (1, 3), prompt=5000),
    "apixo/wan-2.6/text-to-video": Documented(*LONG, "720p", f"{ANYWHERE} audio_url"),
    "apixo/wan-2.6/image-to-video": Documented(*LONG, "720p", f"{ANYWHERE} audio_url image", (1, 1)),
    "apixo/wan-2.6/image-to-video-flash": Documented(
        *LONG, "720p", f"{ANYWHERE} audio_url image sound", (1, 1), sound=True
    ),
    "apixo/wan-2.6/reference-to-video": Documented(*SHORT, "1080p", f"{ANYWHERE} audio_url references", (1, 5)),
    "apixo/wan-2.6/reference-to-video-flash": Documented(
        *SHORT, "1080p", f"{ANYWHERE} audio_url references sound", (1, 5), sound=True
    ),
    "aivideoapi/wan-2.6/text-to-video": Documented(*LONG, "1080p", f"{ANYWHERE} aspect_ratio audio_url"),
    "aivideoapi/wan-2.6/image-to-video": Documented(*LONG, "1080p", f"{ANYWHERE} image audio_url sound", (1, 1)),
    "aivideoapi/wan-2.6/reference-to-video": Documented(
        *SHORT, "1080p", f"{ANYWHERE} references aspect_ratio sound", (1, 5)
    ),
    "gmi/wan-2.6/text-to-video": Documented(*FEW, "1080p", f"{ANYWHERE} aspect_ratio audio_url sound"),
    "gmi/wan-2.6/image-to-video": Documented(
        *FEW, "1080p", f"{ANYWHERE} image audio_url sound", (1, 1), prompt_required=False
    ),
    "gmi/wan-2.6/reference-to-video": Documented(
        *FEWER,
        "1080p",
        "negative_prompt shot_type seed watermark references aspect_ratio",
        (1, 3),
        prompt_required=False,
    ),
}
# aivideoapi refuses the pair; the others would bill a clip without the shots.
MULTI_NEEDS_EXTEND = {
    "aivideoapi/wan-2.6/text-to-video",
    "aivideoapi/wan-2.6/image-to-video",
    "aivideoapi/wan-2.6/reference-to-video",
    "gmi/wan-2.6/image-to-video",
    "gptimage2/wan-2.6/text-to-video",
    "gptimage2/wan-2.6/image-to-video",
    "gptimage2/wan-2.6/image-to-video-flash",
}
UNPRICED = tuple(route for route in DOCUMENTED if route.startswith(("gmi/", "gptimage2/")))


def refusal(request: GenerationRequest, **named: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        plan_of(request, **named)
    return caught.value


def violations(route: str, /, **fields: Any) -> tuple[Violation, ...]:
    refused = refusal(request_on(route, **fields))
    assert refused.code == "request_invalid"
    assert str(refused) == f"{refused.entry.sentence} {'; '.join(map(str, refused.violations))}"
    return refused.violations


def test_the_routes_are_the_documented_nineteen() -> None:
    assert set(Catalogue(settings()).data.route_names()) == set(DOCUMENTED)


@pytest.mark.parametrize("route", DOCUMENTED)
def test_every_optional_field_of_the_document_is_accepted_where_it_belongs(route: str) -> None:
    found = Catalogue(settings()).data.route(route)
    assert found is not None
    assert found[2].fields == set(DOCUMENTED[route].named)


# -- Just inside -------------------------------------------------------------------------------------------------------

INSIDE_OF: dict[str, tuple[dict[str, Any], ...]] = {
    "negative_prompt": ({"negative_prompt": ""}, {"negative_prompt": "x" * 500}),
    "aspect_ratio": tuple({"aspect_ratio": ratio} for ratio in RATIOS),
    "shot_type": ({"shot_type": "single"}, {"shot_type": "multi"}, {"shot_type": "multi", "prompt_extend": True}),
    "prompt_extend": ({"prompt_extend": False}, {"prompt_extend": True}),
    "seed": ({"seed": 0}, {"seed": 2_147_483_647}),
    "watermark": ({"watermark": False}, {"watermark": True}),
    "sound": ({"sound": True}, {"sound": False}),
    "image": ({"image": "http://example.com"}, {"image": "https://example.com/" + "a" * 2028}),
    "audio_url": ({"audio_url": MP3}, {"audio_url": "https://example.com/" + "a" * 2028}),
}


def _inside(known: Documented) -> list[dict[str, Any]]:
    least, most = known.inputs
    rows: list[dict[str, Any]] = [{}, {"max_cost_usd": 100}, {"resolution": "720p"}, {"resolution": "1080p"}]
    rows += [{"duration_s": seconds} for seconds in known.legal]
    rows += [{"prompt": "x"}, {"prompt": "x" * known.prompt}, {"prompt": "火" * known.prompt}]
    rows += [] if known.prompt_required else [{"prompt": ""}]
    for name in known.named:
        rows += [row for row in INSIDE_OF.get(name, ()) if set(row) <= {*known.named}]
        rows += [{name: (MP4,) * count} for count in (least, most)] if name in ("videos", "references") else []
    rows += [{"sound": True, "audio_url": MP3}] if {"sound", "audio_url"} <= {*known.named} else []
    return rows


INSIDE = [(route, fields) for route, known in DOCUMENTED.items() for fields in _inside(known)]


@pytest.mark.parametrize(("route", "fields"), INSIDE)
def test_a_value_just_inside_passes(route: str, fields: dict[str, Any]) -> None:
    plan, known = plan_of(request_on(route, **fields)), DOCUMENTED[route]
    assert plan.duration_s == fields.get("duration_s", 5)
    assert plan.resolution == fields.get("resolution", known.resolution)
    assert plan.sound is fields.get("sound", known.sound)
    ratio = fields.get("aspect_ratio", "16:9")
    assert plan.aspect_ratio == (ratio if "aspect_ratio" in known.named else None)


# -- Just outside ------------------------------------------------------------------------------------------------------

FAR = "an http or https address of at most 2048 characters"
NO_ADDRESSES = (
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
SOMETHING: dict[str, Any] = {
    "negative_prompt": "blur",
    "aspect_ratio": "16:9",
    "image": PNG,
    "videos": (MP4,),
    "references": (MP4,),
    "audio_url": MP3,
    "sound": False,
    "shot_type": "single",
    "prompt_extend": False,
    "seed": 0,
    "watermark": False,
}

Row = tuple[dict[str, Any], Violation]


def _durations(known: Documented) -> list[Row]:
    wrong = {-7, 0, known.legal[-1] + 1, *range(1, known.legal[-1])} - {*known.legal}
    nearest = {7: 5, 8: 10, 12: 10, 13: 15} | dict.fromkeys(range(-7, 5), known.legal[0])
    allowed = f"{known.seconds} seconds"
    return [
        (
            {"duration_s": seconds},
            Violation("/duration_s", str(seconds), allowed, str(_near(known, seconds, nearest))),
        )
        for seconds in sorted(wrong)
    ]


def _near(known: Documented, seconds: int, nearest: dict[int, int]) -> int:
    if seconds > known.legal[-1]:
        return known.legal[-1]
    return nearest.get(seconds, 5 if seconds < 8 else 10 if seconds < 13 else 15)


def _texts(known: Documented) -> list[Row]:
    most = known.prompt
    rows = [
        ({"prompt": "x" * (most + 1)}, Violation("/prompt", f"{most + 1} characters", f"at most {most} characters")),
        ({"prompt": "half \ud800"}, Violation("/prompt", "half a character", "text that can be sent as UTF-8")),
    ]
    if known.prompt_required:
        rows += [
            ({"prompt": blank}, Violation("/prompt", "nothing but spaces", f"1 to {most} characters"))
            for blank in ("", " \n\t ")
        ]
    return rows


def _words() -> list[Row]:
    sizes = "720p, 1080p"
    return [
        ({"resolution": "1080"}, Violation("/resolution", "'1080'", sizes, "1080p")),
        ({"resolution": "720P"}, Violation("/resolution", "'720P'", sizes, "720p")),
        ({"resolution": "480p"}, Violation("/resolution", "'480p'", sizes, "720p")),
        ({"resolution": "2160p"}, Violation("/resolution", "'2160p'", sizes, "1080p")),
        ({"resolution": "\n\x1b" + "x" * 50}, Violation("/resolution", repr("\n\x1b" + "x" * 30), sizes, "720p")),
    ]


OUTSIDE_OF: dict[str, list[Row]] = {
    "negative_prompt": [
        ({"negative_prompt": "x" * 501}, Violation("/negative_prompt", "501 characters", "at most 500 characters"))
    ],
    "aspect_ratio": [
        ({"aspect_ratio": given}, Violation("/aspect_ratio", repr(given), ", ".join(RATIOS), nearest))
        for given, nearest in (("16:10", "16:9"), ("21:9", "16:9"), ("2:3", "3:4"), ("16x9", "16:9"), ("1:2", "9:16"))
    ],
    "shot_type": [({"shot_type": "Multi"}, Violation("/shot_type", "'Multi'", "single, multi", "multi"))],
    "seed": [
        ({"seed": -1}, Violation("/seed", "-1", "0 to 2147483647", "0")),
        ({"seed": 2_147_483_648}, Violation("/seed", "2147483648", "0 to 2147483647", "2147483647")),
    ],
    "image": [
        ({"image": None}, Violation("/image", "0 addresses", "exactly 1 address")),
        *(({"image": text}, Violation("/image", "another kind of text", FAR)) for text in NO_ADDRESSES),
    ],
    "audio_url": [({"audio_url": text}, Violation("/audio_url", "another kind of text", FAR)) for text in NO_ADDRESSES],
}


def _lists(known: Documented, name: str) -> list[Row]:
    least, most = known.inputs
    allowed = f"{least} to {most} addresses"
    return [
        ({name: ()}, Violation(f"/{name}", "0 addresses", allowed)),
        ({name: (MP4,) * (most + 1)}, Violation(f"/{name}", f"{most + 1} addresses", allowed)),
        *(({name: (MP4, text, MP4)}, Violation(f"/{name}/1", "another kind of text", FAR)) for text in NO_ADDRESSES),
    ]


def _outside(route: str, known: Documented) -> list[Row]:
    mode = route.rpartition("/")[2]
    rows = _durations(known) + _texts(known) + _words()
    for name, value in SOMETHING.items():
        if name in known.named:
            rows += OUTSIDE_OF.get(name, [])
            rows += _lists(known, name) if name in ("videos", "references") else []
        else:
            nothing = f"nothing: {mode} has no {name} at this vendor"
            rows.append(({name: value}, Violation(f"/{name}", "a value", nothing)))
    if {"sound", "audio_url"} <= {*known.named}:
        quiet = "sound on, or no audio_url: the vendor would ignore it"
        rows.append(
            ({"sound": False, "audio_url": MP3}, Violation("/audio_url", "an address with sound off", quiet)),
        )
    if route in MULTI_NEEDS_EXTEND:
        pair = Violation(
            "/prompt_extend", "false with shot_type multi", "true: several shots are only made with it", "true"
        )
        rows.append(({"shot_type": "multi", "prompt_extend": False}, pair))
    return rows


OUTSIDE = [(route, *row) for route, known in DOCUMENTED.items() for row in _outside(route, known)]


@pytest.mark.parametrize(("route", "fields", "expected"), OUTSIDE)
def test_a_value_just_outside_is_refused_with_what_was_given_and_what_is_allowed(
    route: str, fields: dict[str, Any], expected: Violation
) -> None:
    assert violations(route, **fields) == (expected,)


def test_only_where_it_is_documented_many_shots_need_a_rewritten_prompt() -> None:
    for route, known in DOCUMENTED.items():
        if {"shot_type", "prompt_extend"} <= {*known.named} and route not in MULTI_NEEDS_EXTEND:
            plan_of(request_on(route, shot_type="multi", prompt_extend=False))


def test_all_broken_rules_are_told_at_once() -> None:
    broken = violations(
        "apixo/wan-2.6/reference-to-video",
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
    broken = violations("apixo/wan-2.6/reference-to-video", references=("nowhere",) * 1000)
    assert [one.pointer for one in broken] == ["/references", *(f"/references/{n}" for n in range(5))]


TEXTS = st.sampled_from(["", " ", "x" * 2000]) | st.text(max_size=30)


@given(
    st.sampled_from(list(DOCUMENTED)),
    st.fixed_dictionaries(
        {},
        optional={
            "duration_s": st.integers(),
            "resolution": TEXTS | st.sampled_from(["720p", "1080p"]),
            "aspect_ratio": TEXTS | st.sampled_from(RATIOS),
            "shot_type": TEXTS | st.sampled_from(["single", "multi"]),
            "prompt_extend": st.booleans(),
            "seed": st.integers(),
            "sound": st.booleans(),
            "image": TEXTS.map("canary-image {}".format),
            "audio_url": TEXTS.map("canary-audio {}".format),
            "references": st.lists(TEXTS.map("canary-reference {}".format), max_size=7).map(tuple),
            "videos": st.lists(TEXTS.map("canary-video {}".format), max_size=7).map(tuple),
            "negative_prompt": TEXTS.map(lambda text: "canary-negative " + text * 20),
            "padding": st.sampled_from([0, 2000]),
        },
    ),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_request_is_a_plan_or_one_refusal_that_repeats_no_text(route: str, fields: dict[str, Any]) -> None:
    padding = fields.pop("padding", 0)
    request = request_on(route, **{**fields, "prompt": PROMPT + "x" * padding})
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


# -- Prices ------------------------------------------------------------------------------------------------------------

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
        assert price.table_version == Catalogue(settings()).data.version


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
        ("[credits\n", "is not TOML."),
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
    whole, short = plan_of(request_for()), plan_of(request_for(), time_scale=0.4)
    assert short.cadence == Cadence(first_read_s=12, interval_s=4, growth=1.1, max_interval_s=6)
    scaled = {
        "deadline_s",
        "unknown_deadline_s",
        "throttle_limit_s",
        "unreachable_limit_s",
        "heartbeat_timeout_s",
        "absence_window_s",
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
def test_a_plan_pins_what_the_vendor_documents(mode: str) -> None:
    plan = Catalogue(settings()).plan(request_for(mode), base_queue="here")
    assert (plan.route, plan.vendor) == (f"{MODEL}/{mode}", "apixo")
    assert (plan.callbacks, plan.cancelable, plan.takes_seed) == (True, False, True)
    assert plan.failed_job_cost == "unknown"
    assert plan.queues == Queues(base="here", submit="here-submit-apixo", read="here-read-apixo", media="here-media")
    assert (plan.width, plan.height) == ((1280, 720) if mode == "text-to-video" else (None, None))
    assert plan.max_asset_bytes == 512 * 1024 * 1024


def test_text_to_video_knows_its_pixels() -> None:
    plan = plan_of(request_for(resolution="1080p"))
    assert (plan.width, plan.height) == (1920, 1080)
