"""What APIXO documents for a request, just inside and just outside each rule."""

from typing import Any

from tests.dev.simulator.calls import IMAGE, KEY, MEDIA, MODES
from tests.dev.simulator.rules.rules import REMOVED, Rules

STILL = "a fox in neon rain [[sim:never]]"  # never rendered: these tests look at requests only
PNG, MP4 = IMAGE, "https://example.com/scene.mp4"
FLASH = tuple(mode for mode in MODES if mode.endswith("flash"))
STANDARD = tuple(mode for mode in MODES if not mode.endswith("flash"))
IMAGE_MODES = ("image-to-video", "image-to-video-flash")
REFERENCE_MODES = ("reference-to-video", "reference-to-video-flash")


def body_of(mode: str = "text-to-video", /, **fields: Any) -> dict[str, Any]:
    wanted = {"mode": mode, "prompt": STILL, **MEDIA[mode], **fields}
    return {"request_type": "async", "input": {name: value for name, value in wanted.items() if value is not REMOVED}}


INSIDE: list[tuple[str, dict[str, Any]]] = [
    *((mode, {"duration": duration}) for mode in MODES for duration in (2, "2", 10)),
    *((mode, {"duration": duration}) for mode in MODES if mode not in REFERENCE_MODES for duration in (15, "15")),
    *((mode, {"resolution": tier}) for mode in MODES for tier in ("720p", "1080p")),
    *((mode, {"sound": sound}) for mode in FLASH for sound in (True, False)),
    *(("text-to-video", {"shot_type": shot}) for shot in ("single", "multi")),
    *(("text-to-video", {"seed": seed}) for seed in (0, 2_147_483_647)),
    *(("text-to-video", {"prompt_extend": flag, "watermark": flag}) for flag in (True, False)),
    *(("text-to-video", {"audio_urls": [f"https://example.com/a.{kind}"]}) for kind in ("wav", "mp3")),
    *(("image-to-video", {"image_urls": [f"https://e.com/a.{kind}"]}) for kind in ("JPEG", "jpg", "bmp", "webp")),
    ("image-to-video", {"image_urls": ["https://example.com/signed?id=7&sig=a.gif"]}),
    ("image-to-video-flash", {"sound": False, "audio_urls": ["https://example.com/ignored.mp3"]}),
    *((mode, {"reference_urls": [PNG] * 5}) for mode in REFERENCE_MODES),
    *((mode, {"reference_urls": [MP4, MP4, MP4, PNG, PNG]}) for mode in REFERENCE_MODES),
    ("reference-to-video", {"reference_urls": ["https://example.com/a.mov"]}),
    ("text-to-video", {"prompt": STILL.ljust(1500, "x"), "negative_prompt": "x" * 501}),
]

OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    *((mode, {"duration": value}, "input.duration") for mode in MODES for value in (1, "1", 0, -5, 16)),
    *((mode, {"duration": value}, "input.duration") for mode in REFERENCE_MODES for value in (11, "11")),
    *(("text-to-video", {"duration": value}, "duration") for value in (5.0, "5.0", "5s", " 5", "", True, None, [5])),
    *((mode, {"resolution": v}, "input.resolution") for mode in MODES for v in ("720P", "480p", 720, "1280*720", None)),
    *((mode, {"sound": True}, "input.sound") for mode in STANDARD),
    *((mode, {"sound": value}, "input.sound") for mode in FLASH for value in ("true", 1, None)),
    *((mode, {"prompt": value}, "input.prompt") for mode in MODES for value in ("", " \n\t", REMOVED, None, 7)),
    *(("text-to-video", {"seed": value}, "seed") for value in (-1, 2_147_483_648, "42", 1.5, True)),
    *(("text-to-video", {"shot_type": value}, "shot_type") for value in ("triple", "Single", None)),
    *(("text-to-video", {name: value}, name) for name in ("prompt_extend", "watermark") for value in ("true", 1, None)),
    ("text-to-video", {"negative_prompt": 7}, "negative_prompt"),
    *((mode, {"image_urls": value}, "image_urls") for mode in IMAGE_MODES for value in ([], [PNG, PNG], PNG, REMOVED)),
    *((mode, {"image_urls": [value]}, "image_urls") for mode in IMAGE_MODES for value in (MP4, "https://e.com/a.gif")),
    *(("image-to-video", {"image_urls": [v]}, "image_urls") for v in ("hero.png", "data:image/png;base64,AA", "", 1)),
    *((mode, {"reference_urls": v}, "reference_urls") for mode in REFERENCE_MODES for v in ([], [PNG] * 6, REMOVED)),
    *((mode, {"reference_urls": [MP4] * 4}, "at most 3 videos") for mode in REFERENCE_MODES),
    ("reference-to-video", {"reference_urls": ["https://example.com/a.avi"]}, "reference_urls"),
    *(("text-to-video", {"audio_urls": v}, "audio_urls") for v in ([], ["https://e.com/a.mp3"] * 2, "https://e.com/a")),
    ("text-to-video", {"audio_urls": ["https://example.com/a.ogg"]}, "audio_urls"),
    *(("text-to-video", {"mode": value}, "") for value in ("video-to-video", "", REMOVED, None)),
    *(
        (mode, {field: [IMAGE]}, f"input.{field}")
        for mode in MODES
        for field in ("aspect_ratio", "Duration", "image_urls", "reference_urls", "video_urls")
        if field not in MEDIA[mode]
    ),
]


def _is_acceptance(answer: Any) -> bool:
    return answer.keys() == {"code", "message", "data"} and (answer["code"], answer["message"]) == (200, "success")


def _is_refusal(answer: Any, words: str) -> bool:
    error = answer["data"]["error"]
    return answer == {"code": 400, "message": "Invalid request", "data": {"error": error}} and words in error


RULES = Rules("/apixo/api/v1/generateTask/wan-2-6-video", KEY, body_of, INSIDE, OUTSIDE, _is_acceptance, _is_refusal)
