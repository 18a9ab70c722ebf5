"""Every marker, as a client sees it on the wire and as the journal records it."""

import json
import socket
import time
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.faults import MARKERS, script
from onetake.dev.simulator.server import running
from tests.clock import Clock
from tests.dev.simulator.calls import KEY, LIMIT_S, Apixo, raw_get, received_all, seen, until, web


def _jobs_of(apixo: Apixo, reason: str) -> tuple[bool, int | None, str]:
    last = apixo.last_submit()
    assert reason in last["reason"]
    return last["accepted"], last["status"], last["task_id"]


def _request(prompt: str) -> bytes:
    body = json.dumps({"request_type": "async", "input": {"mode": "text-to-video", "prompt": prompt}}).encode()
    head = (
        "POST /apixo/api/v1/generateTask/wan-2-6-video HTTP/1.1\r\nHost: simulator\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _raw(apixo: Apixo, prompt: str) -> bytes:
    """Submit by hand and return every byte of the answer; ConnectionResetError when the peer resets."""
    with _connection(apixo) as connection:
        connection.sendall(_request(prompt))
        return received_all(connection)


def _connection(apixo: Apixo) -> socket.socket:
    parts = urlsplit(apixo.url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=LIMIT_S)


def _busy_share() -> float:
    """The share of one core that this process, the simulator's thread in it, uses for a moment."""
    began, before = time.monotonic(), time.process_time()
    time.sleep(0.2)
    return (time.process_time() - before) / (time.monotonic() - began)


def test_every_marker_is_described_and_a_wrong_one_is_named(apixo: Apixo) -> None:
    assert all(MARKERS.values())
    assert [(fault.name, fault.value) for fault in script("a [[sim:delay=8]] fox [[sim:silent]]")] == [
        ("delay", "8"),
        ("silent", ""),
    ]
    for prompt, name in (("[[sim:dealy=8]]", "dealy"), ("[[sim:delay]]", "delay"), ("[[sim:never=1]]", "never")):
        answer = apixo.submit(prompt)
        assert answer.status_code == 400
        assert name in answer.json()["data"]["error"]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Invalid request"),
        (401, "Missing or invalid API key"),
        (402, "Insufficient balance or quota"),
        (403, "Key or route cannot access the model"),
        (404, "Model or task not found"),
    ],
)
def test_reject_refuses_with_the_documented_envelope(apixo: Apixo, status: int, message: str) -> None:
    answer = apixo.submit(f"[[sim:reject={status}]]")
    assert (status, status, message) == (answer.status_code, answer.json()["code"], answer.json()["message"])
    assert (False, status, None) == _jobs_of(apixo, "on demand")


def test_reject_200_hides_the_error_in_the_body(apixo: Apixo) -> None:
    answer = apixo.submit("[[sim:reject-200=400]]")
    assert (answer.status_code, answer.json()["code"]) == (200, 400)
    assert _jobs_of(apixo, "reject-200") == (False, 200, None)


