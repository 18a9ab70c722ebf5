"""Every rule that wan26ai.app documents for a request, just inside and just outside, and the words of its answers."""

import calendar
import json
import math
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from tests.clock import Clock
from tests.dev.simulator.calls import LIMIT_S, seen, sink, until, web
from tests.dev.simulator.rules.wan26ai import MODES, STILL, body_of

CREDIT_MICROS = 5_000


class Wan26ai:
    """Calls to one simulator by someone who knows only the guide."""

    def __init__(self, url: str) -> None:
        headers = {"Authorization": "Bearer sim-wan26ai-key"}
        self.http = httpx.Client(base_url=url, timeout=LIMIT_S, headers=headers, trust_env=False)

    def post(self, body: Any, **options: Any) -> httpx.Response:
        return self.http.post("/wan26ai/api/generate", json=body, **options)

    def task(self, prompt: str, mode: str = "text-to-video", **fields: Any) -> str:
        answer = self.post(body_of(mode, prompt=prompt, **fields))
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["task_id"]

    def read(self, task_id: str) -> httpx.Response:
        return self.http.get("/wan26ai/api/status", params={"task_id": task_id})

    def state(self, task_id: str) -> dict[str, Any]:
        return self.read(task_id).json()["data"]

    def finished(self, task_id: str) -> dict[str, Any]:
        return until(lambda: self.state(task_id), lambda data: data["status"] in ("SUCCESS", "FAILED"))

    def job(self, task_id: str) -> dict[str, Any]:
        return self.http.get(f"/journal/jobs/{task_id}").json()

    def jobs(self) -> int:
        return self.http.get("/journal", params={"vendor": "wan26ai"}).json()["totals"]["jobs"]


@pytest.fixture(scope="module")
def wan26ai(clips_home: Path) -> Generator[Wan26ai]:
    with running(SimulatorConfig(clips_home=clips_home, render_s=0.2, callback_gap_scale=0.02)) as url:
        client = Wan26ai(url)
        with client.http:
            yield client


def _accepts(wan26ai: Wan26ai, body: Any) -> str:
    answer = wan26ai.post(body)
    assert answer.status_code == 200, answer.text
    task_id = answer.json()["data"]["task_id"]
    expected = {"code": 200, "message": "success", "data": {"task_id": task_id, "status": "IN_PROGRESS"}}
    assert expected == answer.json()
    return task_id


@pytest.mark.parametrize("mode", MODES)
def test_each_model_needs_no_more_than_its_prompt_and_its_media(wan26ai: Wan26ai, mode: str) -> None:
    task_id = _accepts(wan26ai, body_of(mode))
    assert re.fullmatch(r"n35[0-9a-f]{12}wan26", task_id), "the form of the sample response"
    job = wan26ai.job(task_id)
    assert (mode, 5, "1080p", True) == (job["mode"], job["duration_s"], job["resolution"], job["sound"])
    assert (1920, 1080, f"wan/2-6-{mode}") == (job["width"], job["height"], job["model"])


