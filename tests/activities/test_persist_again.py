"""How long a paid clip is sought, and what becomes of one that this machine cannot read."""

from unittest.mock import MagicMock

import pytest

from onetake.core.contracts import Persisted
from onetake.core.errors import TryLater
from tests.activities.persisting import UnableReader, persisting
from tests.media.inputs.media_host import MediaHost
from tests.media.storage.parts import Server, remains

HOURS_6 = 6 * 3600
LEFT_OUT = "link_not_video"


def told(persisted: Persisted) -> list[str]:
    return [notice.code for notice in persisted.warnings]


@pytest.mark.parametrize("fault", ["refuses", "linkless"])
async def test_what_a_vendor_withholds_is_sought_with_fresh_links_for_hours(
    bucket: Server, media_host: MediaHost, fault: str
) -> None:
    async with persisting(bucket, media_host) as case:
        setattr(case.vendor, fault, 1000)
        failure, attempts = await case.until_given_up()
        assert failure.code == ("asset_unavailable" if fault == "refuses" else "vendor_bad_result")
        assert HOURS_6 <= case.clock_s < HOURS_6 + 600
        assert case.vendor.reads == attempts <= 60
        assert case.keys == []


@pytest.mark.parametrize("fault", ["refuses", "linkless"])
async def test_a_clip_that_comes_after_minutes_is_stored(bucket: Server, media_host: MediaHost, fault: str) -> None:
    async with persisting(bucket, media_host) as case:
        setattr(case.vendor, fault, 9)
        after_s = 0.0
        for _ in range(9):
            with pytest.raises(TryLater) as later:
                await case.attempt(after_s)
            after_s = later.value.after_s or 0.0
        await case.attempt(after_s)
        assert (case.held, case.clock_s > 240) == (media_host.files["clip.mp4"], True)


async def test_a_success_that_shows_as_running_again_is_waited_for(bucket: Server, media_host: MediaHost) -> None:
    async with persisting(bucket, media_host) as case:
        case.vendor.says = ["open"] * 1000
        failure, _ = await case.until_given_up()
        assert (failure.code, case.clock_s >= HOURS_6) == ("vendor_bad_result", True)


async def test_what_is_no_clip_is_fetched_again_for_some_minutes(bucket: Server, media_host: MediaHost) -> None:
    async with persisting(bucket, media_host) as case:
        case.vendor.link = media_host.url("picture.png")
        failure, attempts = await case.until_given_up()
        assert (failure.code, attempts) == ("asset_not_video", 10)
        assert 480 <= case.clock_s < 1000
        assert remains(bucket, case.manifest) == []


@pytest.mark.parametrize("clip_is_first", [True, False])
async def test_what_is_no_clip_beside_a_clip_is_left_out_with_a_warning(
    bucket: Server, media_host: MediaHost, clip_is_first: bool
) -> None:
    """As late as it would be given up alone; the clip is fetched once meanwhile."""
    async with persisting(bucket, media_host) as case:
        links = [media_host.url("clip.mp4"), media_host.url("picture.jpg")]
        case.vendor.link, *case.vendor.beside = links if clip_is_first else reversed(links)
        persisted, attempts = await case.until_published()
        assert LEFT_OUT in told(persisted)
        assert (len(persisted.assets), attempts, case.vendor.downloads) == (1, 10, 11)
        assert (bucket.folder / persisted.assets[0].key).read_bytes() == media_host.files["clip.mp4"]
        assert await case.attempt() == persisted
        case.kept, case.attempts = [], 0  # another activity, which has nothing of this one's memory
        assert await case.attempt() == persisted


async def test_a_clip_whose_body_is_broken_for_minutes_is_stored_beside_a_whole_one(
    bucket: Server, media_host: MediaHost
) -> None:
    async with persisting(bucket, media_host) as case:
        case.vendor.beside = [media_host.put("second.mp4", b"<html>busy</html>")]
        for _ in range(5):
            with pytest.raises(TryLater):
                await case.attempt()
        media_host.put("second.mp4", media_host.files["clip.mp4"])
        persisted = await case.attempt()
        assert (len(persisted.assets), LEFT_OUT in told(persisted)) == (2, False)


