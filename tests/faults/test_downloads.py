"""Downloads from media hosts that are slow, lie, lead elsewhere or deliver something else, and disks without room.

All generations run side by side; each test waits for its own. How often a clip was asked for is a least number: a
worker that stood still for longer than its heartbeats may begins again.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationResult
from onetake.core.errors import Failed
from onetake.media.outbound import Outbound
from onetake.worker import MOST_CLIPS
from tests.faults.engine import pending
from tests.faults.table import expect, shows
from tests.media.outbound.parts import PATIENT, Answers, ok, read, saying, serving
from tests.system.harness import PATIENT_S, ROUTE, Stack, ended, money, unique

OTHER_ROUTE = "gmi/wan-2.6/text-to-video"
PAID = (200_000, 200_000, 0)
SMALL_BYTES = "8000000"
NO_ROOM = str(2**60)
LIMIT_S = 300.0


@dataclass(frozen=True)
class Play:
    """A generation that has ended."""

    prompt: str
    result: GenerationResult


Plays = Mapping[str, asyncio.Task[Play]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plays(stack: Stack, onetake: Onetake, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Plays]:
    scenes = {
        "cut": served_with(onetake, "[[sim:asset-cut-at=300000]]"),
        "drip": served_with(onetake, "[[sim:asset-slow=1,1]]"),
        "endless": served_to_a_small_limit(stack, "[[sim:asset-endless]]"),
        "declared": served_to_a_small_limit(stack, "[[sim:asset-length=50000000000]]"),
        "compressed": sought_hastily(stack, "[[sim:asset-compressed]]"),
        "private": judged_hastily(stack, "[[sim:asset-redirect=private]]"),
        "metadata": judged_hastily(stack, "[[sim:asset-redirect=metadata]]"),
        "plain": judged_hastily(stack, "[[sim:asset-redirect=plain]]"),
        "file": judged_hastily(stack, "[[sim:asset-redirect=file]]"),
        "loop": judged_hastily(stack, "[[sim:asset-redirect=loop]]"),
        "page": judged_hastily(stack, "[[sim:asset-html]]"),
        "archive": judged_hastily(stack, "[[sim:asset-as=zip]]"),
        "playlist": judged_hastily(stack, "[[sim:asset-as=playlist]]"),
        "other": served_with(onetake, "[[sim:wrong-duration]][[sim:wrong-pixels]]"),
        "beside slow": beside_a_slow_media_host(stack),
        "full disk": on_a_full_disk(stack),
        "killed": killed_while_it_downloads(stack, tmp_path_factory.mktemp("spool")),
    }
    tasks = {name: asyncio.create_task(scene) for name, scene in scenes.items()}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


async def served_with(onetake: Onetake, markers: str) -> Play:
    prompt = unique(f"a download {markers}[[sim:delay=0.5]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
    return Play(prompt, await ended(onetake, started.id, LIMIT_S))


async def judged_hastily(stack: Stack, markers: str) -> Play:
    """What may not be used is fetched again for eight minutes, which are five seconds here."""
    async with stack.client(time_scale="0.01") as onetake:
        return await served_with(onetake, markers)


async def sought_hastily(stack: Stack, markers: str) -> Play:
    """What is withheld for good is sought for hours, which are 22 seconds here."""
    async with stack.client(time_scale="0.001") as onetake:
        return await served_with(onetake, markers)


async def served_to_a_small_limit(stack: Stack, markers: str) -> Play:
    async with stack.client(asset_max_bytes=SMALL_BYTES) as onetake:
        return await served_with(onetake, markers)


async def assert_paid_and_nothing_kept(stack: Stack, play: Play) -> None:
    assert money(play.result) == PAID
    assert play.result.assets == ()
    assert await stack.objects_under(f"default/{play.result.id}/") == []


async def test_a_download_that_breaks_is_gone_on_with_where_it_was(
    stack: Stack, onetake: Onetake, plays: Plays, tmp_path: Path
) -> None:
    """Each connection brings 300 kB: only together do they bring the clip."""
    play = await plays["cut"]
    await shows("F080", stack, play.result, play.prompt)
    (job,) = await stack.jobs_of(play.prompt)
    (asset,) = play.result.assets
    assert job["asset_requests"] >= -(-asset.size_bytes // 300_000) > 1
    clip = await onetake.download(play.result.id, tmp_path / "clip.mp4")
    assert hashlib.sha256(clip.read_bytes()).hexdigest() == asset.sha256


async def test_a_drip_is_cut_off_and_the_clip_is_fetched_by_the_next_attempt(stack: Stack, plays: Plays) -> None:
    play = await plays["drip"]
    await shows("F085", stack, play.result, play.prompt)
    (job,) = await stack.jobs_of(play.prompt)
    assert job["asset_requests"] >= 2


@pytest.mark.parametrize("name", ["endless", "declared"])
async def test_a_body_beyond_the_limit_is_not_kept(stack: Stack, plays: Plays, name: str) -> None:
    play = await plays[name]
    await shows("F086", stack, play.result, play.prompt)
    await assert_paid_and_nothing_kept(stack, play)


async def test_a_compressed_body_is_never_unpacked(stack: Stack, plays: Plays) -> None:
    play = await plays["compressed"]
    await shows("F087", stack, play.result, play.prompt)
    await assert_paid_and_nothing_kept(stack, play)
    assert play.result.error
    assert "never decoded" in play.result.error.message


@pytest.mark.parametrize(
    ("name", "rule"),
    [("private", "address"), ("metadata", "address"), ("plain", "scheme"), ("file", "scheme"), ("loop", "redirect")],
)
async def test_a_link_that_leads_where_we_do_not_go_is_refused_at_that_hop(
    stack: Stack, plays: Plays, name: str, rule: str
) -> None:
    play = await plays[name]
    await shows("F088", stack, play.result, play.prompt)
    await assert_paid_and_nothing_kept(stack, play)
    assert play.result.error
    assert f"Rule: {rule}." in play.result.error.message
    assert "onetake replay repersist" in play.result.error.hint


async def test_a_name_that_points_elsewhere_a_moment_later_changes_nothing() -> None:
    """The download that was judged is read; the next dial is judged again, and nothing is sent to the new address."""
    resolver = Answers(["127.0.0.1"], ["169.254.169.254"])
    async with serving(saying(ok(b"clip"))) as (port, visits):
        outbound = Outbound(frozenset({"cdn.example.test"}), resolver=resolver, limits=PATIENT)
        assert await read(outbound, f"http://cdn.example.test:{port}/") == b"clip"
        with pytest.raises(Failed) as refused:
            await read(outbound, f"http://cdn.example.test:{port}/")
        await outbound.aclose()
    assert (resolver.count, len(visits)) == (2, 1)
    expect("F089", sees=refused.value.code, ledger=(), jobs=0)


@pytest.mark.parametrize("name", ["page", "archive", "playlist"])
async def test_what_is_no_clip_is_never_handed_out(stack: Stack, plays: Plays, name: str) -> None:
    play = await plays[name]
    await shows("F090", stack, play.result, play.prompt)
    assert money(play.result) == PAID
    assert play.result.assets == ()


async def test_a_clip_that_differs_from_what_was_asked_for_is_kept_and_said(stack: Stack, plays: Plays) -> None:
    play = await plays["other"]
    await shows("F091", stack, play.result, play.prompt)
    assert [each.code for each in play.result.warnings] == ["duration_differs", "pixels_differ"]
    assert len(play.result.assets) == 1


# -- One slow media host -----------------------------------------------------------------------------------------------


async def beside_a_slow_media_host(stack: Stack) -> Play:
    """As many slow downloads as a worker has slots for at a vendor, and a clip of another vendor's while they last."""
    queue, prompt, other_prompt = "slow-host", unique("slow [[sim:asset-slow=40000]]"), unique("quick")
    async with stack.worker(queue), stack.client(task_queue=queue) as onetake:
        slow = [
            await onetake.start(route=ROUTE, prompt=prompt, duration_s=5, deadline_s=PATIENT_S)
            for _ in range(MOST_CLIPS)
        ]
        async with asyncio.timeout(LIMIT_S):
            while len(await being_stored(onetake, slow)) < MOST_CLIPS:
                await asyncio.sleep(0.2)
        other = await onetake.start(route=OTHER_ROUTE, prompt=other_prompt, duration_s=5, deadline_s=PATIENT_S)
        result = await ended(onetake, other.id, LIMIT_S)
        assert len(await being_stored(onetake, slow)) == MOST_CLIPS
        await stack.release(prompt)
        ends = await asyncio.gather(*(ended(onetake, each.id, LIMIT_S) for each in slow))
    assert {each.status for each in ends} == {"completed"}
    return Play(other_prompt, result)


