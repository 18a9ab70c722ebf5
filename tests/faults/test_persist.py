"""Persisting: the vendor has been paid, so the clip is fetched as long as there is hope, and only a true one is kept.

All generations run side by side; each test waits for its own. How often a clip was asked for is a least number: a
worker that stood still for longer than its heartbeats may begins again.
"""

import asyncio
import hashlib
import io
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from minio import Minio
from temporalio.client import WorkflowFailureError

from onetake.client import Onetake
from onetake.core.contracts import GenerationRequest, GenerationResult
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import GENERATION_WORKFLOW
from tests.faults.engine import failing_with
from tests.faults.table import shows
from tests.media.inputs.media_host import MediaHost
from tests.system.harness import LIMIT_S, PATIENT_S, ROUTE, Stack, ended, in_phase, money, unique
from tests.system.relay import relaying

PAID = (200_000, 200_000, 0)
DOWNLOADS = 8  # at least, each from a fresh link
A_DAY_IN_SECONDS = "0.0002"  # the scale at which storage may be away for 17 s
HOURS_IN_SECONDS = "0.001"  # the scale at which a clip is sought for 22 s
PRODUCTIONS = "1"  # the scale at which a worker may be silent for 15 s
FROZEN_S = 6.0  # longer than a worker may be silent


@dataclass(frozen=True)
class Play:
    """A generation that has ended, and its objects at some moment before."""

    prompt: str
    result: GenerationResult
    objects: Mapping[str, object] = field(default_factory=dict[str, object])


Plays = Mapping[str, asyncio.Task[Play]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plays(stack: Stack, onetake: Onetake, media_host: MediaHost) -> AsyncGenerator[Plays]:
    async with stack.client(time_scale=HOURS_IN_SECONDS) as hasty:
        async for each in played(stack, onetake, hasty, media_host):
            yield each


async def played(stack: Stack, onetake: Onetake, hasty: Onetake, media_host: MediaHost) -> AsyncGenerator[Plays]:
    scenes = {
        "403": served_with(hasty, "[[sim:asset-403]]"),
        "404": served_with(hasty, "[[sim:asset-404]]"),
        "403 for a while": served_with(onetake, "[[sim:asset-403=5]]"),
        "404 for a while": served_with(onetake, "[[sim:asset-404=5]]"),
        "away for a while": served_late(stack, onetake),
        "a page for a while": served_with(onetake, "[[sim:asset-html=5]]"),
        "500": served_with(onetake, "[[sim:asset-500=2]]"),
        "reset": served_with(onetake, "[[sim:asset-reset=2]]"),
        "longer": served_with(hasty, "[[sim:asset-cut]]"),
        "shorter": served_with(hasty, "[[sim:asset-short-length]]"),
        "two": served_with(hasty, "[[sim:asset-two-lengths]]"),
        "closed": served_with(hasty, "[[sim:asset-cut-closed]]"),
        "chunked": served_with(hasty, "[[sim:asset-cut-chunked]]"),
        "back": with_the_store_away(stack),
        "gone": with_the_store_gone(stack),
        "killed": killed_after_the_upload(stack),
        "frozen": frozen_while_it_persists(stack),
        "beside": with_an_object_at(stack, onetake, "0.mp4", media_host.files["clip.mp4"]),
        "taken": with_an_object_at(stack, onetake, "manifest.json", b"somebody else's"),
        "canceled": canceled_while_persisting(onetake),
    }
    tasks = {name: asyncio.create_task(scene) for name, scene in scenes.items()}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())