def test_the_documents_own_examples_are_accepted(wan26ai: Wan26ai) -> None:
    _accepts(wan26ai, body_of(duration="5", resolution="1080p"))
    _accepts(wan26ai, body_of("image-to-video", duration="5", resolution="720p"))
    _accepts(wan26ai, body_of("video-to-video", duration="5", resolution="720p"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_body_that_is_not_a_submission_is_refused(wan26ai: Wan26ai, content: bytes) -> None:
    kind = {"Content-Type": "application/json"}
    answer = wan26ai.http.post("/wan26ai/api/generate", content=content, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)


def test_the_content_type_must_be_json(wan26ai: Wan26ai) -> None:
    assert wan26ai.post(body_of(), headers={"Content-Type": "text/plain"}).status_code == 400


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", "Bearer sim-apixo-key", "sim-wan26ai-key"])
def test_a_wrong_key_is_refused_by_every_endpoint(wan26ai: Wan26ai, value: str) -> None:
    header = {"Authorization": value}
    path = "/wan26ai/api/status"
    for answer in (
        wan26ai.post(body_of(), headers=header),
        wan26ai.http.get(path, params={"task_id": "n35"}, headers=header),
        wan26ai.http.post(path, json={"task_id": "n35"}, headers=header),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, 401)
        assert answer.json()["message"].startswith("Unauthorized - Missing or invalid API key.")


def test_a_task_is_read_by_get_and_by_post_alike(wan26ai: Wan26ai, clock: Clock) -> None:
    task_id = _accepts(wan26ai, body_of(callback_url="https://example.com/hook", public=False))
    data = wan26ai.state(task_id)
    assert data == wan26ai.http.post("/wan26ai/api/status", json={"task_id": task_id}).json()["data"]
    names = "task_id status request response consumed_credits error_message created_at"
    assert names.split() == list(data)
    assert (data["task_id"], data["status"], data["response"], data["error_message"]) == (
        task_id,
        "IN_PROGRESS",
        None,
        None,
    )
    sanitized = {"model": "wan/2-6-text-to-video", "prompt": STILL, "duration": "5", "resolution": "1080p"}
    assert sanitized == data["request"], "no callback address"
    assert data["consumed_credits"] == 115, "credits deduct when the task is created"
    created_at = time.strptime(data["created_at"], "%Y-%m-%dT%H:%M:%SZ")
    assert calendar.timegm(created_at) == int(clock.time())


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"{}", 400), (b'{"task_id":7}', 400), (b'{"task_id":"x","y":1}', 400), (b'{"task_id":"x"}', 404)],
)
def test_a_post_that_names_no_task_of_ours_is_refused(wan26ai: Wan26ai, content: bytes, status: int) -> None:
    kind = {"Content-Type": "application/json"}
    answer = wan26ai.http.post("/wan26ai/api/status", content=content, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (status, status)


def test_an_unknown_task_another_path_and_another_method_are_not_found(wan26ai: Wan26ai) -> None:
    assert wan26ai.read("n35000000000000wan26").json()["code"] == 404
    assert wan26ai.http.get("/wan26ai/api/elsewhere").json()["code"] == 404
    assert wan26ai.http.get("/wan26ai/api/generate").json()["code"] == 404
    assert wan26ai.http.get("/wan26ai/api/status").json()["code"] == 400


def test_a_success_has_one_link_that_delivers_the_clip_as_ordered(wan26ai: Wan26ai) -> None:
    data = wan26ai.finished(wan26ai.task("a fox", resolution="720p"))
    assert (data["status"], data["consumed_credits"], data["error_message"]) == ("SUCCESS", 80, None)
    (url,) = data["response"]
    clip = seen(web.get(url).content)
    assert (clip["pixels"], clip["has_sound"], clip["video_frames"]) == ((1280, 720), True, 120)


def test_a_failed_job_is_refunded_and_says_so(wan26ai: Wan26ai) -> None:
    task_id = wan26ai.task("[[sim:fail=SensitiveContent]]")
    data = wan26ai.finished(task_id)
    assert (data["status"], data["consumed_credits"], data["response"]) == ("FAILED", 0, None)
    assert "SensitiveContent" in data["error_message"]
    job = wan26ai.job(task_id)
    assert (job["charged_micros"], job["refunded_micros"]) == (115 * CREDIT_MICROS, 115 * CREDIT_MICROS)


def test_a_failed_job_that_is_not_refunded_keeps_its_credits(clips_home: Path) -> None:
    config = SimulatorConfig(clips_home=clips_home, render_s=0.05, refund_failed_jobs={"wan26ai": False})
    with running(config) as url:
        client = Wan26ai(url)
        with client.http:
            task_id = client.task("[[sim:fail=Timeout]]")
            assert client.finished(task_id)["consumed_credits"] == 115
            assert client.job(task_id)["refunded_micros"] == 0


# "Credit consumption", written down a second time.
PRESETS = {"720p": {"5": 80, "10": 150, "15": 220}, "1080p": {"5": 115, "10": 220, "15": 325}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resolution", PRESETS)
def test_the_charge_is_the_preset_of_the_guide(wan26ai: Wan26ai, mode: str, resolution: str) -> None:
    for duration, credits_deducted in PRESETS[resolution].items():
        if (mode, duration) != ("video-to-video", "15"):
            job = wan26ai.job(_accepts(wan26ai, body_of(mode, resolution=resolution, duration=duration)))
            assert credits_deducted * CREDIT_MICROS == job["charged_micros"]


def test_a_callback_is_the_status_answer_sent_once_whatever_is_answered(wan26ai: Wan26ai) -> None:
    with sink(500) as receiver:
        task_id = wan26ai.task("a fox", callback_url=receiver.url)
        until(lambda: wan26ai.job(task_id), lambda job: job["callbacks"])
        assert receiver.bodies == [wan26ai.read(task_id).json()]
        with pytest.raises(AssertionError):
            until(lambda: len(receiver.bodies), lambda count: count > 1, 0.3)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (402, "Payment Required - Credit balance could not cover the deduction."),
        (404, "Not Found"),
    ],
)
def test_a_refusal_on_demand_has_the_vendors_words_at_either_status(wan26ai: Wan26ai, status: int, words: str) -> None:
    plain = wan26ai.post(body_of(prompt=f"[[sim:reject={status}]]"))
    inside = wan26ai.post(body_of(prompt=f"[[sim:reject-200={status}]]"))
    assert (status, 200) == (plain.status_code, inside.status_code)
    for answer in (plain, inside):
        assert answer.json()["code"] == status
        assert answer.json()["message"].startswith(words)


