"""Every rule that GMI's guides document for a request, just inside and just outside, and the queue's own answers."""

import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from tests.clock import Clock
from tests.dev.simulator.calls import LIMIT_S, until
from tests.dev.simulator.rules.gmi import I2V, MODELS, MP3, R2V, SIZES, STILL, T2V, body_of
from tests.dev.simulator.rules.rules import REMOVED

QUEUE = "/gmi/api/v1/ie/requestqueue/apikey"


class Gmi:
    """Calls to one simulator, by one who knows only the documents."""

    def __init__(self, url: str) -> None:
        headers = {"Authorization": "Bearer sim-gmi-key"}
        self.http = httpx.Client(base_url=url, timeout=LIMIT_S, headers=headers, trust_env=False)

    def post(self, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(f"{QUEUE}/requests", json=body, **options)

    def submit(self, model: str = T2V, /, **fields: Any) -> httpx.Response:
        return self.post(body_of(model, **fields))

    def accepted(self, model: str = T2V, /, **fields: Any) -> str:
        answer = self.submit(model, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["request_id"]

    def read(self, request_id: str, **options: Any) -> httpx.Response:
        return self.http.get(f"{QUEUE}/requests/{request_id}", **options)

    def ended(self, request_id: str) -> dict[str, Any]:
        return until(
            lambda: self.read(request_id).json(), lambda body: body["status"] in ("success", "failed", "cancelled")
        )

    def job(self, request_id: str) -> dict[str, Any]:
        return self.http.get(f"/journal/jobs/{request_id}").json()

    def jobs(self) -> int:
        return self.http.get("/journal").json()["totals"]["jobs"]


@pytest.fixture(scope="session")
def gmi(clips_home: Path) -> Generator[Gmi]:
    with running(SimulatorConfig(clips_home=clips_home, render_s=0.2)) as url:
        client = Gmi(url)
        with client.http:
            yield client


@pytest.mark.parametrize("model", MODELS)
def test_each_model_needs_no_more_than_the_fields_it_calls_required(gmi: Gmi, model: str) -> None:
    fields = {} if model == T2V else {"prompt": REMOVED}
    job = gmi.job(gmi.accepted(model, **fields))
    assert (model, MODELS[model], 5, "1080p") == (job["model"], job["mode"], job["duration_s"], job["resolution"])
    assert (job["width"], job["height"], job["sound"]) == (1920, 1080, True)


@pytest.mark.parametrize("model", [T2V, R2V])
def test_a_size_is_a_tier_and_its_pixels(gmi: Gmi, model: str) -> None:
    for tier, sizes in SIZES.items():
        for size in sizes:
            job = gmi.job(gmi.accepted(model, size=size))
            assert (tier, size) == (job["resolution"], f"{job['width']}*{job['height']}")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("tier", "usd"), [("720p", "0.10"), ("1080p", "0.15")])
def test_a_clip_costs_the_development_price(gmi: Gmi, model: str, tier: str, usd: str) -> None:
    size = {"resolution": tier.upper()} if model == I2V else {"size": SIZES[tier][0]}
    job = gmi.job(gmi.accepted(model, duration=10, **size))
    assert (job["charged_micros"], job["refunded_micros"]) == (int(usd.replace(".", "")) * 100_000, 0)


@pytest.mark.parametrize(
    ("fields", "sound"), [({}, True), ({"audio": False}, False), ({"audio_url": MP3, "audio": False}, True)]
)
def test_audio_counts_only_without_an_audio_url(gmi: Gmi, fields: dict[str, Any], sound: bool) -> None:
    assert gmi.job(gmi.accepted(I2V, **fields))["sound"] is sound


@pytest.mark.parametrize("model", ["wan2.7-t2v", "wan2.6-T2V", "", "wan-2.6"])
def test_an_unknown_model_is_not_found(gmi: Gmi, model: str) -> None:
    answer = gmi.post({"model": model, "payload": {"prompt": STILL}})
    assert (answer.status_code, set(answer.json())) == (404, {"error"})


@pytest.mark.parametrize(
    "body",
    [
        {"payload": {"prompt": STILL}},
        {"model": None, "payload": {"prompt": STILL}},
        {"model": 7, "payload": {"prompt": STILL}},
        {"model": T2V},
        {"model": T2V, "payload": None},
        {"model": T2V, "payload": []},
        {"model": T2V, "prompt": STILL},
        {"model": T2V, "payload": {"prompt": STILL}, "callback_url": "https://example.com/hook"},
        [],
        "x",
        None,
    ],
)
def test_a_body_of_another_shape_is_refused(gmi: Gmi, body: Any) -> None:
    answer = gmi.post(body)
    assert (answer.status_code in (400, 404), set(answer.json())) == (True, {"error"})


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(gmi: Gmi, content: bytes) -> None:
    answer = gmi.http.post(f"{QUEUE}/requests", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (400, {"error"})


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_a_body_must_be_sent_as_json(gmi: Gmi, kind: str) -> None:
    assert gmi.post(body_of(), headers={"Content-Type": kind}).status_code == 400


def test_a_refusal_repeats_nothing_of_what_was_sent(gmi: Gmi) -> None:
    assert "canary" not in gmi.submit(T2V, prompt="canary", size="canary", seed="canary").text


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer wrong", "Basic sim-gmi-key", "sim-gmi-key"])
def test_a_wrong_key_is_refused_by_every_endpoint(gmi: Gmi, value: str) -> None:
    header = {"Authorization": value}
    answers = [gmi.post(body_of(), headers=header)]
    answers += [
        gmi.http.get(f"{QUEUE}/{path}", headers=header) for path in ("requests/x", "requests?model_id=x", "models")
    ]
    for answer in answers:
        assert (answer.status_code, set(answer.json())) == (401, {"error"})


@pytest.mark.parametrize("path", ["", "/requests/x/cancel", "/models/x", "/elsewhere"])
def test_another_path_is_not_found(gmi: Gmi, path: str) -> None:
    answer = gmi.http.get(f"{QUEUE}{path}")
    assert (answer.status_code, set(answer.json())) == (404, {"error"})


def test_nothing_cancels_a_request(gmi: Gmi, clock: Clock) -> None:
    request_id = gmi.accepted()
    assert gmi.http.delete(f"{QUEUE}/requests/{request_id}").status_code in (404, 405)
    clock.advance(0.1)
    assert gmi.read(request_id).json()["status"] in ("queued", "processing")


def test_a_receipt_names_the_request_and_its_times_in_whole_seconds(gmi: Gmi, clock: Clock) -> None:
    receipt = gmi.submit(I2V).json()
    assert {"request_id", "model", "status", "created_at", "updated_at", "queued_at"} == set(receipt)
    assert (receipt["model"], receipt["status"]) == (I2V, "queued")
    assert str(uuid.UUID(receipt["request_id"])) == receipt["request_id"]
    assert all(type(receipt[name]) is int for name in receipt if "_at" in name)
    assert {receipt[name] for name in receipt if "_at" in name} == {int(clock.time())}


@pytest.mark.usefixtures("clock")
def test_a_status_repeats_the_request_and_holds_no_outcome_before_the_end(gmi: Gmi) -> None:
    body = body_of(I2V, resolution="720P", seed=7)
    status = gmi.read(gmi.post(body).json()["request_id"]).json()
    assert (status["payload"], status["model"], status["outcome"]) == (body["payload"], I2V, None)
    assert (status["status"], status["is_public"]) == ("queued", False)
    assert "error" not in status


def test_a_success_holds_its_media_as_objects(gmi: Gmi) -> None:
    status = gmi.ended(gmi.accepted(T2V, prompt="a fox", size="1280*720"))
    (media,) = status["outcome"]["media_urls"]
    assert (status["status"], set(media), media["id"]) == ("success", {"id", "url"}, "0")
    assert gmi.http.get(media["url"]).headers["content-type"] == "video/mp4"
    assert status["updated_at"] >= status["created_at"]


@pytest.mark.parametrize(("code", "word"), [("Timeout", "failed"), ("cancelled", "cancelled")])
def test_a_failure_says_why_and_stays_charged(gmi: Gmi, code: str, word: str) -> None:
    request_id = gmi.accepted(T2V, prompt=f"a fox [[sim:fail={code}]]", size="1280*720")
    status, job = gmi.ended(request_id), gmi.job(request_id)
    assert (status["status"], status["outcome"]) == (word, None)
    assert status["error"].startswith(code)
    assert (job["charged_micros"], job["refunded_micros"]) == (500_000, 0)


def test_an_unknown_request_is_not_found(gmi: Gmi) -> None:
    answer = gmi.read("00000000-0000-4000-8000-000000000000")
    assert (answer.status_code, set(answer.json())) == (404, {"error"})


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("model", MODELS)
def test_the_list_holds_the_requests_of_one_model_newest_first_as_their_status_shows_them(gmi: Gmi, model: str) -> None:
    first, other, second = (
        gmi.accepted(model, seed=1),
        gmi.accepted(T2V if model != T2V else I2V),
        gmi.accepted(model, seed=2),
    )
    listed = gmi.http.get(f"{QUEUE}/requests", params={"model_id": model}).json()["requests"]
    assert [one["request_id"] for one in listed[:2]] == [second, first]
    assert {one["model"] for one in listed} == {model}
    assert other not in {one["request_id"] for one in listed}
    assert listed[0] == gmi.read(second).json()
    assert listed[0]["payload"]["seed"] == 2


@pytest.mark.parametrize("marker", ["submit-reset", "submit-502-accepted", "submit-no-id"])
def test_a_request_whose_answer_was_lost_is_in_the_list(gmi: Gmi, marker: str) -> None:
    prompt = f"lost {marker} [[sim:{marker}]][[sim:never]]"
    try:
        assert "request_id" not in gmi.submit(T2V, prompt=prompt).json()
    except httpx.TransportError:
        assert marker == "submit-reset"
    listed = gmi.http.get(f"{QUEUE}/requests", params={"model_id": T2V}).json()["requests"]
    assert sum(one["payload"]["prompt"] == prompt for one in listed) == 1


def test_the_list_wants_a_model_and_knows_when_there_is_nothing(gmi: Gmi) -> None:
    assert gmi.http.get(f"{QUEUE}/requests").status_code == 400
    assert gmi.http.get(f"{QUEUE}/requests", params={"model_id": "wan2.7-t2v"}).json() == {"requests": []}


def test_the_models_are_the_documented_three(gmi: Gmi) -> None:
    assert gmi.http.get(f"{QUEUE}/models").json() == {"model_ids": [*MODELS]}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_a_refusal_on_demand_has_the_vendors_envelope(gmi: Gmi, status: int) -> None:
    answer = gmi.submit(T2V, prompt=f"a fox [[sim:reject={status}]]")
    assert (answer.status_code, set(answer.json())) == (status, {"error"})


def test_what_was_said_is_never_written_down(tmp_path: Path) -> None:
    with running(SimulatorConfig(home=tmp_path)) as url:
        client = Gmi(url)
        with client.http:
            request_id = client.accepted(
                I2V, prompt="canary-prompt [[sim:never]]", img_url="https://example.com/canary"
            )
            assert client.read(request_id).json()["payload"]["prompt"].startswith("canary")
    assert "canary" not in (tmp_path / "journal.jsonl").read_text()
    with running(SimulatorConfig(home=tmp_path)) as url:
        client = Gmi(url)
        with client.http:
            assert client.read(request_id).json()["status"] in ("queued", "processing")
