"""Every rule that the documents of gptimage2 and of the API it mirrors have for a request, just inside and outside."""

import re
import time
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from onetake.dev.simulator.gptimage2 import BILLED_INPUT_MS, MODES, PRICE_MICROS_PER_S
from tests.dev.simulator.calls import Apixo, sink, until

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
REMOVED = object()


class Endpoint:
    """Calls to the simulated vendor by its document alone."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = f"{url}/gptimage2/v1"
        self.http = http
        self._book = f"{url}/book"

    def post(self, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(f"{self.url}/videos/generations", json=body, **options)

    def read(self, task_id: str) -> httpx.Response:
        return self.http.get(f"{self.url}/tasks/{task_id}")

    def accepts(self, body: Any) -> dict[str, Any]:
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refuses(self, body: Any, param: str = "", status: int = 400) -> dict[str, Any]:
        jobs = self.book()["totals"]["jobs"]
        answer = self.post(body)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["code"] == status
        assert error.get("param", "").startswith(param)
        assert jobs == self.book()["totals"]["jobs"]
        return error

    def ended(self, task_id: str) -> dict[str, Any]:
        return until(lambda: self.read(task_id).json(), lambda task: task["status"] in ("completed", "failed"))

    def job(self, task_id: str) -> dict[str, Any]:
        return self.http.get(f"{self._book}/jobs/{task_id}").json()

    def book(self) -> dict[str, Any]:
        return self.http.get(self._book, params={"vendor": "gptimage2"}).json()


@pytest.fixture
def endpoint(apixo: Apixo) -> Generator[Endpoint]:
    """The other vendor of the folder's simulator, with its own key."""
    headers = {"Authorization": "Bearer sim-gptimage2-key"}
    with httpx.Client(timeout=20, headers=headers, trust_env=False) as http:
        yield Endpoint(apixo.url, http)


def _body(model: str = TEXT, /, **fields: Any) -> dict[str, Any]:
    wanted = {"model": model, "prompt": STILL, **MEDIA.get(model, {}), **fields}
    return {name: value for name, value in wanted.items() if value is not REMOVED}


def test_the_guides_own_examples_are_accepted(endpoint: Endpoint) -> None:
    text = {"aspect_ratio": "16:9", "quality": "720p", "duration": 10, "prompt_extend": True}
    clip = "https://your-cdn.example.com/reference-character.mp4"
    endpoint.accepts(_body(TEXT, **text))
    endpoint.accepts(_body(REFERENCE, video_urls=[clip], duration=5))


@pytest.mark.parametrize("model", MODELS)
def test_each_model_needs_no_more_than_its_prompt_and_its_media(endpoint: Endpoint, model: str) -> None:
    job = endpoint.job(endpoint.accepts(_body(model))["id"])
    assert (MODES[model], 5, "720p", True) == (job["mode"], job["duration_s"], job["resolution"], job["sound"])
    assert (job["width"], job["height"]) == (1280, 720)


def test_an_accepted_task_is_shown_as_documented(endpoint: Endpoint) -> None:
    task = endpoint.accepts(_body(duration=7))
    assert re.fullmatch(r"task-unified-\d{10}-[a-z0-9]{8}", task.pop("id"))
    assert abs(task.pop("created") - time.time()) < 5
    assert task == {
        "model": TEXT,
        "object": "video.generation.task",
        "progress": 0,
        "status": "pending",
        "task_info": {"can_cancel": True, "estimated_time": 0, "video_duration": 7},
        "type": "video",
        "usage": {"billing_rule": "per_second", "credits_reserved": 56, "user_group": "default"},
    }


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


@pytest.mark.parametrize(("model", "fields"), INSIDE)
def test_a_value_just_inside_a_rule_is_accepted(endpoint: Endpoint, model: str, fields: dict[str, Any]) -> None:
    endpoint.accepts(_body(model, **fields))


@pytest.mark.parametrize(("model", "fields", "param"), OUTSIDE)
def test_a_value_just_outside_a_rule_is_refused_by_name(
    endpoint: Endpoint, model: str, fields: dict[str, Any], param: str
) -> None:
    error = endpoint.refuses(_body(model, **fields), param)
    assert error["type"] == "invalid_request_error"


def test_the_longest_callback_address_is_accepted(endpoint: Endpoint) -> None:
    url = "https://your-domain.com/webhooks/".ljust(2048, "x")
    assert endpoint.job(endpoint.accepts(_body(callback_url=url))["id"])["callback_host"] == "your-domain.com"


