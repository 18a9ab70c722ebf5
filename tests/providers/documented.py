"""Every route as its vendor's document has it: written from the documents and not from the catalogue's files."""

from dataclasses import dataclass
from typing import Any

import pytest

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Refused, Violation
from tests.providers.parts import plan_of, request_on

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
    sound_has_a_price: bool = False

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
    "gptimage2/wan-2.6/image-to-video-flash": Documented(
        *LONG, "720p", "image shot_type prompt_extend", (1, 1), sound=True
    ),
    "gptimage2/wan-2.6/reference-to-video": Documented(*SHORT, "720p", "references aspect_ratio shot_type", (1, 3)),
    "gptimage2/wan-2.6/reference-to-video-flash": Documented(
        *SHORT, "720p", "references aspect_ratio shot_type", (1, 3), sound=True
    ),
    "wan26ai/wan-2.6/text-to-video": Documented(*FEW, "1080p", "", prompt=5000),
    "wan26ai/wan-2.6/image-to-video": Documented(*FEW, "1080p", "image", (1, 1), prompt=5000),
    "wan26ai/wan-2.6/video-to-video": Documented(*FEWER, "1080p", "videos", (1, 3), prompt=5000),
    "apixo/wan-2.6/text-to-video": Documented(*LONG, "720p", f"{ANYWHERE} audio_url"),
    "apixo/wan-2.6/image-to-video": Documented(*LONG, "720p", f"{ANYWHERE} audio_url image", (1, 1)),
    "apixo/wan-2.6/image-to-video-flash": Documented(
        *LONG, "720p", f"{ANYWHERE} audio_url image sound", (1, 1), sound=True, sound_has_a_price=True
    ),
    "apixo/wan-2.6/reference-to-video": Documented(*SHORT, "1080p", f"{ANYWHERE} audio_url references", (1, 5)),
    "apixo/wan-2.6/reference-to-video-flash": Documented(
        *SHORT, "1080p", f"{ANYWHERE} audio_url references sound", (1, 5), sound=True, sound_has_a_price=True
    ),
    "aivideoapi/wan-2.6/text-to-video": Documented(*LONG, "1080p", f"{ANYWHERE} aspect_ratio audio_url"),
    "aivideoapi/wan-2.6/image-to-video": Documented(*LONG, "1080p", f"{ANYWHERE} image audio_url sound", (1, 1)),
    "aivideoapi/wan-2.6/reference-to-video": Documented(
        *SHORT, "1080p", f"{ANYWHERE} references aspect_ratio sound", (1, 5)
    ),
    "gmi/wan-2.6/text-to-video": Documented(*FEW, "1080p", f"{ANYWHERE} aspect_ratio audio_url sound", sound=True),
    "gmi/wan-2.6/image-to-video": Documented(
        *FEW, "1080p", f"{ANYWHERE} image audio_url sound", (1, 1), prompt_required=False, sound=True
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
