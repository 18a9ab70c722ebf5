"""How a clip is copied, each attempt alone in a call of its own: a real store and reader, a vendor that is made up."""

import asyncio

import pytest

from onetake.core.errors import Failed, TryLater
from tests.activities.persisting import Persisting, StoppingReader, persisting
from tests.media.inputs.media_host import MediaHost
from tests.media.storage.parts import Server, remains
from tests.servers import LIMIT_S


async def test_a_clip_is_stored_by_the_first_attempt_and_not_read_back(bucket: Server, media_host: MediaHost) -> None:
    async with persisting(bucket, media_host) as case:
        await case.attempt()
        assert case.held == media_host.files["clip.mp4"]
        of_the_clip = [each.partition(" ")[0] for each in case.proxy.seen if each.endswith(case.keys[0])]
        assert of_the_clip == ["HEAD", "PUT", "HEAD"]


async def test_a_clip_in_a_store_that_does_not_verify_is_read_back(bucket: Server, media_host: MediaHost) -> None:
    async with persisting(bucket, media_host, verifies=False) as case:
        await case.attempt()
        assert case.held == media_host.files["clip.mp4"]
        assert f"GET {case.keys[0]}" in case.proxy.seen


async def test_what_the_store_holds_is_compared_with_what_it_was_sent(bucket: Server, media_host: MediaHost) -> None:
    """It says that all is well, and keeps something else. The clip is copied again, under another key."""
    async with persisting(bucket, media_host, verifies=False, damages=True) as case:
        with pytest.raises(TryLater, match="something else than it was sent") as failure:
            await case.attempt()
        assert failure.value.code == "storage_unavailable"
        assert remains(bucket, case.manifest) == []
        case.proxy.damages = False
        (damaged,), (asset,) = case.keys, (await case.attempt()).assets
        assert asset.key != damaged
        assert (bucket.folder / asset.key).read_bytes() == media_host.files["clip.mp4"]


async def test_a_clip_that_was_damaged_on_the_way_is_stored_by_the_next_attempt(
    bucket: Server, media_host: MediaHost
) -> None:
    async with persisting(bucket, media_host, damages=True) as case:
        with pytest.raises(TryLater, match="BadDigest") as failure:
            await case.attempt()
        assert failure.value.code == "storage_unavailable"
        assert case.keys == []
        case.proxy.damages = False
        await case.attempt()
        assert case.held == media_host.files["clip.mp4"]


async def test_what_others_put_beside_it_is_neither_overwritten_nor_taken_for_the_clip(
    bucket: Server, media_host: MediaHost
) -> None:
    async with persisting(bucket, media_host) as case:
        foreign = f"{case.prefix}/0.mp4"
        await asyncio.to_thread(case.put_there, foreign, b"somebody else's")
        (asset,) = (await case.attempt()).assets
        assert asset.key != foreign
        assert (bucket.folder / foreign).read_bytes() == b"somebody else's"
        assert (bucket.folder / asset.key).read_bytes() == media_host.files["clip.mp4"]


@pytest.mark.parametrize("foreign", [b"nonsense", b"{}", None])
async def test_a_manifest_that_names_no_stored_clip_is_never_taken_for_one(
    bucket: Server, media_host: MediaHost, foreign: bytes | None
) -> None:
    """It is somebody else's, or the object that it names is gone."""
    async with persisting(bucket, media_host) as case:
        if foreign is None:
            (asset,) = (await case.attempt()).assets
            (bucket.folder / asset.key).unlink()
        else:
            await asyncio.to_thread(case.put_there, case.manifest, foreign)
        with pytest.raises(Failed) as failure:
            await case.attempt()
        assert failure.value.code == "storage_conflict"


@pytest.mark.parametrize("link_is_gone", [False, True])
async def test_what_an_earlier_attempt_stored_is_kept(
    bucket: Server, media_host: MediaHost, link_is_gone: bool
) -> None:
    """It died before it could tell what it had sent: the next one compares the object with what the vendor delivers,
    where that can still be had."""
    async with persisting(bucket, media_host) as case:
        await died_after_the_upload(case)
        (key,) = case.keys
        case.proxy.seen.clear()
        case.vendor.refuses = 1 if link_is_gone else 0
        (asset,) = (await case.attempt()).assets
        assert (asset.key, case.keys) == (key, [key])
        assert not [each for each in case.proxy.seen if each.startswith("PUT") and each.endswith(".mp4")]


async def test_what_an_earlier_attempt_stored_is_not_taken_for_something_else(
    bucket: Server, media_host: MediaHost
) -> None:
    async with persisting(bucket, media_host) as case:
        await died_after_the_upload(case)
        (key,) = case.keys
        (bucket.folder / key).write_bytes(b"not what was sent")
        (asset,) = (await case.attempt()).assets
        assert asset.key != key
        assert (bucket.folder / asset.key).read_bytes() == media_host.files["clip.mp4"]


async def died_after_the_upload(case: Persisting) -> None:
    """An attempt of which the engine knows the key and no more."""
    case.proxy.loses_confirmation = True
    with pytest.raises(TryLater):
        await case.attempt()
    case.proxy.loses_confirmation = False
    case.kept = [next(kept for kept in case.kept if kept)]