async def being_stored(onetake: Onetake, begun: Sequence[Started]) -> list[str]:
    records = await asyncio.gather(*(onetake.get(each.id) for each in begun))
    return [record.id for record in records if record.phase == "persisting"]


async def test_a_slow_media_host_holds_up_no_other_vendors_clips(plays: Plays) -> None:
    assert (await plays["beside slow"]).result.status == "completed"


# -- Disks without room ------------------------------------------------------------------------------------------------


async def on_a_full_disk(stack: Stack) -> Play:
    """The worker says so at its health port and in its log, and serves all else; another takes the clip."""
    queue, prompt = "full-disk", unique("no room here [[sim:delay=0.3]]")
    async with (
        stack.worker(queue, ONETAKE_SPOOL_RESERVE_BYTES=NO_ROOM) as full,
        stack.client(task_queue=queue) as onetake,
    ):
        assert await asyncio.to_thread(stack.readiness, full) == (503, ["spool_full"])
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
        await pending(stack, started.workflow_id, "persist")
        async with stack.worker(queue, roles=("media",)) as roomy:
            assert await asyncio.to_thread(stack.readiness, roomy) == (200, [])
            result = await ended(onetake, started.id, LIMIT_S)
        assert "spool_full" in stack.log_of(full)
        assert await takers(stack, started) == {stack.child(roomy).pid}
    return Play(prompt, result)