def test_the_other_faults_play_on_this_wire_too(wan26ai: Wan26ai) -> None:
    nameless = wan26ai.post(body_of(prompt="[[sim:submit-no-id]][[sim:never]]"))
    assert nameless.json() == {"code": 200, "message": "success", "data": {"status": "IN_PROGRESS"}}
    odd = wan26ai.task("[[sim:status-unknown]][[sim:never]]")
    assert wan26ai.state(odd)["status"] not in ("IN_PROGRESS", "SUCCESS", "FAILED")
    throttled = body_of(prompt="[[sim:throttle=1,3]][[sim:never]]")
    first = wan26ai.post(throttled)
    assert (first.status_code, first.headers["retry-after"]) == (429, "3")
    assert wan26ai.post(throttled).status_code == 200
    bare = wan26ai.finished(wan26ai.task("[[sim:no-url]][[sim:delay=0]]"))
    assert (bare["status"], bare["response"]) == ("SUCCESS", [])


def test_an_answer_never_repeats_what_was_sent(wan26ai: Wan26ai) -> None:
    for fields in ({"resolution": "canary"}, {"seed": "canary"}, {"model": "canary"}, {"duration": "canary"}):
        answer = wan26ai.post(body_of(prompt="canary", **fields))
        assert answer.status_code == 400
        assert "canary" not in answer.text


def test_the_journal_holds_no_prompt_and_a_restart_forgets_the_shown_request(tmp_path: Path) -> None:
    for restarted in (False, True):
        with running(SimulatorConfig(home=tmp_path)) as url:
            client = Wan26ai(url)
            with client.http:
                task_id = client.http.get("/journal").json()["jobs"][0]["task_id"] if restarted else client.task(STILL)
                assert bool(client.state(task_id)["request"]) is not restarted
    assert "neon rain" not in (tmp_path / "journal.jsonl").read_text()


@pytest.mark.parametrize(("percent", "credits_consumed"), [(50, 40), (100, 80), (150, 120)])
def test_another_charge_than_the_price_is_booked_and_said(
    wan26ai: Wan26ai, percent: int, credits_consumed: int
) -> None:
    task_id = wan26ai.task(f"[[sim:charge={percent}]]", resolution="720p")
    assert wan26ai.finished(task_id)["consumed_credits"] == credits_consumed
    assert wan26ai.job(task_id)["charged_micros"] == credits_consumed * CREDIT_MICROS


@pytest.mark.parametrize("said", ["-80", "1000000000000", '"eighty"', "null", '{"EUR":80}'])
def test_a_cost_that_makes_no_sense_is_said_and_not_booked(wan26ai: Wan26ai, said: str) -> None:
    task_id = wan26ai.task(f"[[sim:cost={said}]]", resolution="720p")
    assert wan26ai.finished(task_id)["consumed_credits"] == json.loads(said)
    assert wan26ai.job(task_id)["charged_micros"] == 80 * CREDIT_MICROS


def test_a_cost_can_be_no_number_at_all(wan26ai: Wan26ai) -> None:
    task_id = wan26ai.task("[[sim:cost=NaN]]", resolution="720p")
    assert math.isnan(wan26ai.finished(task_id)["consumed_credits"])
