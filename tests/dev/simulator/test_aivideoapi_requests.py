"""What the simulated aivideoapi.ai accepts, refuses and answers: every documented rule just inside and just outside."""

import time
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from tests.clock import Clock
from tests.dev.simulator.calls import LIMIT_S, seen, sink, until, web
from tests.dev.simulator.rules.aivideoapi import KEY, MODES, STILL, body_of

GENERATIONS, TASKS, CREDITS = "/aivideoapi/v1/videos/generations", "/aivideoapi/v1/tasks", "/aivideoapi/v1/credits"


class Caller:
    """Calls to one simulator; it knows nothing but the document."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(
            base_url=url, timeout=LIMIT_S, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
        )

    def post(self, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(GENERATIONS, json=body, **options)

    def submit(self, prompt: str, mode: str = "text-to-video", callback: str = "", **fields: Any) -> httpx.Response:
        body = body_of(mode, prompt=prompt, **fields)
        return self.post(body | {"callback_url": callback} if callback else body)

    def task(self, prompt: str, mode: str = "text-to-video", callback: str = "", **fields: Any) -> str:
        answer = self.submit(prompt, mode, callback, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]["taskId"]

    def read(self, task_id: str) -> httpx.Response:
        return self.http.get(f"{TASKS}/{task_id}")

    def ended(self, task_id: str) -> dict[str, Any]:
        return until(lambda: self.read(task_id).json(), lambda task: task["status"] in ("completed", "failed"))

    def job(self, task_id: str) -> dict[str, Any]:
        return self.http.get(f"/journal/jobs/{task_id}").json()

    def jobs(self) -> int:
        return self.http.get("/journal").json()["totals"]["jobs"]


@pytest.fixture(scope="module")
def vendor(clips_home: Path) -> Generator[Caller]:
    with running(SimulatorConfig(clips_home=clips_home, render_s=0.2)) as url:
        caller = Caller(url)
        with caller.http:
            yield caller


def _accepts(vendor: Caller, body: Any) -> str:
    answer = vendor.post(body)
    assert answer.status_code == 200, answer.text
    task_id = answer.json()["data"]["taskId"]
    assert answer.json() == {"code": 200, "msg": "success", "data": {"taskId": task_id}}
    return task_id


def _refuses(vendor: Caller, body: Any, words: str = "") -> None:
    jobs = vendor.jobs()
    answer = vendor.post(body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert {"error": {"code": "invalid_request", "type": "invalid_request_error", "message": error["message"]}} == (
        answer.json()
    )
    assert words in error["message"]
    assert jobs == vendor.jobs()


@pytest.mark.parametrize("mode", MODES)
def test_each_model_needs_no_more_than_its_prompt_and_its_media(vendor: Caller, mode: str) -> None:
    task_id = _accepts(vendor, body_of(mode))
    assert str(uuid.UUID(task_id)) == task_id
    job = vendor.job(task_id)
    assert (f"wan-2.6-{mode}", mode, 5, "1080p") == (job["model"], job["mode"], job["duration_s"], job["resolution"])
    assert (job["width"], job["height"], job["sound"]) == (1920, 1080, True)


def test_the_documents_own_examples_are_accepted(vendor: Caller) -> None:
    callback = {"callback_url": "https://your-server.com/webhook"}
    shape = {"aspect_ratio": "16:9", "resolution": "1080p"}
    for body in (
        body_of(duration=5, **shape),
        body_of("image-to-video", resolution="1080p", duration=5),
        body_of("reference-to-video", duration=8, shot_type="multi", **shape),
    ):
        _accepts(vendor, body | callback)


@pytest.mark.parametrize("field", ["prompt", "mode", "webhook"])
def test_an_unknown_field_beside_the_input_is_refused(vendor: Caller, field: str) -> None:
    _refuses(vendor, body_of() | {field: "x"}, field)


def test_the_model_must_be_named_and_known(vendor: Caller) -> None:
    nameless = {"input": body_of()["input"]}
    assert vendor.post(nameless).json()["error"] == {
        "code": "invalid_request",
        "message": "'model' is required.",
        "type": "invalid_request_error",
    }
    for model in ("wan-2.6", "wan-2.7-text-to-video", "wan-2.6-text-to-video-flash", "", 7):
        answer = vendor.post(nameless | {"model": model})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "url", [None, "", "no url", "http://example.com/h", "https://10.0.0.7/h", "https://intranet/h", "ftp://127.0.0.1/h"]
)
def test_a_callback_needs_a_public_https_address(vendor: Caller, url: Any) -> None:
    _refuses(vendor, body_of() | {"callback_url": url}, "callback_url")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b"{}"])
def test_a_body_that_is_not_a_submission_is_refused(vendor: Caller, content: bytes) -> None:
    answer = vendor.http.post(GENERATIONS, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_the_content_type_must_be_json(vendor: Caller) -> None:
    assert vendor.post(body_of(), headers={"Content-Type": "text/plain"}).status_code == 400


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer sk-other", "Bearer sim-aivideoapi-key", f"Basic {KEY}", KEY])
def test_a_wrong_key_is_refused_by_every_endpoint(vendor: Caller, value: str) -> None:
    header = {"Authorization": value}
    answers = (
        vendor.post(body_of(), headers=header),
        vendor.http.get(f"{TASKS}/{uuid.uuid4()}", headers=header),
        vendor.http.get(CREDITS, headers=header),
    )
    for answer in answers:
        assert answer.status_code == 401
        assert (answer.json()["error"]["code"], answer.json()["error"]["type"]) == (
            "invalid_api_key",
            "authentication_error",
        )


def test_a_key_without_its_prefix_is_refused_even_when_it_was_configured() -> None:
    keyed = SimulatorConfig(api_keys={"aivideoapi": "own-key"})
    with running(keyed) as url:
        answer = web.get(f"{url}{CREDITS}", headers={"Authorization": "Bearer own-key"})
    assert answer.status_code == 401


def test_another_path_and_another_task_are_not_found(vendor: Caller) -> None:
    unknown = vendor.read(str(uuid.uuid4()))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "task_not_found")
    assert vendor.http.get("/aivideoapi/v1/models").status_code == 404
    assert "error" in vendor.http.get(GENERATIONS).json()


def test_a_task_is_the_one_of_the_document_from_pending_to_completed(vendor: Caller, clock: Clock) -> None:
    task_id = vendor.task("[[sim:delay=3]] a fox", duration=2, resolution="720p", aspect_ratio="3:4")
    first = vendor.read(task_id).json()
    head = {"id": task_id, "model": "wan-2.6-text-to-video", "created_at": first["created_at"]}
    assert head | {"status": "pending", "progress": None} == first
    assert first["created_at"] == int(clock.time())
    clock.advance(1)
    assert vendor.read(task_id).json()["status"] == "processing"
    clock.advance(2)
    done = vendor.read(task_id).json()
    (url,) = done["output"]["urls"]
    completed = {"status": "completed", "completed_at": done["completed_at"]}
    assert head | completed | {"output": {"urls": [url], "metadata": {}}} == done
    assert isinstance(done["completed_at"], int)
    clip = seen(web.get(url).content)
    assert (clip["video_frames"], clip["pixels"], clip["has_sound"]) == (48, (832, 1088), True)


def test_without_audio_the_clip_is_silent(vendor: Caller) -> None:
    task_id = vendor.task("a fox", "image-to-video", duration=2, resolution="720p", audio=False)
    (url,) = vendor.ended(task_id)["output"]["urls"]
    assert not seen(web.get(url).content)["has_sound"]


def test_a_failed_task_says_why_and_is_refunded(vendor: Caller) -> None:
    task_id = vendor.task("[[sim:fail=upstream_error]]", duration=2)
    failed = vendor.ended(task_id)
    assert set(failed) == {"id", "status", "model", "created_at", "error"}
    assert failed["error"] == {"code": "upstream_error", "message": "Upstream AI provider returned an error"}
    job = vendor.job(task_id)
    assert (job["charged_micros"], job["refunded_micros"]) == (400_000, 400_000)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("resolution", "credits_per_s"), [("720p", 24), ("1080p", 40)])
def test_the_charge_is_seconds_times_the_documented_credits(
    vendor: Caller, mode: str, resolution: str, credits_per_s: int
) -> None:
    job = vendor.job(_accepts(vendor, body_of(mode, resolution=resolution, duration=7)))
    assert 7 * credits_per_s * 5_000 == job["charged_micros"]


def test_the_balance_falls_by_what_is_charged_and_rises_by_what_is_refunded(clips_home: Path) -> None:
    with running(SimulatorConfig(clips_home=clips_home, render_s=0.05)) as url:
        caller = Caller(url)
        with caller.http:
            before = caller.http.get(CREDITS).json()
            assert (before["code"], before["msg"], before["data"]["total_consumed"]) == (200, "success", 0)
            caller.task(STILL, duration=2, resolution="720p")
            caller.ended(caller.task("[[sim:fail=upstream_error]]", duration=2))
            after = caller.http.get(CREDITS).json()["data"]
    assert (after["total_consumed"], after["balance"]) == (48, before["data"]["balance"] - 48)
    assert after["total_purchased"] == before["data"]["total_purchased"]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", "invalid_request_error"),
        (401, "invalid_api_key", "authentication_error"),
        (402, "insufficient_credits", "billing_error"),
        (403, "ip_not_allowed", "permission_error"),
        (404, "model_not_found", "invalid_request_error"),
        (429, "spend_limit_exceeded", "billing_error"),
    ],
)
def test_reject_refuses_with_the_documented_error(vendor: Caller, status: int, code: str, kind: str) -> None:
    answer = vendor.submit(f"[[sim:reject={status}]]")
    assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["type"]) == (status, code, kind)


def test_throttle_is_the_other_429(vendor: Caller) -> None:
    answers = [vendor.submit("[[sim:throttle=1,7]][[sim:never]]") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 200]
    assert answers[0].json()["error"]["code"] == "rate_limit_exceeded"
    assert answers[0].headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("marker", "status", "code"),
    [("submit-500", 500, "internal_error"), ("submit-502-accepted", 502, "internal_error")],
)
def test_a_failing_server_answers_in_the_vendors_envelope(vendor: Caller, marker: str, status: int, code: str) -> None:
    answer = vendor.submit(f"[[sim:{marker}]][[sim:never]]")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_an_error_in_a_200_stands_in_the_envelope_of_a_success(vendor: Caller) -> None:
    answer = vendor.submit("[[sim:reject-200=402]]")
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, 402, None)
    assert vendor.submit("[[sim:submit-no-id]][[sim:never]]").json() == {"code": 200, "msg": "success", "data": {}}


def test_status_faults_answer_with_the_vendors_words(vendor: Caller) -> None:
    task_id = vendor.task("[[sim:status-404=1]][[sim:status-429=1]][[sim:status-unknown]][[sim:never]]")
    missing, hasty, odd = (vendor.read(task_id) for _ in range(3))
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "task_not_found")
    assert (hasty.status_code, hasty.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert odd.json()["status"] == "reviewing"
    assert vendor.ended(vendor.task("[[sim:no-url]] a fox", duration=2))["output"]["urls"] == []


def test_a_callback_is_the_task_and_is_sent_once(vendor: Caller) -> None:
    with sink(500) as refused, sink() as receiver:
        lost = vendor.task("[[sim:delay=0.05]] a fox", callback=refused.url, duration=2)
        task_id = vendor.task("[[sim:delay=0.05]] a fox", callback=receiver.url, duration=2)
        until(lambda: vendor.job(task_id)["callback_acknowledged"], bool)
        assert [vendor.read(task_id).json()] == receiver.bodies
        until(lambda: len(vendor.job(lost)["callbacks"]), lambda tried: tried == 1)
        time.sleep(0.2)
        assert [tried["outcome"] for tried in vendor.job(lost)["callbacks"]] == ["500"], "no retry is documented"
