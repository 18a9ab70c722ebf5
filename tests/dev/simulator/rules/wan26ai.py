"""What wan26ai.app documents for a request, just inside and just outside each rule."""

from typing import Any

from tests.dev.simulator.rules.rules import REMOVED, Rules

STILL = "a fox in neon rain [[sim:never]]"  # never rendered: these tests look at requests only
IMAGE, CLIP = "https://example.com/reference.jpg", "https://example.com/source.mp4"
MEDIA: dict[str, dict[str, Any]] = {
    "text-to-video": {},
    "image-to-video": {"image_urls": [IMAGE]},
    "video-to-video": {"video_urls": [CLIP]},
}
MODES = tuple(MEDIA)


def body_of(mode: str = "text-to-video", /, **fields: Any) -> dict[str, Any]:
    wanted = {"model": f"wan/2-6-{mode}", "prompt": STILL, **MEDIA[mode], **fields}
    return {name: value for name, value in wanted.items() if value is not REMOVED}


INSIDE: list[tuple[str, dict[str, Any]]] = [
    *((mode, {"duration": duration}) for mode in MODES for duration in ("5", "10")),
    *((mode, {"duration": "15"}) for mode in MODES if mode != "video-to-video"),
    *((mode, {"resolution": tier}) for mode in MODES for tier in ("720p", "1080p")),
    *((mode, {"public": flag}) for mode in MODES for flag in (True, False)),
    *((mode, {"prompt": STILL.ljust(5000, "x")}) for mode in MODES),
    ("image-to-video", {"image_urls": [IMAGE, IMAGE]}),
    ("video-to-video", {"video_urls": [CLIP, CLIP, CLIP]}),
    ("text-to-video", {"callback_url": "https://example.com/hook?token=1"}),
    ("text-to-video", {"callback_url": "http://127.0.0.1:9/hook"}),
]
OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    *((mode, {"duration": value}, "duration") for mode in MODES for value in (5, 10.0, "4", "7", "16", "5s", "", None)),
    ("video-to-video", {"duration": "15"}, "duration"),
    *((mode, {"resolution": v}, "resolution") for mode in MODES for v in ("720P", "480p", 720, "1280*720", None)),
    *((mode, {"public": value}, "public") for mode in MODES for value in ("false", 0, None)),
    *((mode, {"prompt": value}, "prompt") for mode in MODES for value in ("", " \n", REMOVED, None, 7)),
    *((mode, {"prompt": STILL.ljust(5001, "x")}, "prompt") for mode in MODES),
    *(("image-to-video", {"image_urls": value}, "image_urls") for value in ([], IMAGE, REMOVED, None, [1])),
    *(("image-to-video", {"image_urls": [value]}, "image_urls") for value in ("a.png", "ftp://e.com/a.png", "https:")),
    *(("video-to-video", {"video_urls": value}, "video_urls") for value in ([], CLIP, REMOVED, ["data:video/mp4,"])),
    *((mode, {"image_urls": [IMAGE]}, "image_urls") for mode in ("text-to-video", "video-to-video")),
    *((mode, {"video_urls": [CLIP]}, "video_urls") for mode in ("text-to-video", "image-to-video")),
    *(
        ("text-to-video", {"callback_url": url}, "callback_url")
        for url in ("", "hook", "http://e.com", "https://10.0.0.7", 7)
    ),
    *(("text-to-video", {"model": value}, "") for value in ("wan/2-7-text-to-video", "wan-2.6", "", REMOVED, None)),
    *(
        (mode, {field: "x"}, field)
        for mode in MODES
        for field in ("aspect_ratio", "seed", "negative_prompt", "sound", "audio_urls", "size", "Duration", "input")
    ),
]


def _is_acceptance(answer: Any) -> bool:
    data = {"task_id": answer["data"]["task_id"], "status": "IN_PROGRESS"}
    return answer == {"code": 200, "message": "success", "data": data}


def _is_refusal(answer: Any, words: str) -> bool:
    return answer == {"code": 400, "message": answer["message"], "data": None} and words in answer["message"]


RULES = Rules("/wan26ai/api/generate", "sim-wan26ai-key", body_of, INSIDE, OUTSIDE, _is_acceptance, _is_refusal)
