"""Every rule that the documents of gptimage2 and of the API it mirrors have for a request, just inside and outside."""

import re
import time
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from onetake.dev.simulator.gptimage2 import BILLED_INPUT_MS, MODES, PRICE_MICROS_PER_S
from tests.clock import Clock
from tests.dev.simulator.calls import LIMIT_S, Apixo, sink, until
from tests.dev.simulator.rules.gptimage2 import MODELS, MP4, REFERENCE, REFERENCES, TEXT, body_of


class Endpoint:
    """Calls to the simulated vendor by its document alone."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = f"{url}/gptimage2/v1"
        self.http = http
        self._journal = f"{url}/journal"

    def post(self, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(f"{self.url}/videos/generations", json=body, **options)

    def read(self, task_id: str) -> httpx.Response:
        return self.http.get(f"{self.url}/tasks/{task_id}")

    def accepts(self, body: Any) -> dict[str, Any]:
        answer = self.post(body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refuses(self, body: Any, param: str = "", status: int = 400) -> dict[str, Any]:
        jobs = self.journal()["totals"]["jobs"]
        answer = self.post(body)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["code"] == status
        assert error.get("param", "").startswith(param)
        assert jobs == self.journal()["totals"]["jobs"]
        return error

    def ended(self, task_id: str) -> dict[str, Any]:
        return until(lambda: self.read(task_id).json(), lambda task: task["status"] in ("completed", "failed"))

    def job(self, task_id: str) -> dict[str, Any]:
        return self.http.get(f"{self._journal}/jobs/{task_id}").json()

    def journal(self) -> dict[str, Any]:
        return self.http.get(self._journal, params={"vendor": "gptimage2"}).json()


@pytest.fixture
def endpoint(apixo: Apixo) -> Generator[Endpoint]:
    """The other vendor of the folder's simulator, with its own key."""
    headers = {"Authorization": "Bearer sim-gptimage2-key"}
    with httpx.Client(timeout=LIMIT_S, headers=headers, trust_env=False) as http:
        yield Endpoint(apixo.url, http)


def test_the_guides_own_examples_are_accepted(endpoint: Endpoint) -> None:
    text = {"aspect_ratio": "16:9", "quality": "720p", "duration": 10, "prompt_extend": True}
    clip = "https://your-cdn.example.com/reference-character.mp4"
    endpoint.accepts(body_of(TEXT, **text))
    endpoint.accepts(body_of(REFERENCE, video_urls=[clip], duration=5))


@pytest.mark.parametrize("model", MODELS)
def test_each_model_needs_no_more_than_its_prompt_and_its_media(endpoint: Endpoint, model: str) -> None:
    job = endpoint.job(endpoint.accepts(body_of(model))["id"])
    assert (MODES[model], 5, "720p", True) == (job["mode"], job["duration_s"], job["resolution"], job["sound"])
    assert (job["width"], job["height"]) == (1280, 720)


def test_an_accepted_task_is_shown_as_documented(endpoint: Endpoint, clock: Clock) -> None:
    task = endpoint.accepts(body_of(duration=7))
    assert re.fullmatch(r"task-unified-\d{10}-[a-z0-9]{8}", task.pop("id"))
    assert task.pop("created") == int(clock.time())
    assert task == {
        "model": TEXT,
        "object": "video.generation.task",
        "progress": 0,
        "status": "pending",
        "task_info": {"can_cancel": True, "estimated_time": 0, "video_duration": 7},
        "type": "video",
        "usage": {"billing_rule": "per_second", "credits_reserved": 56, "user_group": "default"},
    }


def test_the_longest_callback_address_is_accepted(endpoint: Endpoint) -> None:
    url = "https://your-domain.com/webhooks/".ljust(2048, "x")
    assert endpoint.job(endpoint.accepts(body_of(callback_url=url))["id"])["callback_host"] == "your-domain.com"


