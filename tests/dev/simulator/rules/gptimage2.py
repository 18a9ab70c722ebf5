"""What the documents of gptimage2 and of the API it mirrors have for a request, just inside and just outside."""

from typing import Any

from tests.dev.simulator.rules.rules import REMOVED, Rules

STILL = "a fox in neon rain [[sim:never]]"  # never rendered: these tests look at requests only
PNG, MP4 = "https://example.com/hero.png", "https://example.com/scene.mp4"
MEDIA: dict[str, dict[str, Any]] = {
    "wan2.6-text-to-video": {},
    "wan2.6-image-to-video": {"image_urls": [PNG]},
    "wan2.6-image-to-video-flash": {"image_urls": [PNG]},
    "wan2.6-reference-video": {"video_urls": [MP4]},
    "wan2.6-reference-video-flash": {"video_urls": [MP4]},
}
TEXT, IMAGE, _, REFERENCE, _ = MODELS = tuple(MEDIA)
IMAGES = tuple(model for model in MODELS if "image" in model)
REFERENCES = tuple(model for model in MODELS if "reference" in model)
LONG = tuple(model for model in MODELS if model not in REFERENCES)


def body_of(model: str = TEXT, /, **fields: Any) -> dict[str, Any]:
    wanted = {"model": model, "prompt": STILL, **MEDIA.get(model, {}), **fields}
    return {name: value for name, value in wanted.items() if value is not REMOVED}


INSIDE: list[tuple[str, dict[str, Any]]] = [
    *((model, {"duration": duration}) for model in MODELS for duration in (2, 7, 10)),
    *((model, {"duration": 15}) for model in LONG),
    *((model, {"quality": quality}) for model in MODELS for quality in ("720p", "1080p")),
    *((model, {"aspect_ratio": r}) for model in (TEXT, *REFERENCES) for r in ("16:9", "9:16", "1:1", "4:3", "3:4")),
    *((model, {"prompt_extend": flag}) for model in LONG for flag in (True, False)),
    *((model, {"model_params": {"shot_type": shot}}) for model in MODELS for shot in ("single", "multi")),
    *((model, {"model_params": {}}) for model in MODELS),
    (TEXT, {"prompt_extend": False, "model_params": {"shot_type": "multi"}}),
    *((model, {"prompt": STILL.ljust(1500, "x")}) for model in MODELS),
    *((IMAGE, {"image_urls": [f"http://e.com/a.{kind}"]}) for kind in ("JPEG", "jpg", "png", "bmp", "webp", "")),
    *((model, {"video_urls": [MP4] * number}) for model in REFERENCES for number in (1, 2, 3)),
    (REFERENCE, {"video_urls": ["https://example.com/a.MOV", "https://example.com/signed?id=7&sig=a.gif"]}),
]

OUTSIDE: list[tuple[str, dict[str, Any], str]] = [
    *((model, {"duration": value}, "duration") for model in MODELS for value in (1, 0, -5, 16)),
    *((model, {"duration": 11}, "duration") for model in REFERENCES),
    *((TEXT, {"duration": value}, "duration") for value in (5.5, "5", "", True, None, [5])),
    *((model, {"quality": v}, "quality") for model in MODELS for v in ("720P", "480p", 720, "1280*720", None)),
    *((model, {"aspect_ratio": v}, "aspect_ratio") for model in (TEXT, *REFERENCES) for v in ("21:9", "16x9", None)),
    *((model, {"aspect_ratio": "16:9"}, "aspect_ratio") for model in IMAGES),
    *((model, {"prompt": v}, "prompt") for model in MODELS for v in ("", " \n", REMOVED, None, 7)),
    *((model, {"prompt": STILL.ljust(1501, "x")}, "prompt") for model in MODELS),
    *((model, {"prompt_extend": v}, "prompt_extend") for model in LONG for v in ("true", 1, None)),
    *((model, {"prompt_extend": True}, "prompt_extend") for model in REFERENCES),
    *((TEXT, {"model_params": {"shot_type": v}}, "model_params.shot_type") for v in ("triple", "Multi", None)),
    *((TEXT, {"model_params": v}, "model_params") for v in (None, ["multi"], "multi")),
    *((m, {"model_params": {name: True}}, f"model_params.{name}") for m in MODELS for name in ("audio", "audio_url")),
    *((model, {"image_urls": v}, "image_urls") for model in IMAGES for v in ([], [PNG, PNG], PNG, REMOVED)),
    *((IMAGE, {"image_urls": [v]}, "image_urls") for v in (MP4, "https://e.com/a.gif", "a.png", "data:image/png,", 1)),
    *((model, {"video_urls": v}, "video_urls") for model in REFERENCES for v in ([], [MP4] * 4, MP4, REMOVED)),
    *((REFERENCE, {"video_urls": [v]}, "video_urls") for v in (PNG, "https://e.com/a.webm", "ftp://e.com/a.mp4", "")),
    *((model, {name: 1}, name) for model in MODELS for name in ("resolution", "seed", "negative_prompt", "watermark")),
    *((TEXT, {name: [PNG]}, name) for name in ("image_urls", "video_urls", "audio_urls", "reference_urls")),
    (REFERENCE, {"image_urls": [PNG]}, "image_urls"),
    (IMAGE, {"video_urls": [MP4]}, "video_urls"),
    *((TEXT, {"callback_url": v}, "callback_url") for v in ("http://example.com/hook", "https://10.0.0.7/hook", None)),
    *((TEXT, {"callback_url": v}, "callback_url") for v in ("https://172.16.3.4/h", "https://192.168.1.1/h", "x")),
    (TEXT, {"callback_url": "https://example.com/".ljust(2049, "x")}, "callback_url"),
    (TEXT, {"model": REMOVED}, ""),
]


def _is_acceptance(answer: Any) -> bool:
    return isinstance(answer["id"], str)


def _is_refusal(answer: Any, words: str) -> bool:
    error = answer["error"]
    named = error.get("param", "").startswith(words)
    return named and (error["code"], error["type"]) == (400, "invalid_request_error")


RULES = Rules(
    "/gptimage2/v1/videos/generations", "sim-gptimage2-key", body_of, INSIDE, OUTSIDE, _is_acceptance, _is_refusal
)