@pytest.mark.parametrize("model", ["wan2.7-text-to-video", "wan2.6-text-to-video-flash", "WAN2.6-TEXT-TO-VIDEO", ""])
def test_another_model_is_not_found(endpoint: Endpoint, model: str) -> None:
    error = endpoint.refuses(_body(model), status=404)
    assert (error["type"], error["message"]) == ("not_found_error", "Specified model not found")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_body_that_is_not_a_submission_is_refused(endpoint: Endpoint, content: bytes) -> None:
    url, kind = f"{endpoint.url}/videos/generations", {"Content-Type": "application/json"}
    answer = endpoint.http.post(url, content=content, headers=kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


def test_the_content_type_must_be_json(endpoint: Endpoint) -> None:
    assert endpoint.post(_body(), headers={"Content-Type": "text/plain"}).status_code == 400


@pytest.mark.parametrize("value", ["", "Bearer wrong", "Basic sim-gptimage2-key", "Bearer sim-apixo-key"])
def test_a_wrong_key_is_refused_by_both_endpoints_in_their_own_words(endpoint: Endpoint, value: str) -> None:
    header = {"Authorization": value}
    submitted = endpoint.post(_body(), headers=header)
    read = endpoint.http.get(f"{endpoint.url}/tasks/task-unified-1-abc", headers=header)
    assert (submitted.status_code, read.status_code) == (401, 401)
    assert (submitted.json()["error"]["code"], read.json()["error"]["code"]) == (401, "unauthorized")
    assert submitted.json()["error"]["type"] == read.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("task_id", "status", "code"),
    [("task-unified-1757169743-7cvnl5zw", 404, "task_not_found"), ("task_12345678", 400, "invalid_task_id")],
)
def test_a_strange_task_id_is_refused_as_documented(endpoint: Endpoint, task_id: str, status: int, code: str) -> None:
    answer = endpoint.read(task_id)
    assert (status, code) == (answer.status_code, answer.json()["error"]["code"])


def test_a_task_of_another_vendor_is_not_found(endpoint: Endpoint, apixo: Apixo) -> None:
    task_id = endpoint.accepts(_body())["id"]
    assert apixo.read(task_id).status_code == 404


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "insufficient_quota"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "insufficient_quota"),
    ],
)
def test_a_refusal_on_demand_has_the_documented_type(endpoint: Endpoint, status: int, kind: str) -> None:
    error = endpoint.refuses(_body(prompt=f"no [[sim:reject={status}]]"), status=status)
    assert kind == error["type"]


def test_a_throttled_submission_says_when_to_come_again(endpoint: Endpoint) -> None:
    answer = endpoint.post(_body(prompt=f"slower {time.time()} [[sim:throttle=1,7]]"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    error = answer.json()["error"]
    assert (error["type"], error["fallback_suggestion"]) == ("rate_limit_error", "retry after 60 seconds")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("quality", ["720p", "1080p"])
def test_the_charge_is_the_seconds_of_the_clip_and_of_its_references(
    endpoint: Endpoint, model: str, quality: str
) -> None:
    for videos in (1, 2, 3) if model in REFERENCES else (0,):
        media = {"video_urls": [MP4] * videos} if videos else {}
        task = endpoint.accepts(_body(model, quality=quality, duration=7, **media))
        micros = PRICE_MICROS_PER_S[MODES[model]][quality] * (7000 + BILLED_INPUT_MS[videos]) // 1000
        assert micros == endpoint.job(task["id"])["charged_micros"]
        assert micros == round(task["usage"]["credits_reserved"] * 10_000)


def test_the_references_billed_are_these() -> None:
    """E, 'Input video billing rules', written down a second time."""
    assert BILLED_INPUT_MS == {0: 0, 1: 5000, 2: 5000, 3: 4950}


def test_a_completed_task_shows_its_clip(endpoint: Endpoint) -> None:
    task_id = endpoint.accepts(_body(prompt="a fox", duration=2, aspect_ratio="9:16"))["id"]
    task = endpoint.ended(task_id)
    (url,) = task.pop("results")
    assert endpoint.http.get(url).headers["content-type"] == "video/mp4"
    assert {"id": task_id, "status": "completed", "progress": 100}.items() <= task.items()
    assert task["task_info"] == {"can_cancel": False}
    assert "error" not in task


@pytest.mark.parametrize("code", ["content_policy_violation", "request_cancelled", "generation_timeout", "odd_code"])
def test_a_failed_task_shows_its_error_and_costs_nothing(endpoint: Endpoint, code: str) -> None:
    task_id = endpoint.accepts(_body(prompt=f"bad luck [[sim:fail={code}]]"))["id"]
    task = endpoint.ended(task_id)
    assert (task["error"]["code"], task["error"]["type"]) == (code, "task_error")
    assert "results" not in task
    job = endpoint.job(task_id)
    assert job["refunded_micros"] == job["charged_micros"] > 0


def test_a_callback_is_the_task_retried_three_times_and_acknowledged_by_any_2xx(endpoint: Endpoint) -> None:
    with sink(500, 302, 204) as receiver:
        task_id = endpoint.accepts(_body(prompt="called [[sim:fail=service_error]]", callback_url=receiver.url))["id"]
        until(lambda: endpoint.job(task_id), lambda job: job["callback_acknowledged"])
        task = endpoint.read(task_id).json()
    assert receiver.bodies == [task] * 3
    with sink(500, 500, 500, 500, 500) as receiver:
        task_id = endpoint.accepts(_body(prompt="gone [[sim:fail=service_error]]", callback_url=receiver.url))["id"]
        until(lambda: endpoint.job(task_id), lambda job: len(job["callbacks"]) == 4)
    assert len(receiver.bodies) == 4


def test_an_answer_never_repeats_what_was_sent(endpoint: Endpoint) -> None:
    answer = endpoint.post(_body(prompt="canary-prompt", quality="canary-quality"))
    assert answer.status_code == 400
    assert "canary" not in answer.text
