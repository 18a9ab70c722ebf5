"""Every rule of every route, just inside and just outside: one test a route and rule, which tells all that differ.

What is expected is written from the vendors' documents and not from the catalogue's files.
"""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.errors import CATALOGUE, Refused, Violation
from tests.collecting import assert_all_as_expected
from tests.providers.documented import (
    DOCUMENTED,
    MP3,
    MP4,
    MULTI_NEEDS_EXTEND,
    PNG,
    RATIOS,
    Documented,
    violations,
)
from tests.providers.parts import PROMPT, plan_of, request_on

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


# -- Just outside ------------------------------------------------------------------------------------------------------

FAR = "an http or https address of at most 2048 ASCII characters"
_SPACED = "an address with a space or a line break in it (%20 stands for a space)"
_HOSTLESS = "an address with a user name or a backslash in it, or without a host"
_FOREIGN = "an address with letters beyond ASCII (percent-encode them: a link as a browser copies it)"
NO_ADDRESSES = {
    "": "no http or https address",
    "a.mp3": "no http or https address",
    "ftp://example.com/a.mp3": "no http or https address",
    "data:audio/mp3;base64,AA": "no http or https address",
    "https://": _HOSTLESS,
    "https:///a.mp3": _HOSTLESS,
    "https://u:p@example.com/a.mp3": _HOSTLESS,
    "https://example.com/a b": _SPACED,
    "https://example.com/a\nb": _SPACED,
    " https://example.com/a": _SPACED,
    "https://example.com/图片.png": _FOREIGN,
    "https://example.com/" + "a" * 2029: "an address of 2049 characters",
    "https://example.com/" + "a" * 2580: "an address of 2600 characters",
}
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
        *(({"image": text}, Violation("/image", fault, FAR)) for text, fault in NO_ADDRESSES.items()),
    ],
    "audio_url": [({"audio_url": text}, Violation("/audio_url", fault, FAR)) for text, fault in NO_ADDRESSES.items()],
}


def _lists(known: Documented, name: str) -> list[Row]:
    least, most = known.inputs
    allowed = f"{least} to {most} addresses"
    return [
        ({name: ()}, Violation(f"/{name}", "0 addresses", allowed)),
        ({name: (MP4,) * (most + 1)}, Violation(f"/{name}", f"{most + 1} addresses", allowed)),
        *(({name: (MP4, text, MP4)}, Violation(f"/{name}/1", fault, FAR)) for text, fault in NO_ADDRESSES.items()),
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


# -- Each rule of each route -------------------------------------------------------------------------------------------

NO_SUCH_FIELD = "a field of other routes"


def _rule(known: Documented, fields: dict[str, Any]) -> str:
    """The rule that a row is about: its first field, unless the route has no such field or the row needs none."""
    first = next(iter(fields), "max_cost_usd")
    if first == "max_cost_usd":
        return "no more than is needed"
    return first if first in {"duration_s", "resolution", "prompt", *known.named} else NO_SUCH_FIELD


def _rules(route: str) -> dict[str, list[tuple[dict[str, Any], Violation | None]]]:
    """What each rule is tried with: just inside, where no violation is expected, then just outside."""
    known = DOCUMENTED[route]
    rules = defaultdict[str, list[tuple[dict[str, Any], Violation | None]]](list)
    for fields in _inside(known):
        rules[_rule(known, fields)].append((fields, None))
    for fields, violation in _outside(route, known):
        rules[_rule(known, fields)].append((fields, violation))
    return dict(rules)


RULES = {(route, rule): rows for route in DOCUMENTED for rule, rows in _rules(route).items()}


@pytest.mark.parametrize(("route", "rule"), RULES)
def test_a_rule_passes_what_is_just_inside_and_refuses_what_is_just_outside_with_what_is_allowed(
    route: str, rule: str
) -> None:
    assert_all_as_expected(
        (fields, _planned(route, fields) if violation is None else _refused(violation), _came(route, fields))
        for fields, violation in RULES[route, rule]
    )


def _planned(route: str, fields: dict[str, Any]) -> dict[str, Any]:
    known = DOCUMENTED[route]
    ratio = fields.get("aspect_ratio", "16:9")
    return {
        "duration_s": fields.get("duration_s", 5),
        "resolution": fields.get("resolution", known.resolution),
        "sound": fields.get("sound", known.sound),
        "aspect_ratio": ratio if "aspect_ratio" in known.named else None,
    }


def _refused(*expected: Violation) -> tuple[str, str, tuple[Violation, ...]]:
    sentence = CATALOGUE["request_invalid"].sentence
    return "request_invalid", f"{sentence} {'; '.join(map(str, expected))}", expected


def _came(route: str, fields: dict[str, Any]) -> object:
    verdict = _verdict(request_on(route, **fields))
    if isinstance(verdict, Refused):
        return verdict.code, str(verdict), verdict.violations
    return verdict.model_dump(include={"duration_s", "resolution", "sound", "aspect_ratio"})


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