async def served_with(onetake: Onetake, marker: str) -> Play:
    prompt = unique(f"a bad copy {marker}[[sim:delay=0.5]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
    return Play(prompt, await ended(onetake, started.id))


async def served_late(stack: Stack, onetake: Onetake) -> Play:
    """The link is of no use until it was tried."""
    prompt = unique("a bad copy [[sim:asset-away=9999,410]][[sim:delay=0.5]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
    while not [job for job in await stack.jobs_of(prompt) if job["asset_requests"]]:
        await asyncio.sleep(0.1)
    await stack.release(prompt)
    return Play(prompt, await ended(onetake, started.id))


async def assert_nothing_is_kept(stack: Stack, play: Play) -> None:
    """The vendor was paid and asked many times with a fresh link each; nothing is left once the bucket is swept."""
    (job,) = await stack.jobs_of(play.prompt)
    assert job["asset_requests"] >= DOWNLOADS
    assert job["status_reads"] >= job["asset_requests"]
    assert money(play.result) == PAID
    assert play.result.assets == ()
    assert play.result.error
    assert "paid" in play.result.error.hint
    await stack.swept()
    assert await stack.objects_under(f"default/{play.result.id}/") == []


async def test_a_link_that_is_refused_is_asked_for_afresh(stack: Stack, plays: Plays) -> None:
    for play in (await plays["403"], await plays["404"]):
        await shows("F079", stack, play.result, play.prompt, end="for ever")
        await assert_nothing_is_kept(stack, play)


@pytest.mark.parametrize("name", ["403 for a while", "404 for a while", "away for a while", "a page for a while"])
async def test_a_link_that_is_refused_for_a_while_is_followed_in_the_end(stack: Stack, plays: Plays, name: str) -> None:
    play = await plays[name]
    await shows("F079", stack, play.result, play.prompt, end="for a while")
    (job,) = await stack.jobs_of(play.prompt)
    assert job["status_reads"] >= job["asset_requests"] > 1
    await stack.swept()
    await assert_one_clip(stack, play)


async def test_a_download_that_breaks_is_begun_again(
    stack: Stack, onetake: Onetake, plays: Plays, tmp_path: Path
) -> None:
    for play in (await plays["500"], await plays["reset"]):
        await shows("F080", stack, play.result, play.prompt)
        (job,) = await stack.jobs_of(play.prompt)
        assert job["asset_requests"] >= 3
        clip = await onetake.download(play.result.id, tmp_path / f"{play.result.id}.mp4")
        (asset,) = play.result.assets
        assert hashlib.sha256(clip.read_bytes()).hexdigest() == asset.sha256


async def test_a_body_shorter_than_its_length_is_not_kept(stack: Stack, plays: Plays) -> None:
    play = await plays["longer"]
    await shows("F081", stack, play.result, play.prompt)
    await assert_nothing_is_kept(stack, play)


async def test_a_body_longer_than_its_length_is_not_kept(stack: Stack, plays: Plays) -> None:
    play = await plays["shorter"]
    await shows("F082", stack, play.result, play.prompt, end="shorter")
    await assert_nothing_is_kept(stack, play)


async def test_an_answer_with_two_lengths_is_refused(stack: Stack, plays: Plays) -> None:
    play = await plays["two"]
    await shows("F082", stack, play.result, play.prompt, end="two")
    await assert_nothing_is_kept(stack, play)


async def test_half_a_clip_in_a_complete_answer_is_not_kept(stack: Stack, plays: Plays) -> None:
    play = await plays["closed"]
    await shows("F083", stack, play.result, play.prompt)
    await assert_nothing_is_kept(stack, play)


async def test_half_a_chunked_body_is_not_kept(stack: Stack, plays: Plays) -> None:
    play = await plays["chunked"]
    await shows("F084", stack, play.result, play.prompt)
    await assert_nothing_is_kept(stack, play)


# -- The object store --------------------------------------------------------------------------------------------------


async def with_the_store_away(stack: Stack) -> Play:
    """The attempt that a callback woke meets the store's absence when it stores, and not before it downloads; those
    that follow ask the vendor for nothing."""
    queue = "store-back"
    prompt = unique("the store is away [[sim:held]]")
    async with (
        relaying(stack.environment["ONETAKE_S3_ENDPOINT"]) as (line, endpoint),
        stack.worker(queue, ONETAKE_S3_ENDPOINT=endpoint),
        stack.client(task_queue=queue) as onetake,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
        await in_phase(onetake, started.id, "generating")
        line.cut()
        await stack.release(prompt)
        await failing_with(stack, started.workflow_id, "storage_unavailable", times=2)
        assert [job["asset_requests"] for job in await stack.jobs_of(prompt)] in ([0], [1])
        waiting = await onetake.get(started.id)
        assert (waiting.status, waiting.phase) == ("in_progress", "persisting")
        line.mend()
        return Play(prompt, await ended(onetake, started.id))


async def test_an_object_store_that_comes_back_gets_the_clip(stack: Stack, plays: Plays) -> None:
    play = await plays["back"]
    await shows("F092", stack, play.result, play.prompt, end="back")


async def with_the_store_gone(stack: Stack) -> Play:
    queue = "store-gone"
    prompt = unique("the store is gone [[sim:held]][[sim:no-callback]]")
    async with (
        relaying(stack.environment["ONETAKE_S3_ENDPOINT"]) as (line, endpoint),
        stack.worker(queue, ONETAKE_S3_ENDPOINT=endpoint, ONETAKE_TIME_SCALE=A_DAY_IN_SECONDS),
        stack.client(task_queue=queue, time_scale=A_DAY_IN_SECONDS) as onetake,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
        await in_phase(onetake, started.id, "generating")
        line.cut()
        await stack.release(prompt)
        return Play(prompt, await ended(onetake, started.id))


async def test_an_object_store_that_stays_away_for_a_day_fails_the_generation_as_paid(
    stack: Stack, plays: Plays
) -> None:
    play = await plays["gone"]
    await shows("F092", stack, play.result, play.prompt, end="gone")
    assert money(play.result) == PAID
    assert play.result.vendor_task_id, "by it a person, or a replay, can fetch the clip"


async def killed_after_the_upload(stack: Stack) -> Play:
    queue = "killed-after-put"
    prompt = unique("killed after the upload [[sim:delay=0.3]][[sim:asset-slow=300000]]")
    async with stack.client(task_queue=queue, time_scale=PRODUCTIONS) as onetake:
        async with stack.worker(queue, crash="persist.after_put") as name:
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
            assert await stack.died(name) == "persist.after_put"
        put = await objects_of(stack, started.id)
        async with stack.worker(queue):
            return Play(prompt, await ended(onetake, started.id), put)


async def test_a_worker_killed_after_the_upload_leaves_one_object(stack: Stack, plays: Plays) -> None:
    play = await plays["killed"]
    await shows("F094", stack, play.result, play.prompt, end="killed")
    assert play.objects.items() <= (await objects_of(stack, play.result.id)).items(), "it was not written again"
    await assert_one_clip(stack, play)


async def frozen_while_it_persists(stack: Stack) -> Play:
    """Stopped for longer than the engine waits for it, with its reader; another worker completes, and it goes on."""
    queue = "frozen-persist"
    prompt = unique("frozen [[sim:asset-slow=20000]]")
    async with (
        stack.client(task_queue=queue) as onetake,
        stack.worker(queue, roles=("orchestrate", "vendors")),
        stack.worker(queue, roles=("media",)) as first,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S)
        await in_phase(onetake, started.id, "persisting")
        processes = (stack.child(first).pid, *children_of(stack.child(first).pid))
        for each in processes:
            os.kill(each, signal.SIGSTOP)
        async with stack.worker(queue, roles=("media",)):
            await stack.release(prompt)
            play = Play(prompt, await ended(onetake, started.id))
            for each in processes:
                os.kill(each, signal.SIGCONT)
            await asyncio.sleep(FROZEN_S)
            return play


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_worker_that_froze_and_goes_on_takes_nothing_away(
    stack: Stack, onetake: Onetake, plays: Plays, tmp_path: Path
) -> None:
    play = await plays["frozen"]
    await shows("F094", stack, play.result, play.prompt, end="frozen")
    await onetake.download(play.result.id, tmp_path / "clip.mp4")
    await stack.swept()
    await assert_one_clip(stack, play)


async def with_an_object_at(stack: Stack, onetake: Onetake, name: str, foreign: bytes) -> Play:
    """It is there before the generation begins."""
    prompt, generation_id, settings = unique("somebody was here"), new_generation_id(), stack.settings()
    key = f"default/{generation_id}/1/{name}"
    await asyncio.to_thread(store_of(stack).put_object, settings.s3_bucket, key, io.BytesIO(foreign), len(foreign))
    taken = await objects_of(stack, generation_id)
    run = await (await stack.temporal()).start_workflow(
        GENERATION_WORKFLOW,
        GenerationRequest(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=PATIENT_S),
        id=workflow_id_of("default", generation_id),
        task_queue=settings.task_queue,
    )
    with suppress(WorkflowFailureError):
        async with asyncio.timeout(LIMIT_S):
            await run.result()
    return Play(prompt, await ended(onetake, generation_id), taken)


async def test_an_object_of_somebody_elses_is_neither_overwritten_nor_taken_for_the_clip(
    stack: Stack, plays: Plays
) -> None:
    play = await plays["beside"]
    await shows("F095", stack, play.result, play.prompt, end="beside")
    assert play.objects.items() < (await objects_of(stack, play.result.id)).items()
    assert {asset.key for asset in play.result.assets} & play.objects.keys() == set()
    play = await plays["taken"]
    await shows("F095", stack, play.result, play.prompt, end="manifest")
    assert money(play.result) == PAID
    assert play.objects.items() <= (await objects_of(stack, play.result.id)).items()


async def canceled_while_persisting(onetake: Onetake) -> Play:
    prompt = unique("too late to cancel [[sim:asset-slow=300000]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "persisting")
    await onetake.cancel(started.id)
    return Play(prompt, await ended(onetake, started.id))


async def test_a_cancel_while_persisting_comes_too_late(stack: Stack, plays: Plays) -> None:
    play = await plays["canceled"]
    await shows("F096", stack, play.result, play.prompt)
    await stack.swept()
    await assert_one_clip(stack, play)


async def assert_one_clip(stack: Stack, play: Play) -> None:
    (asset,) = play.result.assets
    objects = await objects_of(stack, play.result.id)
    assert sorted(objects) == [asset.key, f"default/{play.result.id}/1/manifest.json"]


async def test_nothing_is_left_half_uploaded(stack: Stack, plays: Plays) -> None:
    ids = [play.result.id for play in await asyncio.gather(*plays.values())]
    uploads = await asyncio.to_thread(
        store_of(stack)._list_multipart_uploads,  # pyright: ignore[reportPrivateUsage]
        bucket_name=stack.settings().s3_bucket,
    )
    assert [each for each in uploads.uploads if any(one in (each.object_name or "") for one in ids)] == []


def store_of(stack: Stack) -> Minio:
    """A client of the bucket that knows nothing of ours."""
    settings = stack.settings()
    return Minio(
        endpoint=settings.s3_endpoint.removeprefix("http://"),
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
        region=settings.s3_region,
    )


async def objects_of(stack: Stack, generation_id: str) -> dict[str, tuple[object, object]]:
    """The ETag and the time of every object of a generation, by key."""
    found = await asyncio.to_thread(
        lambda: list(
            store_of(stack).list_objects(
                bucket_name=stack.settings().s3_bucket, prefix=f"default/{generation_id}/", recursive=True
            )
        )
    )
    return {str(each.object_name): (each.etag, each.last_modified) for each in found}