@pytest.mark.parametrize("model", ["wan2.7-text-to-video", "wan2.6-text-to-video-flash", "WAN2.6-TEXT-TO-VIDEO", ""])
def test_another_model_is_not_found(endpoint: Endpoint, model: str) -> None:
    error = endpoint.refuses(body_of(model), status=404)
    assert (error["type"], error["message"]) == ("not_found_error", "Specified model not found")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_body_that_is_not_a_submission_is_refused(endpoint: Endpoint, content: bytes) -> None:
    url, kind = f"{endpoint.url}/videos/generations", {"Content-Type": "application/json"}
    answer = endpoint.http.post(url, content=content, headers=kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


def test_the_content_type_must_be_json(endpoint: Endpoint) -> None:
    assert endpoint.post(body_of(), headers={"Content-Type": "text/plain"}).status_code == 400


@pytest.mark.parametrize("value", ["", "Bearer wrong", "Basic sim-gptimage2-key", "Bearer sim-apixo-key"])
def test_a_wrong_key_is_refused_by_both_endpoints_in_their_own_words(endpoint: Endpoint, value: str) -> None:
    header = {"Authorization": value}
    submitted = endpoint.post(body_of(), headers=header)
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
    task_id = endpoint.accepts(body_of())["id"]
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
    error = endpoint.refuses(body_of(prompt=f"no [[sim:reject={status}]]"), status=status)
    assert kind == error["type"]


def test_a_throttled_submission_says_when_to_come_again(endpoint: Endpoint) -> None:
    answer = endpoint.post(body_of(prompt=f"slower {time.time()} [[sim:throttle=1,7]]"))
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
        task = endpoint.accepts(body_of(model, quality=quality, duration=7, **media))
        micros = PRICE_MICROS_PER_S[MODES[model]][quality] * (7000 + BILLED_INPUT_MS[videos]) // 1000
        assert micros == endpoint.job(task["id"])["charged_micros"]
        assert micros == round(task["usage"]["credits_reserved"] * 10_000)


def test_the_references_billed_are_these() -> None:
    """E, 'Input video billing rules', written down a second time."""
    assert BILLED_INPUT_MS == {0: 0, 1: 5000, 2: 5000, 3: 4950}


def test_a_completed_task_shows_its_clip(endpoint: Endpoint) -> None:
    task_id = endpoint.accepts(body_of(prompt="a fox", duration=2, aspect_ratio="9:16"))["id"]
    task = endpoint.ended(task_id)
    (url,) = task.pop("results")
    assert endpoint.http.get(url).headers["content-type"] == "video/mp4"
    assert {"id": task_id, "status": "completed", "progress": 100}.items() <= task.items()
    assert task["task_info"] == {"can_cancel": False}
    assert "error" not in task


@pytest.mark.parametrize("code", ["content_policy_violation", "request_cancelled", "generation_timeout", "odd_code"])
def test_a_failed_task_shows_its_error_and_costs_nothing(endpoint: Endpoint, code: str) -> None:
    task_id = endpoint.accepts(body_of(prompt=f"bad luck [[sim:fail={code}]]"))["id"]
    task = endpoint.ended(task_id)
    assert (task["error"]["code"], task["error"]["type"]) == (code, "task_error")
    assert "results" not in task
    job = endpoint.job(task_id)
    assert job["refunded_micros"] == job["charged_micros"] > 0


def test_a_callback_is_the_task_retried_three_times_and_acknowledged_by_any_2xx(endpoint: Endpoint) -> None:
    with sink(500, 302, 204) as receiver:
        task_id = endpoint.accepts(body_of(prompt="called [[sim:fail=service_error]]", callback_url=receiver.url))["id"]
        until(lambda: endpoint.job(task_id), lambda job: job["callback_acknowledged"])
        task = endpoint.read(task_id).json()
    assert receiver.bodies == [task] * 3
    with sink(500, 500, 500, 500, 500) as receiver:
        task_id = endpoint.accepts(body_of(prompt="gone [[sim:fail=service_error]]", callback_url=receiver.url))["id"]
        until(lambda: endpoint.job(task_id), lambda job: len(job["callbacks"]) == 4)
    assert len(receiver.bodies) == 4


def test_an_answer_never_repeats_what_was_sent(endpoint: Endpoint) -> None:
    answer = endpoint.post(body_of(prompt="canary-prompt", quality="canary-quality"))
    assert answer.status_code == 400
    assert "canary" not in answer.text
