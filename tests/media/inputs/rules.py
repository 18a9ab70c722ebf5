"""The limits that these tests hold inputs against, and the verdicts of an inspector."""

from collections.abc import Mapping
from typing import Any

import pytest

from onetake.core.errors import Refused
from onetake.core.names import InputKind
from onetake.core.ports import InputRule, MediaLimit, MediaRules
from onetake.media.inputs import MediaInspector

IMAGE = MediaLimit("image", ("jpeg", "png", "bmp", "webp"), 1_000_000, least_px=240, most_px=8000, alpha=False)
VIDEO = MediaLimit("video", ("mp4", "mov"), 5_000_000, least_s=1, most_s=30)
AUDIO = MediaLimit("audio", ("mp3", "wav"), 1_000_000, least_s=3, most_s=30)
FORMATS = {"image": "jpeg, png, bmp, webp", "video": "mp4, mov", "audio": "mp3, wav"}
LIMITS = {limit.kind: limit for limit in (IMAGE, VIDEO, AUDIO)}
CLOSED = "http://127.0.0.1:9"  # nothing listens


def rule(url: str, *kinds: InputKind, pointer: str = "/image", **changes: Any) -> InputRule:
    limits = tuple(LIMITS[kind] for kind in kinds or ("image",))
    return InputRule(pointer, url, tuple(MediaLimit(**{**vars(limit), **changes}) for limit in limits))


async def kinds_of(inspector: MediaInspector, *rules: InputRule, **most: int) -> Mapping[str, InputKind]:
    references: dict[InputKind, int] = {"image": most.get("image", 5), "video": most.get("video", 3)}
    return await inspector.inspect(MediaRules(rules, references), last_look=True)


async def refusal(inspector: MediaInspector, *rules: InputRule, **most: int) -> Refused:
    with pytest.raises(Refused) as caught:
        await kinds_of(inspector, *rules, **most)
    for each in rules:
        assert each.url.partition("://")[2] not in str(caught.value), "the address is never told"
    assert "127.0.0.1" not in str(caught.value)
    return caught.value


async def told(inspector: MediaInspector, one: InputRule) -> tuple[str, str, str]:
    """Code, given and allowed of the one violation."""
    refused = await refusal(inspector, one)
    (violation,) = refused.violations
    assert violation.pointer == one.pointer
    return refused.code, violation.given, violation.allowed
