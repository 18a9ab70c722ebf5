"""What a store verifies by itself, and what is read back because it does not."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onetake.core.errors import TryLater
from onetake.core.ports import Body, Stored
from onetake.media.storage import BucketStore
from tests.media.storage.between import Between, between
from tests.media.storage.parts import Server, body_of, put, remains

SIZE = 3 * 1024 * 1024 + 7


@asynccontextmanager
async def checked(server: Server, **choices: bool | int) -> AsyncGenerator[tuple[BucketStore, Between]]:
    """A store behind a proxy, after its check; the proxy has forgotten what it saw of that."""
    async with between(server, **choices) as (proxy, at):
        store = at.store()
        await store.ensure_bucket()
        await store.check()
        proxy.seen.clear()
        yield store, proxy
        store.close()


def checks_left(server: Server) -> list[Path]:
    return [path for path in server.folder.glob("check/**/*") if path.is_file()]


async def test_a_clip_goes_over_the_wire_once(server: Server, key: str) -> None:
    async with checked(server) as (store, proxy):
        assert store.verifies
        stored = await put(store, key, body_of(os.urandom(SIZE), declared_bytes=SIZE))
        assert await store.look(key) == stored
    assert proxy.seen == [f"HEAD {key}", f"PUT {key}", f"HEAD {key}"]
    assert checks_left(server) == []


@pytest.mark.parametrize("declared", [SIZE, None])
async def test_a_bit_that_changes_on_the_way_is_refused_by_the_store_and_leaves_nothing(
    server: Server, key: str, declared: int | None
) -> None:
    async with checked(server, damages=True) as (store, _):
        with pytest.raises(TryLater, match="BadDigest") as failure:
            await put(store, key, body_of(os.urandom(SIZE), declared_bytes=declared))
        assert failure.value.code == "storage_unavailable"
        assert remains(server, key) == []
        assert await store.look(key) is None
        assert await store.abort_stale_uploads(0) == 0


async def test_a_store_that_ignores_what_follows_a_body_is_found_and_read_back(server: Server, key: str) -> None:
    async with checked(server, verifies=False) as (store, proxy):
        assert not store.verifies
        stored = await put(store, key, body_of(os.urandom(SIZE), declared_bytes=SIZE))
        assert await store.look(key) == stored
    assert proxy.seen[-1] == f"GET {key}"
    assert checks_left(server) == []


async def test_a_store_that_does_not_verify_is_not_believed(server: Server, key: str) -> None:
    """It tells the sha256 that it was sent, and keeps something else."""
    async with checked(server, verifies=False, damages=True) as (store, _):
        stored = await put(store, key, body_of(os.urandom(SIZE), declared_bytes=SIZE))
        held = await store.look(key)
    assert isinstance(held, Stored)
    assert held.size_bytes == stored.size_bytes
    assert held.sha256 != stored.sha256


async def test_an_object_whose_sha256_the_store_does_not_tell_is_read_back(server: Server, key: str) -> None:
    async with checked(server, tells=False) as (store, proxy):
        assert store.verifies
        stored = await put(store, key, body_of(os.urandom(SIZE), declared_bytes=SIZE))
        assert await store.look(key) == stored
    assert proxy.seen[-2:] == [f"HEAD {key}", f"GET {key}"]


@pytest.mark.parametrize("status", [400, 403, 501])
async def test_a_store_that_refuses_the_question_is_read_back(server: Server, status: int) -> None:
    async with checked(server, refuses=status) as (store, _):
        assert not store.verifies


@pytest.mark.parametrize(
    ("manners", "said"),
    [
        ({"an absent key": 403}, "lack a right. To keys that may not list the bucket"),
        ({"listing": 403}, "may not list the bucket"),
        ({"uploads": 403}, "may not list its unfinished uploads"),
        ({"removing": 403}, "may not remove objects"),
        ({"If-None-Match": 501}, r"refuses a conditional write \(If-None-Match\). It answered NotImplemented"),
        ({"If-None-Match": 412}, "says that a new key is taken"),
        ({"taking twice": 200}, "ignores conditional writes"),
        ({"trailers": 501, "completing": 501}, "refuses a conditional multipart upload"),
    ],
    ids=str,
)
async def test_a_store_without_the_manners_that_clips_need_is_refused_before_money_is_spent(
    server: Server, manners: dict[str, int], said: str
) -> None:
    async with between(server, manners=manners) as (_, at):
        store = at.store()
        with pytest.raises(TryLater, match=said) as failure:
            await store.check()
        store.close()
    assert failure.value.code == "storage_unavailable"
    left = checks_left(server)
    await asyncio.to_thread(shutil.rmtree, server.folder / "check", ignore_errors=True)
    assert (left == []) == ("removing" not in manners)


async def test_a_store_that_wants_a_checksum_with_every_write_gets_one(server: Server) -> None:
    async with between(server, manners={"no checksum": 400}) as (_, at):
        store = at.store()
        await store.check()
        assert store.verifies
        await store.put_document(f"check/{secrets.token_hex(8)}.json", b"{}")
        store.close()


async def test_a_spool_that_cannot_be_written_is_named_and_leaves_nothing(
    server: Server, store: BucketStore, key: str, tmp_path: Path
) -> None:
    body, spool = body_of(os.urandom(SIZE), declared_bytes=SIZE), tmp_path / "nowhere" / "spool"
    with pytest.raises(TryLater, match="cannot be written: No such file") as failure:
        await store.put_stream(key, body, content_type="video/mp4", max_bytes=SIZE, spool=spool)
    assert failure.value.code == "spool_full"
    assert remains(server, key) == []
    assert await store.abort_stale_uploads(0) == 0


@pytest.mark.parametrize("declared", [True, False])
async def test_a_disk_that_fills_up_on_the_way_ends_the_attempt_and_leaves_nothing(
    server: Server, store: BucketStore, key: str, declared: bool
) -> None:
    """As a quota does, which no look beforehand shows."""
    body = body_of(os.urandom(SIZE), declared_bytes=SIZE if declared else None)
    with pytest.raises(TryLater, match="No space left on device") as failure:
        await store.put_stream(key, body, content_type="video/mp4", max_bytes=SIZE, spool=Path("/dev/full"))
    assert failure.value.code == "spool_full"
    assert remains(server, key) == []
    assert await store.abort_stale_uploads(0) == 0


async def test_a_clip_that_does_not_fit_on_the_disk_is_not_begun(store: BucketStore, key: str, tmp_path: Path) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    body, spool = Body(2**60, "video/mp4", untouched()), tmp_path / "spool"
    with pytest.raises(TryLater) as failure:
        await store.put_stream(key, body, content_type="video/mp4", max_bytes=2**61, spool=spool)
    assert failure.value.code == "spool_full"