async def test_two_that_are_no_clips_are_fetched_as_often_as_one(bucket: Server, media_host: MediaHost) -> None:
    """Hours lie between the tries: the clock gives nothing up."""
    async with persisting(bucket, media_host) as case:
        case.vendor.link, case.vendor.beside = media_host.url("picture.png"), [media_host.url("picture.jpg")]
        for _ in range(7):
            with pytest.raises(TryLater):
                await case.attempt(HOURS_6 / 3)


async def test_our_own_absence_gives_nothing_up(bucket: Server, media_host: MediaHost) -> None:
    """No worker was there for hours between the tries."""
    async with persisting(bucket, media_host) as case:
        case.vendor.refuses = 3
        for _ in range(3):
            with pytest.raises(TryLater):
                await case.attempt(HOURS_6)
        await case.attempt()
        assert case.held == media_host.files["clip.mp4"]


async def test_a_clip_that_cannot_be_read_here_is_kept_and_read_again(bucket: Server, media_host: MediaHost) -> None:
    """The vendor is not asked for it again, not even while it is away."""
    async with persisting(bucket, media_host) as case:
        reader = UnableReader(case.persist, times=3)
        for _ in range(3):
            with pytest.raises(TryLater, match=r"kept as default/.*\.mp4") as later:
                await case.attempt()
            assert later.value.code == "asset_unverified"
        (key,) = case.keys
        assert remains(bucket, case.manifest) == []
        case.vendor.says = [TryLater("vendor_unavailable", "")] * 9
        (asset,) = (await case.attempt()).assets
        assert (asset.key, case.vendor.downloads, reader.patience) == (key, 1, [1, 2, 3, 4])


async def test_a_clip_that_can_never_be_read_here_is_kept_at_the_end_and_read_by_a_replay(
    bucket: Server, media_host: MediaHost
) -> None:
    """Another copy is tried now and then: the bytes may be what no reader survives. The replay is another activity,
    which has nothing of the first one's memory; the vendor has the clip no more."""
    async with persisting(bucket, media_host) as case:
        reader = UnableReader(case.persist, times=1000)
        failure, attempts = await case.until_given_up(most=300)
        assert failure.code == "asset_unverified"
        assert case.clock_s > 23 * 3600
        assert 1 < len(case.keys) < attempts / 3
        kept = failure.detail.rpartition(" ")[2].rstrip(".")
        assert kept in case.keys
        assert remains(bucket, case.manifest) == []
        case.kept, case.attempts, case.clock_s, reader.times = [], 0, 0.0, 0
        downloads, case.vendor.refuses = case.vendor.downloads, 1000
        (asset,) = (await case.attempt()).assets
        assert (asset.key, case.vendor.downloads) == (kept, downloads)


async def test_a_copy_that_no_reader_survives_is_replaced_by_another(bucket: Server, media_host: MediaHost) -> None:
    async with persisting(bucket, media_host) as case:
        UnableReader(case.persist, times=4)
        for _ in range(4):
            with pytest.raises(TryLater):
                await case.attempt()
        (first,), (asset,) = case.keys, (await case.attempt()).assets
        assert (asset.key != first, case.vendor.downloads) == (True, 2)


async def test_an_attempt_that_dies_at_the_second_copy_leaves_the_first_to_the_next(
    bucket: Server, media_host: MediaHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor hands out nothing more by then: the first copy is all that there is."""
    async with persisting(bucket, media_host) as case:
        UnableReader(case.persist, times=4)
        for _ in range(4):
            with pytest.raises(TryLater):
                await case.attempt()
        (first,) = case.keys
        with monkeypatch.context() as dying:
            dying.setattr(case.vendor, "download", MagicMock(side_effect=SystemError))
            with pytest.raises(SystemError):
                await case.attempt()
        case.vendor.refuses = 1000
        (asset,) = (await case.attempt()).assets
        assert asset.key == first
