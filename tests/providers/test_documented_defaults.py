"""What each vendor's document says that it does with what is not sent: written from the documents, with their pages.

The documents themselves are not kept here; `providers/routes/VENDOR.toml` names each page by its letter.
"""

from typing import Any

import pytest

from providers.catalogue import load_catalogue
from tests.providers.parts import plan_of, request_on

# M, "Parameters": prompt_extend `true` (default), watermark `false` (default); sound true, flash modes only; resolution
# by mode, duration 5. shot_type has no default.
_APIXO: dict[str, Any] = {"duration_s": 5, "prompt_extend": True, "watermark": False}
# A, "Common Input" and the tables of the modes: default 1080p, single, true, false, 5 s; 16:9 where there is a ratio.
_AIVIDEOAPI: dict[str, Any] = {
    "duration_s": 5,
    "resolution": "1080p",
    "shot_type": "single",
    "prompt_extend": True,
    "watermark": False,
}
# G1, G2, G3, the tables of parameters. G3 shows no default of the duration.
_GMI: dict[str, Any] = {
    "resolution": "1080p",
    "prompt_extend": True,
    "watermark": False,
    "sound": True,
    "duration_s": 5,
}
# E, the pages of the models: quality 720p, duration 5, aspect_ratio 16:9.
_GPTIMAGE2: dict[str, Any] = {"duration_s": 5, "resolution": "720p"}
# W, the table of parameters: resolution 1080p. No default of the duration is documented.
_WAN26AI: dict[str, Any] = {"resolution": "1080p"}

DEFAULTS: dict[str, dict[str, Any]] = {
    "apixo/wan-2.6/text-to-video": {**_APIXO, "resolution": "720p"},
    "apixo/wan-2.6/image-to-video": {**_APIXO, "resolution": "720p"},
    "apixo/wan-2.6/image-to-video-flash": {**_APIXO, "resolution": "720p", "sound": True},
    "apixo/wan-2.6/reference-to-video": {**_APIXO, "resolution": "1080p"},
    "apixo/wan-2.6/reference-to-video-flash": {**_APIXO, "resolution": "1080p", "sound": True},
    "aivideoapi/wan-2.6/text-to-video": {**_AIVIDEOAPI, "aspect_ratio": "16:9"},
    "aivideoapi/wan-2.6/image-to-video": _AIVIDEOAPI,
    "aivideoapi/wan-2.6/reference-to-video": {**_AIVIDEOAPI, "aspect_ratio": "16:9"},
    "gmi/wan-2.6/text-to-video": {**_GMI, "aspect_ratio": "16:9"},  # `size` 1920*1080
    "gmi/wan-2.6/image-to-video": {**_GMI, "shot_type": "single"},
    "gmi/wan-2.6/reference-to-video": {"resolution": "1080p", "aspect_ratio": "16:9"},
    "gptimage2/wan-2.6/text-to-video": {
        **_GPTIMAGE2,
        "aspect_ratio": "16:9",
        "prompt_extend": True,
        "shot_type": "single",
    },
    "gptimage2/wan-2.6/image-to-video": _GPTIMAGE2,
    "gptimage2/wan-2.6/image-to-video-flash": {**_GPTIMAGE2, "sound": True},
    "gptimage2/wan-2.6/reference-to-video": {**_GPTIMAGE2, "aspect_ratio": "16:9"},
    "gptimage2/wan-2.6/reference-to-video-flash": {**_GPTIMAGE2, "aspect_ratio": "16:9", "sound": True},
    "wan26ai/wan-2.6/text-to-video": _WAN26AI,
    "wan26ai/wan-2.6/image-to-video": _WAN26AI,
    "wan26ai/wan-2.6/video-to-video": _WAN26AI,
}
# What we send where no document names a default: nothing is left to chance there.
CHOSEN = {"duration_s"}


def catalogued(name: str) -> dict[str, Any]:
    found = load_catalogue().route(name)
    assert found is not None
    route = found[2]
    held = {
        "duration_s": route.duration_s.default,
        "resolution": route.resolutions.default,
        "aspect_ratio": route.aspect_ratios.default if route.aspect_ratios else None,
        "sound": route.sound_default,
        **route.defaults.named,
    }
    return {field: value for field, value in held.items() if value is not None}


def test_every_route_has_its_documents_list() -> None:
    assert set(DEFAULTS) == set(load_catalogue().route_names())


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_route_holds_exactly_the_defaults_of_its_document(name: str) -> None:
    held = catalogued(name)
    chosen = {field: held[field] for field in CHOSEN - DEFAULTS[name].keys()}
    assert held == {**DEFAULTS[name], **chosen}


@pytest.mark.parametrize("name", [name for name, known in DEFAULTS.items() if "sound" in known])
def test_a_clip_without_the_sound_that_is_a_default_is_a_difference(name: str) -> None:
    """`sound_missing` goes by the plan."""
    assert plan_of(request_on(name), defaults="vendor").sound is True
