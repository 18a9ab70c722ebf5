"""What the document of aivideoapi.ai has for a request, just inside and just outside each rule."""

from typing import Any

from tests.dev.simulator.rules.rules import REMOVED, Rules

KEY = "sk-sim-aivideoapi-key"
STILL = "a fox in neon rain [[sim:never]]"  # never rendered: most of these tests look at requests only
PNG, MP4, MP3 = "https://example.com/hero.png", "https://example.com/scene.mp4", "https://example.com/voice.mp3"
MEDIA: dict[str, dict[str, Any]] = {
    "text-to-video": {},
    "image-to-video": {"image_urls": [PNG]},
    "reference-to-video": {"image_urls": [PNG], "video_urls": [MP4]},
}
MODES = tuple(MEDIA)
SHAPED = ("text-to-video", "reference-to-video")
SWITCHED = ("image-to-video", "reference-to-video")
WITH_AUDIO = ("text-to-video", "image-to-video")
LONGEST = {"text-to-video": 15, "image-to-video": 15, "reference-to-video": 10}
# What only some models list, and what none does.
LISTED = {
    "aspect_ratio": SHAPED,
    "audio": SWITCHED,
    "audio_urls": WITH_AUDIO,
    "video_urls": ("reference-to-video",),
}
UNLISTED = ("aspect_ratio", "audio", "audio_urls", "video_urls", "reference_urls", "image_url", "sound", "quality")


def body_of(mode: str = "text-to-video", /, **fields: Any) -> dict[str, Any]:
    wanted = {"prompt": STILL, **MEDIA[mode], **fields}
    return {"model": f"wan-2.6-{mode}", "input": {k: v for k, v in wanted.items() if v is not REMOVED}}


INSIDE: list[tuple[str, dict[str, Any]]] = [
    *((mode, {"duration": duration}) for mode in MODES for duration in (2, LONGEST[mode])),
    *((mode, {"resolution": tier}) for mode in MODES for tier in ("720p", "1080p")),
    *((mode, {"aspect_ratio": ratio}) for mode in SHAPED for ratio in ("16:9", "9:16", "1:1", "4:3", "3:4")),
    *((mode, {"audio": audio}) for mode in SWITCHED for audio in (True, False)),
    *((mode, {"audio_urls": [MP3] * number}) for mode in WITH_AUDIO for number in (1, 3)),
    *((mode, {"seed": seed}) for mode in MODES for seed in (0, 2_147_483_647)),
    *((mode, {"shot_type": shot}) for mode in MODES for shot in ("single", "multi")),
    *((mode, {"prompt_extend": flag, "watermark": flag}) for mode in MODES for flag in (True, False)),
    ("text-to-video", {"shot_type": "multi", "prompt_extend": True}),
    ("text-to-video", {"shot_type": "single", "prompt_extend": False}),
    ("text-to-video", {"prompt": STILL.ljust(1500, "x"), "negative_prompt": "ü" * 500}),
    ("image-to-video", {"image_urls": ["http://example.com/signed?id=7&sig=a.mp4"]}),
    ("reference-to-video", {"image_urls": [PNG] * 5, "video_urls": REMOVED}),
    ("reference-to-video", {"image_urls": REMOVED, "video_urls": [MP4] * 3}),
    ("reference-to-video", {"image_urls": [PNG] * 2, "video_urls": [MP4] * 3}),
]
OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    *((mode, {"duration": value}, "duration") for mode in MODES for value in (1, 0, -5, LONGEST[mode] + 1)),
    *(("text-to-video", {"duration": value}, "duration") for value in ("5", 5.0, 5.5, True, None, [5])),
    *((mode, {"resolution": v}, "resolution") for mode in MODES for v in ("720P", "480p", 720, "1280*720", None)),
    *((mode, {"aspect_ratio": v}, "aspect_ratio") for mode in SHAPED for v in ("21:9", "16x9", "auto", "", None)),
    *((mode, {"audio": value}, "audio") for mode in SWITCHED for value in ("true", 1, None)),
    *((mode, {"audio_urls": v}, "audio_urls") for mode in WITH_AUDIO for v in ([], MP3, [PNG], ["voice.mp3"], None)),
    *((mode, {"prompt": value}, "prompt") for mode in MODES for value in ("", " \n\t", None, 7, "x" * 1501)),
    *((mode, {"negative_prompt": value}, "negative_prompt") for mode in MODES for value in ("x" * 501, 7, None)),
    *((mode, {"seed": value}, "seed") for mode in MODES for value in (-1, 2_147_483_648, "42", 1.5, True)),
    *(("text-to-video", {"shot_type": value}, "shot_type") for value in ("triple", "Multi", None)),
    *((mode, {"shot_type": "multi", "prompt_extend": False}, "requires prompt_extend") for mode in MODES),
    *(("text-to-video", {name: value}, name) for name in ("prompt_extend", "watermark") for value in ("true", 1, None)),
    *(("image-to-video", {"image_urls": value}, "image_urls") for value in ([], [PNG, PNG], PNG, REMOVED, None)),
    *(("image-to-video", {"image_urls": [v]}, "image_urls") for v in (MP4, "data:image/png;base64,AA", "a.png", "", 1)),
    ("reference-to-video", {"image_urls": REMOVED, "video_urls": REMOVED}, "1 to 5 references"),
    ("reference-to-video", {"image_urls": [PNG] * 6, "video_urls": REMOVED}, "image_urls"),
    ("reference-to-video", {"image_urls": REMOVED, "video_urls": [MP4] * 4}, "video_urls"),
    ("reference-to-video", {"image_urls": [PNG] * 3, "video_urls": [MP4] * 3}, "1 to 5 references"),
    ("reference-to-video", {"image_urls": [MP4]}, "image_urls"),
    ("reference-to-video", {"video_urls": [PNG]}, "video_urls"),
    ("reference-to-video", {"video_urls": []}, "video_urls"),
    *(
        (mode, {field: True}, f"input.{field}")
        for mode in MODES
        for field in UNLISTED
        if mode not in LISTED.get(field, ())
    ),
]


def _is_acceptance(answer: Any) -> bool:
    return answer == {"code": 200, "msg": "success", "data": {"taskId": answer["data"]["taskId"]}}


def _is_refusal(answer: Any, words: str) -> bool:
    message = answer["error"]["message"]
    error = {"code": "invalid_request", "type": "invalid_request_error", "message": message}
    return answer == {"error": error} and words in message


RULES = Rules("/aivideoapi/v1/videos/generations", KEY, body_of, INSIDE, OUTSIDE, _is_acceptance, _is_refusal)
