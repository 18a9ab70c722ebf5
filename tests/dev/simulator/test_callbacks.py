"""Callbacks as APIXO documents them, against a receiver on a real port."""

from itertools import pairwise
from pathlib import Path

import pytest

from onetake.dev.simulator.apixo import Apixo as Vendor
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from tests.dev.simulator.calls import Apixo, Sink, sink, until


def _tried(apixo: Apixo, task_id: str, times: int) -> list[str]:
    job = until(lambda: apixo.job(task_id), lambda job: len(job["callbacks"]) >= times)
    return [callback["outcome"] for callback in job["callbacks"]]


def test_the_callback_is_the_status_answer_sent_once(apixo: Apixo) -> None:
    with sink() as receiver:
        task_id = apixo.task("a fox", callback=receiver.url, duration=2)
        assert _tried(apixo, task_id, 1) == ["200"]
        assert receiver.bodies == [apixo.read(task_id).json()]
        assert receiver.headers[0]["content-type"] == "application/json"
        assert receiver.bodies[0]["data"]["state"] == "success"
        assert apixo.job(task_id)["callback_acknowledged"]


def test_a_failure_is_called_back_too(apixo: Apixo) -> None:
    with sink() as receiver:
        task_id = apixo.task("[[sim:fail=PromptInvalid]]", callback=receiver.url)
        _tried(apixo, task_id, 1)
    data = receiver.bodies[0]["data"]
    assert {"taskId", "state", "failCode", "failMsg", "createTime", "completeTime"} == set(data)
    assert (data["failCode"], data["failMsg"]) == ("PromptInvalid", "Prompt is invalid or rejected by provider")


@pytest.mark.parametrize("status", [201, 204, 302, 404, 500])
def test_nothing_but_200_acknowledges(apixo: Apixo, status: int) -> None:
    with sink(status) as receiver:
        task_id = apixo.task("[[sim:delay=0.01]] a fox", callback=receiver.url, duration=2)
        assert _tried(apixo, task_id, 2) == [str(status), "200"]


def test_three_retries_with_growing_gaps_and_then_silence(apixo: Apixo) -> None:
    with sink(500, 500, 500, 500) as receiver:
        task_id = apixo.task("[[sim:delay=0.01]] a fox", callback=receiver.url, duration=2)
        assert _tried(apixo, task_id, 4) == ["500"] * 4
        gaps = [after - before for before, after in pairwise(receiver.times)]
        assert all(gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08), strict=True))
        # A fifth would follow within 160 ms.
        with pytest.raises(AssertionError):
            until(lambda: len(receiver.bodies), lambda count: count > 4, 0.3)
    assert not apixo.job(task_id)["callback_acknowledged"]


def test_production_waits_thirty_seconds_and_retries_after_one_two_and_four() -> None:
    assert (Vendor.callbacks.timeout_s, Vendor.callbacks.retry_gaps_s) == (30, (1, 2, 4))
    assert SimulatorConfig().callback_gap_scale == 1


def test_a_receiver_that_is_away_is_tried_again(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:delay=0.01]] a fox", callback="http://127.0.0.1:9/hook", duration=2)
    assert _tried(apixo, task_id, 4) == ["ConnectError"] * 4


def test_disabled_callbacks_are_lost_not_kept(clips_home: Path) -> None:
    config = SimulatorConfig(clips_home=clips_home, render_s=0.01, callback_gap_scale=0.01)
    with running(config) as url, sink() as receiver:
        client = Apixo(url)
        with client.http:
            client.http.post("/control/callbacks", json={"enabled": False})
            task_id = client.task("a fox", callback=receiver.url, duration=2)
            assert _tried(client, task_id, 4) == ["disabled"] * 4
            client.http.post("/control/callbacks", json={"enabled": True})
            later = client.task("a fox", callback=receiver.url, duration=2)
            assert _tried(client, later, 1) == ["200"]
    assert [later] == [body["data"]["taskId"] for body in receiver.bodies]


def test_the_callback_can_come_before_the_answer(apixo: Apixo) -> None:
    with sink() as receiver:
        task_id = apixo.task("[[sim:callback-first]] a fox", callback=receiver.url, duration=2)
        assert [task_id] == [body["data"]["taskId"] for body in receiver.bodies]
        assert receiver.bodies[0]["data"]["state"] == "success"


def test_a_job_that_is_held_ends_and_calls_back_once_it_is_let_go(apixo: Apixo) -> None:
    with sink() as receiver:
        held = apixo.task("[[sim:held]][[sim:delay=0.01]] a fox", callback=receiver.url, duration=2)
        other = apixo.task("[[sim:delay=0.01]] a fox", callback=receiver.url, duration=2)
        assert _tried(apixo, other, 1) == ["200"]
        assert (apixo.state(held)["state"], apixo.job(held)["finished_at"]) == ("processing", None)
        for _ in range(2):
            apixo.release(held)
        assert _tried(apixo, held, 1) == ["200"]
        assert apixo.finished(held)["resultJson"]
        assert [other, held] == _ids(receiver)


def test_no_callback_and_many_callbacks(apixo: Apixo) -> None:
    with sink() as receiver:
        silent = apixo.task("[[sim:no-callback]] a fox", callback=receiver.url, duration=2)
        loud = apixo.task("[[sim:callback-duplicate=3]] a fox", callback=receiver.url, duration=2)
        assert _tried(apixo, loud, 4) == ["200"] * 4
        assert apixo.job(silent)["callbacks"] == []
        assert [loud] * 4 == _ids(receiver)


def test_the_journal_shows_the_host_of_a_callback_and_nothing_more(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:never]]", callback="https://user:pw@hooks.example.com:8443/secret-token?t=secret")
    text = apixo.http.get(f"/journal/jobs/{task_id}").text
    assert '"callback_host":"hooks.example.com:8443"' in text
    assert "secret" not in text
    assert "pw" not in text


def _ids(receiver: Sink) -> list[str]:
    return [body["data"]["taskId"] for body in receiver.bodies]
