"""What GMI's guides document for a request, just inside and just outside each rule."""

from typing import Any

from tests.dev.simulator.rules.rules import REMOVED, Rules

STILL = "a fox in neon rain [[sim:never]]"  # never rendered: most of these tests look at requests only
PNG, MP4, MP3 = "https://example.com/hero.png", "https://example.com/scene.mp4", "https://example.com/voice.mp3"
T2V, I2V, R2V = "wan2.6-t2v", "wan2.6-i2v", "wan2.6-r2v"
MODELS = {T2V: "text-to-video", I2V: "image-to-video", R2V: "reference-to-video"}
MEDIA: dict[str, dict[str, Any]] = {T2V: {}, I2V: {"img_url": PNG}, R2V: {"reference_video_urls": [MP4]}}
SIZES = {
    "720p": ("1280*720", "720*1280", "960*960", "1088*832", "832*1088"),
    "1080p": ("1920*1080", "1080*1920", "1440*1440", "1632*1248", "1248*1632"),
}


def body_of(model: str = T2V, /, **fields: Any) -> dict[str, Any]:
    payload = {"prompt": STILL, **MEDIA[model], **fields}
    return {"model": model, "payload": {name: value for name, value in payload.items() if value is not REMOVED}}


EVERYWHERE: list[dict[str, Any]] = [
    *({"negative_prompt": text} for text in ("", "x" * 500, "火" * 500)),
    {"prompt": STILL.ljust(1500, "x")},
    *({"shot_type": shot} for shot in ("single", "multi")),
    *({"watermark": flag} for flag in (True, False)),
    *({"seed": seed} for seed in (0, 2_147_483_647)),
    *({"duration": seconds} for seconds in (5, 10)),
]
SWITCHES: list[dict[str, Any]] = [
    {"duration": 15},
    *({"prompt_extend": flag} for flag in (True, False)),
    *({"audio": flag} for flag in (True, False)),
    *({"audio_url": url} for url in (MP3, None)),
    {"audio": False, "audio_url": MP3},
    {"prompt_extend": False, "shot_type": "multi"},
]
INSIDE: list[tuple[str, dict[str, Any]]] = [
    *((model, fields) for model in MODELS for fields in EVERYWHERE),
    *((model, fields) for model in (T2V, I2V) for fields in SWITCHES),
    *((model, {"size": size}) for model in (T2V, R2V) for sizes in SIZES.values() for size in sizes),
    *((I2V, {"resolution": tier}) for tier in ("720P", "1080P")),
    (I2V, {"prompt": ""}),
    *((R2V, {"reference_video_urls": [MP4] * count}) for count in (1, 3)),
]
OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    *(
        (model, {"duration": v}, "duration")
        for model in MODELS
        for v in (4, 6, 7, 0, -5, 20, "5", 5.0, True, None, "5s")
    ),
    (R2V, {"duration": 15}, "duration"),
    *((model, {"prompt": STILL.ljust(1501, "x")}, "prompt") for model in MODELS),
    *((model, {"prompt": value}, "prompt") for model in MODELS for value in (None, 7, ["x"])),
    *((T2V, {"prompt": value}, "prompt") for value in ("", " \n\t", REMOVED)),
    *((model, {"negative_prompt": value}, "negative_prompt") for model in MODELS for value in ("x" * 501, None, 7)),
    *((model, {"shot_type": value}, "shot_type") for model in MODELS for value in ("Single", "wide", "", None)),
    *((model, {"watermark": value}, "watermark") for model in MODELS for value in ("true", 1, None)),
    *((model, {"seed": v}, "seed") for model in MODELS for v in (-1, 2_147_483_648, "7", 7.0, True, None)),
    *(
        (model, {name: v}, name)
        for model in (T2V, I2V)
        for name in ("audio", "prompt_extend")
        for v in ("true", 1, None)
    ),
    *((model, {"audio_url": v}, "audio_url") for model in (T2V, I2V) for v in ("voice.mp3", "", 7, [MP3])),
    *(
        (model, {"size": value}, "size")
        for model in (T2V, R2V)
        for value in ("1280x720", "720p", "720P", "1280*721", "", None, 1280, " 1280*720", "01280*720")
    ),
    *((I2V, {"resolution": value}, "resolution") for value in ("720p", "1080p", "480P", "1280*720", "", None, 720)),
    *((I2V, {"img_url": v}, "img_url") for v in (REMOVED, None, "", "hero.png", "data:image/png;base64,AA", [PNG], 1)),
    *(
        (R2V, {"reference_video_urls": value}, "reference_video_urls")
        for value in (REMOVED, None, [], [MP4] * 4, MP4, ["scene.mp4"], [MP4, 7])
    ),
    # What another model, another vendor or this vendor's newer models call it.
    (T2V, {"resolution": "720P"}, "resolution"),
    (R2V, {"resolution": "720P"}, "resolution"),
    (I2V, {"size": "1280*720"}, "size"),
    (T2V, {"img_url": PNG}, "img_url"),
    (I2V, {"reference_video_urls": [MP4]}, "reference_video_urls"),
    *((R2V, {name: value}, name) for name, value in (("audio", True), ("audio_url", MP3), ("prompt_extend", True))),
    *(
        (model, {name: "x"}, name)
        for model in MODELS
        for name in ("aspect_ratio", "image_urls", "callback_url", "Seed")
    ),
    (I2V, {"first_frame": PNG}, "first_frame"),
]


def _is_acceptance(answer: Any) -> bool:
    return isinstance(answer["request_id"], str)


def _is_refusal(answer: Any, words: str) -> bool:
    return answer.keys() == {"error"} and answer["error"].startswith(f"payload.{words}")


RULES = Rules(
    "/gmi/api/v1/ie/requestqueue/apikey/requests", "sim-gmi-key", body_of, INSIDE, OUTSIDE, _is_acceptance, _is_refusal
)