@pytest.mark.parametrize(("marker", "status"), [("throttle", 429), ("busy", 503)])
@pytest.mark.parametrize("retry_after", ["", "7", "-3", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_throttle_and_busy_refuse_the_first_submissions_of_a_prompt_and_then_accept(
    apixo: Apixo, marker: str, status: int, retry_after: str
) -> None:
    prompt = f"[[sim:{marker}=2{',' if retry_after else ''}{retry_after}]][[sim:never]]"
    answers = [apixo.submit(prompt) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert [retry_after or None] * 2 == [answer.headers.get("retry-after") for answer in answers[:2]]


def test_submit_500_makes_no_job_and_submit_502_accepted_makes_one(apixo: Apixo) -> None:
    assert apixo.submit("[[sim:submit-500]]").status_code == 500
    assert _jobs_of(apixo, "on demand") == (False, 500, None)
    answer = apixo.submit("[[sim:submit-502-accepted]][[sim:never]]")
    assert (answer.status_code, answer.json()["code"]) == (502, 502)
    accepted, status, task_id = _jobs_of(apixo, "accepted")
    assert (accepted, status) == (True, 502)
    assert apixo.state(task_id)["taskId"] == task_id


@pytest.mark.parametrize(("marker", "accepted"), [("submit-reset", True), ("submit-reset-refused", False)])
def test_a_reset_submission_gets_not_one_byte(apixo: Apixo, marker: str, accepted: bool) -> None:
    prompt = f"[[sim:{marker}]][[sim:never]]"
    with pytest.raises(ConnectionResetError):
        _raw(apixo, prompt)
    with pytest.raises(httpx.ReadError):
        apixo.submit(prompt)
    last = apixo.last_submit()
    assert (accepted, None, accepted) == (last["accepted"], last["status"], last["task_id"] is not None)


def test_submit_hang_accepts_at_once_and_answers_late(apixo: Apixo) -> None:
    before = apixo.journal()["totals"]["accepted"]
    with _connection(apixo) as connection:
        connection.sendall(_request("[[sim:submit-hang=600]]"))
        until(lambda: apixo.journal()["totals"]["accepted"], lambda accepted: accepted == before + 1)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
    began = time.monotonic()
    apixo.task("[[sim:submit-hang=0.4]][[sim:never]]")
    assert time.monotonic() - began >= 0.4


def test_submit_html_and_submit_no_id_are_200_without_an_id(apixo: Apixo) -> None:
    page = apixo.submit("[[sim:submit-html]]")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert _jobs_of(apixo, "submit-html") == (False, 200, None)
    answer = apixo.submit("[[sim:submit-no-id]][[sim:never]]")
    assert answer.json() == {"code": 200, "message": "success", "data": {}}
    assert _jobs_of(apixo, "accepted")[0]


def test_delay_and_never_set_the_time_of_a_job(apixo: Apixo, clock: Clock) -> None:
    slow, never = apixo.task("[[sim:delay=2]]", duration=2), apixo.task("[[sim:never]]")
    clock.advance(1.9)
    assert [apixo.state(each)["state"] for each in (slow, never)] == ["processing", "processing"]
    clock.advance(0.1)
    assert apixo.state(slow)["costTime"] == 2000
    clock.advance(86_400)
    assert apixo.state(never)["state"] == "processing"
    assert apixo.job(never)["finished_at"] is None


@pytest.mark.parametrize("code", ["SensitiveContent", "Task TimeOut", "SOMETHING_NEW"])
def test_fail_ends_the_job_with_its_code(apixo: Apixo, code: str) -> None:
    task_id = apixo.task(f"[[sim:fail={code}]]")
    assert apixo.finished(task_id)["state"] == "failed"
    answer = apixo.read(task_id)
    assert (200, 200, code) == (answer.status_code, answer.json()["code"], answer.json()["data"]["failCode"])
    assert "resultJson" not in answer.json()["data"]


def test_status_faults_are_used_up_one_after_the_other(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:status-500=1]][[sim:status-429=2,3]][[sim:status-404=1]][[sim:delay=0.01]]", duration=2)
    answers = [apixo.read(task_id) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [500, 429, 429, 404, 200]
    assert [answer.headers.get("retry-after") for answer in answers] == [None, "3", "3", None, None]
    assert apixo.job(task_id)["status_reads"] == 5


def test_a_status_read_is_refused_reset_or_answered_with_what_is_no_status(apixo: Apixo) -> None:
    kinds = ("401", "403", "reset", "html", "malformed", "array")
    task_id = apixo.task("".join(f"[[sim:status-{kind}=1]]" for kind in kinds) + "[[sim:never]]")
    assert [apixo.read(task_id).status_code for _ in range(2)] == [401, 403]
    with pytest.raises(httpx.ReadError):
        apixo.read(task_id)
    page, half, listed, whole = (apixo.read(task_id) for _ in range(4))
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (half.status_code, half.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Invalid"):
        half.json()
    assert listed.json()[0]["data"]["taskId"] == whole.json()["data"]["taskId"] == task_id
    assert apixo.job(task_id)["status_reads"] == 7


def test_a_status_read_that_hangs_ends_when_the_caller_leaves(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:status-hang=1]][[sim:never]]")
    with pytest.raises(httpx.ReadTimeout):
        apixo.http.get("/apixo/api/v1/statusTask/wan-2-6-video", params={"taskId": task_id}, timeout=1)
    assert apixo.read(task_id).status_code == 200


def test_status_reads_can_be_down_for_a_time_and_lost_from_a_time_on(apixo: Apixo, clock: Clock) -> None:
    faults = ("status-down=4", "status-lost=4", "status-lost=0,3")
    tasks = [apixo.task(f"[[sim:{fault}]][[sim:never]]") for fault in faults]

    def read() -> list[int]:
        return [apixo.read(task).status_code for task in tasks]

    assert read() == [503, 200, 404]
    clock.advance(5)
    assert read() == [200, 404, 200]
    assert read() == [200, 404, 200]


@pytest.mark.parametrize("word", ['"REVIEWING"', '"SUCCESS"', "null", "7", "true"])
def test_a_state_can_be_any_word_until_the_job_is_done(apixo: Apixo, clock: Clock, word: str) -> None:
    task_id = apixo.task(f"[[sim:status-word={word}]][[sim:delay=1]]", duration=2)
    assert apixo.state(task_id)["state"] == json.loads(word)
    clock.advance(1)
    assert apixo.state(task_id)["state"] == "success"


def test_status_regress_shows_the_job_running_before_it_waits(apixo: Apixo, clock: Clock) -> None:
    task_id = apixo.task("[[sim:status-regress]][[sim:delay=1]]", duration=2)
    assert apixo.state(task_id)["state"] == "processing"
    clock.advance(0.9)
    assert apixo.state(task_id)["state"] == "pending"
    clock.advance(0.1)
    assert apixo.state(task_id)["state"] == "success"


def test_a_job_can_run_again_after_its_end_or_fail_after_its_success(apixo: Apixo) -> None:
    again = apixo.task("[[sim:status-relapse=2]][[sim:delay=0]]", duration=2)
    assert [apixo.state(again)["state"] for _ in range(4)] == ["success", "processing", "processing", "success"]
    later = apixo.task("[[sim:status-relapse=9,2]][[sim:delay=0]]", duration=2)
    assert [apixo.state(later)["state"] for _ in range(3)] == ["success", "success", "processing"]
    sorry = apixo.task("[[sim:status-success=2]][[sim:fail=Timeout]][[sim:delay=0]]", duration=2)
    first, second, third = (apixo.state(sorry) for _ in range(3))
    assert [first["state"], second["state"], third["state"]] == ["success", "success", "failed"]
    (url,) = json.loads(first["resultJson"])["resultUrls"]
    assert web.get(url).status_code == 404


def test_a_refund_can_come_late_or_never(clips_home: Path, clock: Clock) -> None:
    config = SimulatorConfig(clips_home=clips_home, refund_failed_jobs={"apixo": True})
    with running(config) as url, (apixo := Apixo(url)).http:
        failed = "[[sim:fail=Timeout]][[sim:delay=0]]"
        soon, late, never = (
            apixo.task(f"{failed}{marker}", duration=2) for marker in ("", "[[sim:refund-late=5]]", "[[sim:no-refund]]")
        )
        assert [apixo.job(each)["state"] for each in (soon, late, never)] == ["failed"] * 3
        assert [apixo.job(each)["refunded_micros"] for each in (soon, late, never)] == [200_000, 0, 0]
        clock.advance(5)
        assert [apixo.job(each)["refunded_micros"] for each in (soon, late, never)] == [200_000, 200_000, 0]


def test_bad_result_is_a_success_that_cannot_be_read_and_urls_is_one_with_several(apixo: Apixo) -> None:
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(apixo.finished(apixo.task("[[sim:bad-result]]", duration=2))["resultJson"])
    data = apixo.finished(apixo.task("[[sim:urls=3]]", duration=2))
    bodies = [web.get(url).content for url in json.loads(data["resultJson"])["resultUrls"]]
    assert [body.partition(b"freetask_")[2][24:] for body in bodies] == [b"", b"/1", b"/2"]


def test_status_unknown_lasts_until_the_job_is_done(apixo: Apixo, clock: Clock) -> None:
    task_id = apixo.task("[[sim:status-unknown]][[sim:delay=1]]", duration=2)
    assert apixo.state(task_id)["state"] == "reviewing"
    clock.advance(1)
    assert apixo.state(task_id)["state"] == "success"


def test_no_url_is_a_success_without_a_link(apixo: Apixo) -> None:
    data = apixo.finished(apixo.task("[[sim:no-url]]", duration=2))
    assert json.loads(data["resultJson"]) == {"resultUrls": []}


def test_no_url_may_end_after_some_reads(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:no-url=2]]", duration=2)
    read = [json.loads(apixo.finished(task_id)["resultJson"])["resultUrls"] for _ in range(3)]
    assert [len(urls) for urls in read] == [0, 0, 1]


def test_a_link_may_be_refused_for_a_while(apixo: Apixo, clock: Clock) -> None:
    def link(marker: str) -> str:
        return apixo.link(apixo.task(f"{marker}[[sim:delay=0]]", duration=2))

    url = link("[[sim:asset-404=2]]")
    assert [web.get(url).status_code for _ in range(3)] == [404, 404, 200]
    url = link("[[sim:asset-html=1]]")
    assert [web.get(url).text.startswith("<!doctype html>") for _ in range(2)] == [True, False]
    url, other = link("[[sim:asset-away=15,410]]"), link("[[sim:asset-away=60]]")
    assert [web.get(url).status_code, web.get(other).status_code] == [410, 404]
    clock.advance(15)
    assert [web.get(url).status_code, web.get(other).status_code] == [200, 404]


def test_asset_403_and_asset_500(apixo: Apixo) -> None:
    assert web.get(apixo.link(apixo.task("[[sim:asset-403]]", duration=2))).status_code == 403
    task_id = apixo.task("[[sim:asset-500=2]]", duration=2)
    url = apixo.link(task_id)
    assert [web.get(url).status_code for _ in range(3)] == [500, 500, 200]
    job = apixo.job(task_id)
    assert (job["asset_requests"], job["downloads"]) == (3, 1)


def test_asset_html_and_asset_truncated_file_are_complete_answers_with_the_wrong_bytes(apixo: Apixo) -> None:
    page = web.get(apixo.link(apixo.task("[[sim:asset-html]]", duration=2)))
    assert (page.headers["content-type"], page.text.startswith("<!doctype html>")) == ("video/mp4", True)
    url = apixo.link(apixo.task("[[sim:asset-truncated-file]]", duration=2))
    half, whole = web.get(url), int(web.head(url).headers["content-length"])
    assert (200, str(whole // 2), whole // 2) == (half.status_code, half.headers["content-length"], len(half.content))


def test_asset_cut_promises_the_whole_and_closes_at_half(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:asset-cut]]", duration=2)
    url = apixo.link(task_id)
    whole = int(web.head(url).headers["content-length"])
    head, body = raw_get(url)
    assert f"content-length: {whole}".encode() in head
    assert whole // 2 == len(body)
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(url)
    assert apixo.job(task_id)["downloads"] == 0


def test_asset_cut_closed_promises_nothing_and_closes_at_half(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("[[sim:asset-cut-closed]]", duration=2))
    whole = int(web.head(url).headers["content-length"])
    head, body = raw_get(url)
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
    assert whole // 2 == len(body)
    # The silent case: a client sees a complete answer.
    assert whole // 2 == len(web.get(url).content)


def test_a_chunked_body_is_cut_before_its_last_chunk(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("[[sim:asset-cut-chunked]]", duration=2))
    half = int(web.head(url).headers["content-length"]) // 2
    head, body = raw_get(url)
    assert b"transfer-encoding: chunked" in head
    assert body.startswith(f"{half:x}\r\n".encode())
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(url)


def test_asset_reset_breaks_the_first_downloads_in_the_middle(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("[[sim:asset-reset=1]]", duration=2))
    with web.stream("GET", url) as answer, pytest.raises(httpx.ReadError):
        answer.read()
    assert answer.status_code == 200
    assert len(web.get(url).content) == int(answer.headers["content-length"])


def test_lengths_can_lie(apixo: Apixo) -> None:
    short = apixo.link(apixo.task("[[sim:asset-short-length]]", duration=2))
    whole = int(web.head(short).headers["content-length"])
    head, body = raw_get(short)
    assert (f"content-length: {whole // 2}".encode() in head, len(body)) == (True, whole)
    two = apixo.link(apixo.task("[[sim:asset-two-lengths]]", duration=2))
    assert raw_get(two)[0].count(b"content-length: ") == 2
    with pytest.raises(httpx.RemoteProtocolError):
        web.get(two)


def test_asset_slow_drips(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("[[sim:asset-slow=200000]]", duration=2))
    began = time.monotonic()
    with web.stream("GET", url) as answer:
        received = sum(len(chunk) for chunk in islice(answer.iter_raw(10_000), 8))
    assert (received, time.monotonic() - began >= 0.25) == (80_000, True)


def test_asset_endless_never_ends_and_stops_when_the_client_leaves(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:asset-endless]]", duration=2)
    url = apixo.link(task_id)
    whole = int(web.head(url).headers["content-length"])
    with web.stream("GET", url) as answer:
        assert "content-length" not in answer.headers
        received = 0
        for chunk in answer.iter_raw():
            received += len(chunk)
            if received > whole + (8 << 20):
                break
    until(_busy_share, lambda share: share < 0.5)
    assert apixo.job(task_id)["downloads"] == 0


@pytest.mark.parametrize(
    ("marker", "duration_s", "has_sound"),
    [("silent", 2, False), ("wrong-duration", 5, True), ("half-duration", 1, True)],
)
def test_a_clip_can_differ_from_what_was_ordered(apixo: Apixo, marker: str, duration_s: int, has_sound: bool) -> None:
    content = web.get(apixo.link(apixo.task(f"[[sim:{marker}]]", duration=2))).content
    clip = seen(content)
    assert abs(clip["duration_s"] - duration_s) < 0.05
    assert clip["has_sound"] == has_sound
