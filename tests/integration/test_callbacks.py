"""Callbacks over real HTTP: duplicated, forged, late. They only wake."""

import asyncio
import json
import urllib.error
import urllib.request

from onetake.client import Onetake
from tests.harness import ROUTE, Stack, activity_ids, ended, event_names, in_phase, money, unique


def post(url: str, body: object) -> int:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


async def callback_url(stack: Stack, task_id: str) -> str:
    """What the vendor was given; only the vendor and the simulator's journal know it."""
    journal = stack.running.devstack.home / "simulator" / "journal.jsonl"
    for line in await asyncio.to_thread(lambda: journal.read_text().splitlines()):
        if task_id in line and "/callbacks/apixo/" in line:
            start = line.index("http", line.index("callback_url"))
            return line[start : line.index('"', start)]
    raise AssertionError("the vendor was given no callback address")


async def test_a_forged_callback_causes_one_read_and_changes_nothing(stack: Stack, onetake: Onetake) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("forged [[sim:delay=4]][[sim:no-callback]]"), duration_s=2)
    await in_phase(onetake, started.id, "generating")
    task_id = (await onetake.get(started.id)).vendor_task_id
    assert task_id
    url = await callback_url(stack, task_id)
    lie = {"code": 200, "data": {"taskId": "task_of_somebody_else", "state": "failed", "failMsg": "gone"}}
    assert await asyncio.to_thread(post, url, lie) == 200
    link = {
        "code": 200,
        "data": {"taskId": task_id, "state": "success", "resultJson": '{"resultUrls":["http://evil"]}'},
    }
    assert await asyncio.to_thread(post, url, link) == 200
    result = await ended(onetake, started.id)
    assert (result.status, money(result), result.vendor_task_id) == ("completed", (200_000, 200_000, 0), task_id)
    events = await stack.history(started.workflow_id)
    assert 1 <= event_names(events).count("WORKFLOW_EXECUTION_SIGNALED") <= 2
    assert [each for each in activity_ids(events) if each.startswith("read-")]


async def test_a_token_that_was_never_issued_is_not_found_and_wakes_nobody(stack: Stack) -> None:
    url = f"{stack.gateway_url}/callbacks/apixo/AAAAAAAAAAAAAAAAAAAAAA"
    assert await asyncio.to_thread(post, url, {"data": {"taskId": "x"}}) == 404
    assert await asyncio.to_thread(post, f"{stack.gateway_url}/callbacks/nobody/AAAAAAAAAAAAAAAAAAAAAA", {}) == 404


async def test_a_callback_for_a_finished_generation_is_stored_and_changes_nothing(
    stack: Stack, onetake: Onetake
) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("late callback"), duration_s=2)
    before = await ended(onetake, started.id)
    assert before.vendor_task_id
    url = await callback_url(stack, before.vendor_task_id)
    late = {"code": 200, "data": {"taskId": before.vendor_task_id, "state": "failed"}}
    assert await asyncio.to_thread(post, url, late) == 200
    await asyncio.sleep(0.5)
    after = await onetake.get(started.id)
    assert (after.status, money(after)) == (before.status, money(before))
