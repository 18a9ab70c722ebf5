"""One job's life: states by the clock, the journal's truth, and the bytes that are delivered."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from onetake.dev.simulator import rendering
from onetake.dev.simulator.app import VENDORS, SimulatorConfig
from onetake.dev.simulator.journal import Journal
from onetake.dev.simulator.rendering import VARIANTS, Clip, render
from onetake.dev.simulator.server import running
from tests.clock import Clock
from tests.dev.simulator.calls import LIMIT_S, Apixo, seen, sink, until, web


@contextmanager
def simulator(**settings: Any) -> Generator[Apixo]:
    with running(SimulatorConfig(**settings)) as url:
        client = Apixo(url)
        with client.http:
            yield client


def test_a_job_is_pending_then_processing_then_done(clips_home: Path, clock: Clock) -> None:
    with simulator(clips_home=clips_home, render_s=4) as apixo:
        began_ms = clock.time() * 1000
        task_id = apixo.task("a fox", duration=2)
        first = apixo.state(task_id)
        assert {"taskId", "state", "createTime"} == set(first)
        assert first["state"] == "pending"
        assert abs(first["createTime"] - began_ms) <= 1, "milliseconds"
        clock.advance(1)
        assert apixo.state(task_id)["state"] == "processing"
        clock.advance(3)
        done = apixo.state(task_id)
        assert {"taskId", "state", "createTime", "completeTime", "costTime", "resultJson"} == set(done)
        assert (done["costTime"], done["state"]) == (4000, "success")
        assert abs(done["completeTime"] - done["createTime"] - 4000) <= 1


def test_the_result_is_a_json_text_with_one_link_that_stays_the_same(apixo: Apixo) -> None:
    task_id = apixo.task("a fox", duration=2)
    result = apixo.finished(task_id)["resultJson"]
    (url,) = json.loads(result)["resultUrls"]
    assert url.startswith(f"{apixo.url}/files/{task_id}/0.mp4?expires=")
    assert result == apixo.state(task_id)["resultJson"]


def test_an_unknown_task_is_not_found_and_a_missing_id_is_refused(apixo: Apixo) -> None:
    answer = apixo.read("task_unknown")
    assert (
        answer.status_code,
        answer.json()["code"],
        answer.json()["message"],
    ) == (404, 404, "Model or task not found")
    assert apixo.http.get("/apixo/api/v1/statusTask/wan-2-6-video").status_code == 400


@pytest.mark.parametrize(
    ("mode", "fields", "expected"),
    [
        ("text-to-video", {"duration": 2}, (2, (1280, 720), True)),
        ("text-to-video", {"duration": "3", "resolution": "1080p"}, (3, (1920, 1080), True)),
        ("image-to-video-flash", {"duration": 2, "sound": False}, (2, (1280, 720), False)),
    ],
)
def test_a_clip_is_playable_and_as_ordered(
    apixo: Apixo, mode: str, fields: dict[str, Any], expected: tuple[int, tuple[int, int], bool]
) -> None:
    duration_s, pixels, has_sound = expected
    clip = seen(web.get(apixo.link(apixo.task("a fox", mode, **fields))).content)
    assert abs(clip["duration_s"] - duration_s) < 0.05
    assert (24 * duration_s, pixels, has_sound) == (clip["video_frames"], clip["pixels"], clip["has_sound"])
    assert (["aac", "h264"] if has_sound else ["h264"]) == clip["codecs"]


def test_every_job_has_bytes_of_its_own(apixo: Apixo) -> None:
    tasks = [apixo.task("the same fox", duration=2) for _ in range(2 * VARIANTS)]
    contents = [web.get(apixo.link(task)).content for task in tasks]
    assert len(tasks) == len({hashlib.sha256(content).hexdigest() for content in contents})
    for task, content in zip(tasks, contents, strict=True):
        assert content.endswith(b"free" + task.encode())
        assert seen(content)["video_frames"] == 48


def test_the_variants_look_different(tmp_path: Path) -> None:
    pictures = set[bytes]()
    for variant in range(VARIANTS):
        path = tmp_path / f"{variant}.mp4"
        render(Clip(1, 320, 180, sound=False, variant=variant), path)
        with av.open(str(path)) as clip:
            chroma = next(clip.decode(video=0)).planes[1]
            pictures.add(bytes(chroma))
    assert len(pictures) == VARIANTS


def test_a_submission_never_waits_for_its_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_render = threading.Event()

    def rendered(clip: Clip, path: Path, stop: threading.Event) -> None:
        may_render.wait(LIMIT_S)
        render(clip, path, stop)

    monkeypatch.setattr(rendering, "render", rendered)
    with simulator(home=tmp_path, render_s=0) as apixo:
        url = apixo.link(apixo.task("a fox", duration=2))
        may_render.set()
        assert web.get(url).status_code == 200


def test_clips_can_be_rendered_beforehand(tmp_path: Path) -> None:
    with simulator(home=tmp_path) as apixo:
        order = {"duration_s": 2, "resolution": "720p", "sound": False}
        assert apixo.http.post("/control/prerender", json=order).json() == {"clips": VARIANTS}
        assert len(list((tmp_path / "clips").glob("2s-1280x720-silent-*.mp4"))) == VARIANTS
        assert apixo.http.post("/control/prerender", json=order | {"resolution": "8k"}).status_code == 400


def test_ranges_heads_and_conditions_are_those_of_http(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("a fox", duration=2))
    whole = web.get(url)
    size, etag = len(whole.content), whole.headers["etag"]
    assert (200, str(size), "video/mp4", "bytes") == (
        whole.status_code,
        whole.headers["content-length"],
        whole.headers["content-type"],
        whole.headers["accept-ranges"],
    )
    head = web.head(url)
    assert (200, str(size), etag, b"") == (
        head.status_code,
        head.headers["content-length"],
        head.headers["etag"],
        head.content,
    )
    for text, start, end in (
        ("0-0", 0, 1),
        ("10-19", 10, 20),
        (f"{size - 40}-{size + 9}", size - 40, size),
        (f"{size // 2}-", size // 2, size),
        ("-20", size - 20, size),
    ):
        part = web.get(url, headers={"Range": f"bytes={text}", "If-Range": etag})
        assert (206, f"bytes {start}-{end - 1}/{size}") == (part.status_code, part.headers["content-range"])
        assert whole.content[start:end] == part.content
    beyond = web.get(url, headers={"Range": f"bytes={size}-"})
    assert (416, f"bytes */{size}") == (beyond.status_code, beyond.headers["content-range"])
    assert web.get(url, headers={"Range": "bytes=0-0", "If-Range": '"other"'}).status_code == 200
    assert web.get(url, headers={"Range": "bytes=0-0,5-6"}).status_code == 200


def test_a_link_is_refused_when_it_was_changed_or_has_expired(apixo: Apixo, clips_home: Path, clock: Clock) -> None:
    task_id = apixo.task("a fox", duration=2)
    clock.advance(1)
    url = apixo.link(task_id)
    assert web.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert web.get(url.replace("expires=", "expires=1")).status_code == 403
    assert web.get(url.replace("/0.mp4", "/1.mp4")).status_code == 403
    assert web.get(url.partition("?")[0]).status_code == 403
    with simulator(clips_home=clips_home, render_s=0, link_life_s=60) as short:
        link = short.link(short.task("a fox", duration=2))
        assert web.get(link).status_code == 200
        clock.advance(60)
        assert web.get(link).status_code == 403


def test_the_journal_knows_every_submission_the_money_and_the_delivery(clips_home: Path) -> None:
    with simulator(clips_home=clips_home, render_s=0.1) as apixo:
        before = time.time()
        task_id = apixo.task("a secret fox", duration=2)
        apixo.submit("a secret fox", duration=1)
        web.get(apixo.link(task_id), headers={"Range": "bytes=0-9"})
        journal = apixo.journal()
        assert (apixo.job(task_id)["asset_requests"], apixo.job(task_id)["downloads"]) == (1, 0)
        web.get(apixo.link(task_id))
        job = apixo.job(task_id)
        accepted, refused = journal["submits"]
        assert (True, 200, task_id) == (accepted["accepted"], accepted["status"], accepted["task_id"])
        assert (refused["accepted"], refused["status"], refused["task_id"]) == (False, 400, None)
        assert "duration" in refused["reason"]
        assert before <= accepted["received_at"] <= refused["received_at"] <= time.time()
        assert hashlib.sha256(b"a secret fox").hexdigest() == accepted["prompt_sha256"] == job["prompt_sha256"]
        assert accepted["body_sha256"] != refused["body_sha256"]
        assert tuple(job[name] for name in ("charged_micros", "duration_s", "resolution", "width", "height")) == (
            200_000,
            2,
            "720p",
            1280,
            720,
        )
        assert (job["asset_requests"], job["downloads"], job["state"]) == (2, 1, "success")
        assert job["status_reads"] >= 2
        totals = apixo.journal()["totals"]
        assert tuple(
            totals[name]
            for name in ("submits", "accepted", "jobs", "success", "delivered", "charged_micros", "refunded_micros")
        ) == (2, 1, 1, 1, 1, 200_000, 0)
        assert "secret" not in apixo.http.get("/journal").text
        assert not apixo.http.get("/journal", params={"vendor": "gmi"}).json()["jobs"]
        assert apixo.http.get("/journal/jobs/task_unknown").status_code == 404


@pytest.mark.parametrize(("refund", "refunded_micros"), [({}, 0), ({"apixo": True}, 200_000)])
def test_a_failed_job_stays_charged_unless_the_simulator_is_told_otherwise(
    refund: dict[str, bool], refunded_micros: int
) -> None:
    with simulator(render_s=0.1, refund_failed_jobs=refund) as apixo:
        task_id = apixo.task("[[sim:fail=SensitiveContent]]", duration=2)
        assert apixo.finished(task_id)["state"] == "failed"
        job = apixo.job(task_id)
        assert (200_000, refunded_micros) == (job["charged_micros"], job["refunded_micros"])


def test_a_restart_keeps_jobs_links_and_the_journal(tmp_path: Path, clock: Clock) -> None:
    with simulator(home=tmp_path, render_s=1.0) as apixo:
        running_task, waiting_task = apixo.task("[[sim:delay=2.5]] a fox", duration=2), apixo.task("[[sim:never]]")
        done_task = apixo.task("[[sim:delay=0]] another fox", duration=2)
        content = web.get(apixo.link(done_task)).content
        journal = apixo.journal()
    with simulator(home=tmp_path, render_s=9) as apixo:
        assert apixo.state(waiting_task)["state"] in ("pending", "processing")
        assert content == web.get(apixo.link(done_task)).content
        assert apixo.state(running_task)["state"] == "pending"
        clock.advance(2.5)
        assert apixo.state(running_task)["costTime"] == 2500
        assert journal["submits"] == apixo.journal()["submits"]
        assert journal["totals"]["charged_micros"] == apixo.journal()["totals"]["charged_micros"]
        assert apixo.job(done_task)["downloads"] == 2


def test_a_restart_still_owes_the_callback(tmp_path: Path, clock: Clock) -> None:
    with sink() as receiver:
        with simulator(home=tmp_path) as apixo:
            task_id = apixo.task("[[sim:delay=3600]] a fox", callback=receiver.url, duration=2)
        assert receiver.bodies == []
        clock.advance(3600)
        with simulator(home=tmp_path) as apixo:
            until(lambda: apixo.job(task_id), lambda job: job["callback_acknowledged"])
        with simulator(home=tmp_path) as apixo:
            assert apixo.job(task_id)["callback_acknowledged"]
    assert [task_id] == [body["data"]["taskId"] for body in receiver.bodies]


def test_half_a_line_at_the_end_of_the_journal_is_forgotten(tmp_path: Path) -> None:
    with simulator(home=tmp_path) as apixo:
        task_id = apixo.task("[[sim:never]]")
    file = tmp_path / "journal.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: len(whole) // 2])
    journal = Journal(tmp_path)
    journal.close()
    assert [task_id] == list(journal.entries)
    assert whole == file.read_bytes()


def test_a_journal_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"event": "unheard of"}\n')
    with pytest.raises(ValueError, match="line 1"):
        Journal(tmp_path)


def test_the_journal_holds_no_prompt(tmp_path: Path) -> None:
    with simulator(home=tmp_path) as apixo:
        apixo.task("canary-prompt [[sim:never]]", negative_prompt="canary-negative")
        apixo.submit("canary-prompt", duration=99)
    assert "canary" not in (tmp_path / "journal.jsonl").read_text()


def _ended(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)


def test_the_command_reports_its_address_and_ends_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "onetake.dev.simulator", "--home", str(tmp_path), "--render-s", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        name, url, *vendors = process.stdout.readline().split()
        assert name == "simulator"
        assert [f"{name}={url}{vendor.base_path}" for name, vendor in VENDORS.items()] == vendors
        client = Apixo(url)
        with client.http:
            assert client.http.get("/healthz").json()["status"] == "ok"
            client.task("[[sim:never]]")
            second = _ended([*command, "--port", url.rpartition(":")[2]])
            other = _ended(command)
        process.terminate()
        _, complaints = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, second.returncode, other.returncode) == (0, 9, 9)
    assert url.rpartition(":")[2] in second.stderr
    assert str(tmp_path) in other.stderr
    assert "leniency" in complaints
    assert complaints.count("\n") == 1


def test_an_outage_answers_503_everywhere_and_is_in_the_journal(clips_home: Path) -> None:
    with simulator(clips_home=clips_home, render_s=0.05) as apixo:
        task_id = apixo.task("[[sim:never]]")
        outage = {"vendor": "apixo", "seconds": 60}
        assert apixo.http.post("/control/outage", json=outage).status_code == 200
        assert [apixo.submit("a fox").status_code, apixo.read(task_id).status_code] == [503, 503]
        assert apixo.submit("a fox").json()["code"] == 503
        assert (apixo.last_submit()["accepted"], apixo.last_submit()["status"]) == (False, 503)
        apixo.http.post("/control/outage", json=outage | {"status": 429})
        assert [apixo.submit("a fox").status_code, apixo.read(task_id).status_code] == [429, 429]
        refused_at = apixo.job(task_id)["last_read_at"]
        apixo.http.post("/control/outage", json=outage | {"seconds": 0})
        assert apixo.read(task_id).status_code == 200
        job = apixo.job(task_id)
        assert (job["status_reads"], job["last_read_at"] > refused_at) == (1, True)
        assert apixo.http.post("/control/outage", json={"vendor": "nobody", "seconds": 1}).status_code == 400


def test_a_vendor_takes_so_many_jobs_at_once_and_keeps_a_book(clips_home: Path) -> None:
    with simulator(clips_home=clips_home, render_s=0.05) as apixo:
        limits = {"vendor": "apixo", "jobs": 2}
        assert apixo.http.post("/control/limits", json=limits).status_code == 200
        answers = [apixo.submit("a fox [[sim:never]]") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
        assert "retry-after" not in answers[2].headers
        assert (apixo.last_submit()["accepted"], apixo.last_submit()["status"]) == (False, 429)
        book = apixo.http.get("/control/limits").json()["apixo"]
        assert (book["submits"], book["refused_submits"], book["most_jobs"]) == (4, 2, 2)
        apixo.http.post("/control/limits", json={"vendor": "apixo"})
        assert apixo.submit("a fox").status_code == 200
        assert apixo.http.post("/control/limits", json={"vendor": "nobody", "jobs": 1}).status_code == 400


def test_a_vendor_answers_so_many_reads_a_second(clips_home: Path) -> None:
    with simulator(clips_home=clips_home, render_s=0.05) as apixo:
        task_id = apixo.task("[[sim:never]]")
        apixo.http.post("/control/limits", json={"vendor": "apixo", "reads_per_s": 2})
        assert apixo.read(task_id).status_code == 200
        statuses = [apixo.read(task_id).status_code for _ in range(8)]
        assert 429 in statuses
        book = apixo.http.get("/control/limits").json()["apixo"]
        assert (book["reads"], book["refused_reads"], book["most_reads_per_s"]) == (9, statuses.count(429), 2)


def test_what_is_held_up_goes_on_when_it_is_released(clips_home: Path) -> None:
    with simulator(clips_home=clips_home, render_s=0.05) as apixo, sink(200) as receiver:
        prompt = "a fox [[sim:submit-slow=600]][[sim:submit-hang=600]][[sim:held]][[sim:asset-slow=1]]"
        asked = {"prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest()}
        with ThreadPoolExecutor(1) as pool:
            submission = pool.submit(apixo.task, prompt, callback=receiver.url)
            until(lambda: apixo.http.post("/control/release", json=asked).json(), lambda found: found == {"jobs": 1})
            task_id = submission.result()
        assert apixo.finished(task_id)["state"] == "success"
        until(lambda: apixo.job(task_id), lambda job: job["callback_acknowledged"])
        assert seen(web.get(apixo.link(task_id)).content)["duration_s"] > 0
        assert apixo.http.post("/control/release", json={"prompt_sha256": "A fox"}).status_code == 400