async def test_an_attempt_is_not_repeated_for_what_the_last_one_remembers(
    bucket: Server, media_host: MediaHost
) -> None:
    """The store went away between the upload and its confirmation."""
    async with persisting(bucket, media_host) as case:
        case.proxy.loses_confirmation = True
        with pytest.raises(TryLater) as failure:
            await case.attempt()
        assert failure.value.code == "storage_unavailable"
        case.proxy.loses_confirmation = False
        await case.attempt()
        assert case.vendor.downloads == 1


# -- When a callback came ----------------------------------------------------------------------------------------------


async def test_a_woken_step_that_finds_the_job_over_stores_its_clip_and_says_what_it_read(
    bucket: Server, media_host: MediaHost
) -> None:
    async with persisting(bucket, media_host, woken=True) as case:
        persisted = await case.attempt()
        assert case.held == media_host.files["clip.mp4"]
        assert (persisted.reading.vendor_state, len(persisted.assets)) == ("SUCCEEDED", 1)
        assert case.rows.told == [(False, False), "persisting"]


@pytest.mark.parametrize("said", ["open", "missing"])
async def test_a_callback_that_came_too_early_is_an_open_job_with_the_time_of_its_next_read(
    bucket: Server, media_host: MediaHost, said: str
) -> None:
    async with persisting(bucket, media_host, woken=True) as case:
        case.vendor.says = [said]
        persisted = await case.attempt()
        assert (persisted.reading.state, persisted.assets, case.rows.told) == ("open", (), [])
        assert persisted.reading.again_s
        assert case.proxy.seen == []


async def test_a_woken_step_answers_that_the_job_has_failed(bucket: Server, media_host: MediaHost) -> None:
    async with persisting(bucket, media_host, woken=True) as case:
        case.vendor.says = ["failed"]
        persisted = await case.attempt()
        assert (persisted.reading.state, persisted.assets, case.rows.told) == ("failed", (), [(True, False)])


@pytest.mark.parametrize(("code", "told"), [("vendor_unavailable", []), ("vendor_throttled", ["refused"])])
async def test_a_vendor_that_cannot_be_asked_leaves_the_job_open_until_the_next_read(
    bucket: Server, media_host: MediaHost, code: str, told: list[str]
) -> None:
    async with persisting(bucket, media_host, woken=True) as case:
        case.vendor.says = [TryLater(code, "HTTP")]
        reading = (await case.attempt()).reading
        assert (reading.state, reading.error and reading.error.code, case.rows.told) == ("open", code, told)


async def test_a_success_that_was_seen_counts_in_the_attempts_that_follow(
    bucket: Server, media_host: MediaHost
) -> None:
    """The first could not store the clip. A vendor that says "running" lags behind; one that says "failed" is asked
    once more by the workflow, which decides about the money."""
    async with persisting(bucket, media_host, woken=True, damages=True) as case:
        with pytest.raises(TryLater, match="BadDigest"):
            await case.attempt()
        case.vendor.says = ["open", "failed"]
        with pytest.raises(TryLater) as later:
            await case.attempt()
        assert later.value.code == "vendor_bad_result"
        with pytest.raises(Failed) as failed:
            await case.attempt()
        assert failed.value.code == "vendor_failed"


# -- Two attempts at once ----------------------------------------------------------------------------------------------


async def test_an_attempt_that_froze_while_it_read_does_no_harm_when_it_goes_on(
    bucket: Server, media_host: MediaHost
) -> None:
    """Its reader's time is over by then, and a second attempt has published the object that the first one stored."""
    async with persisting(bucket, media_host) as case:
        reader = StoppingReader(case.persist)
        reader.stop_the_next()
        first = asyncio.create_task(case.attempt())
        await reader.stopped.wait()
        second = await case.attempt()
        await reader.over.wait()
        reader.go_on()
        with pytest.raises(TryLater) as unread:
            await first
        assert unread.value.code == "asset_unverified"
        (asset,) = second.assets
        assert (bucket.folder / asset.key).read_bytes() == media_host.files["clip.mp4"]
        assert await case.attempt() == second


async def test_of_two_attempts_the_first_manifest_stands_and_both_answer_it(
    bucket: Server, media_host: MediaHost
) -> None:
    async with persisting(bucket, media_host) as case:
        reader = StoppingReader(case.persist, limit_s=LIMIT_S)
        reader.stop_the_next()
        first = asyncio.create_task(case.attempt())
        await reader.stopped.wait()
        case.kept = []  # the engine has not heard of the first one's key
        second = await case.attempt()
        reader.go_on()
        assert await first == second
        assert len(case.keys) == 2
        assert second.assets[0].key in case.keys


async def test_an_attempt_that_is_out_of_time_publishes_nothing(
    bucket: Server, media_host: MediaHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with persisting(bucket, media_host) as case:
        clock = iter([0.0, 901.0])
        monkeypatch.setattr("activities.persist._monotonic", lambda: next(clock))
        with pytest.raises(TryLater, match="out of time"):
            await case.attempt()
        assert remains(bucket, case.manifest) == []