async def takers(stack: Stack, started: Started) -> set[int]:
    """The processes that tried to store the clip."""
    events = await stack.closed_history(started.workflow_id)
    persists = {
        event.event_id
        for event in events
        if event.activity_task_scheduled_event_attributes.activity_id.startswith("persist-")
    }
    begun = [event.activity_task_started_event_attributes for event in events]
    return {int(each.identity.partition("@")[0]) for each in begun if each.scheduled_event_id in persists}


async def test_a_worker_without_room_leaves_its_clips_to_another(stack: Stack, plays: Plays) -> None:
    play = await plays["full disk"]
    await shows("F093", stack, play.result, play.prompt)


async def killed_while_it_downloads(stack: Stack, spool: Path) -> Play:
    queue, prompt = "killed-in-download", unique("killed [[sim:asset-slow=20000,1]]")
    async with stack.client(task_queue=queue) as onetake:
        async with stack.worker(queue, ONETAKE_SPOOL_DIR=str(spool)) as name:
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=5, deadline_s=PATIENT_S)
            async with asyncio.timeout(LIMIT_S):
                while not (left := [each for each in spool.glob("*/media") if each.stat().st_size]):
                    await asyncio.sleep(0.1)
            stack.kill(name)
            await stack.died(name)
        assert left[0].exists()
        os.utime(left[0].parent, (0, 0))  # a young folder may be one that begins
        async with stack.worker(queue, ONETAKE_SPOOL_DIR=str(spool)):
            assert not left[0].exists()
            result = await ended(onetake, started.id, LIMIT_S)
            async with asyncio.timeout(LIMIT_S):
                while list(spool.iterdir()):
                    await asyncio.sleep(0.1)
    return Play(prompt, result)


async def test_files_of_a_worker_that_was_killed_are_gone_when_the_next_one_starts(stack: Stack, plays: Plays) -> None:
    play = await plays["killed"]
    await shows("F093", stack, play.result, play.prompt)
