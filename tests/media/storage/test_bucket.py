import asyncio
import hashlib
import os
import subprocess
import sys
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from onetake.core.errors import Failed, Refused, TryLater
from onetake.core.ports import Body, Stored
from onetake.media.storage import WINDOW_BYTES, BucketStore, Keys
from tests.media.storage.parts import Server, body_of, ignore, put, remains

FRAME_BYTES = 1024 * 1024
PART_BYTES = 5 * FRAME_BYTES
UPLOADER = Path(__file__).with_name("uploader.py")


async def absent(store: BucketStore, key: str, tmp_path: Path) -> bool:
    return await store.fetch(key, tmp_path / "absent", moved=ignore) is None


@pytest.mark.parametrize(
    "size", [1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, WINDOW_BYTES, 2 * PART_BYTES, 2 * WINDOW_BYTES + 7]
)
@pytest.mark.parametrize("declared", [True, False])
async def test_what_was_put_comes_back_byte_for_byte(
    store: BucketStore, key: str, tmp_path: Path, size: int, declared: bool
) -> None:
    data = os.urandom(size)
    heard: list[int] = []
    body = body_of(data, declared_bytes=size if declared else None, chunk_bytes=1_000_003)
    spool = tmp_path / "spool"
    stored = await store.put_stream(key, body, content_type="video/mp4", max_bytes=size, spool=spool)
    assert stored == Stored(key, hashlib.sha256(data).hexdigest(), size)
    assert await store.look(key) == stored
    assert await store.fetch(key, tmp_path / "copy", moved=heard.append) == stored
    assert spool.read_bytes() == (tmp_path / "copy").read_bytes() == data
    assert heard == sorted(heard)
    assert heard[-1] == size


async def test_an_object_that_is_not_there_is_none(store: BucketStore, key: str, tmp_path: Path) -> None:
    assert await store.fetch(key, tmp_path / "copy", moved=ignore) is None
    assert await store.look(key) is None
    assert await store.get_document(key) is None


@pytest.mark.parametrize("size", [1000, 2 * PART_BYTES + 1])
async def test_a_taken_key_is_never_overwritten(store: BucketStore, key: str, tmp_path: Path, size: int) -> None:
    first = await put(store, key, body_of(os.urandom(size)))
    with pytest.raises(Failed) as failure:
        await put(store, key, body_of(os.urandom(size)))
    assert failure.value.code == "storage_conflict"
    assert await store.fetch(key, tmp_path / "copy", moved=ignore) == first


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("size", [1000, PART_BYTES + 1])
async def test_of_two_writers_of_one_key_exactly_one_wins(
    store: BucketStore, key: str, tmp_path: Path, size: int, declared: bool
) -> None:
    """Both look first and find nothing; the server decides."""
    barrier = asyncio.Barrier(2)

    async def meeting(data: bytes) -> AsyncIterator[bytes]:
        await barrier.wait()
        yield data

    bodies = [Body(size if declared else None, "video/mp4", meeting(os.urandom(size))) for _ in range(2)]
    ends = await asyncio.gather(*(put(store, key, body) for body in bodies), return_exceptions=True)
    won = [end for end in ends if isinstance(end, Stored)]
    lost = [end for end in ends if isinstance(end, Failed)]
    assert (len(won), [failure.code for failure in lost]) == (1, ["storage_conflict"])
    assert await store.fetch(key, tmp_path / "copy", moved=ignore) == won[0]
    assert await store.abort_stale_uploads(0) == 0


@pytest.mark.parametrize("size", [1000, 3 * PART_BYTES])
@pytest.mark.parametrize(
    ("declared_more", "max_more", "code"),
    [(1, 10, "asset_truncated"), (-1, 10, "asset_truncated"), (None, -1, "asset_too_large")],
)
async def test_a_body_of_the_wrong_length_leaves_nothing(
    server: Server,
    store: BucketStore,
    key: str,
    size: int,
    declared_more: int | None,
    max_more: int,
    code: str,
) -> None:
    declared = None if declared_more is None else size + declared_more
    with pytest.raises(Failed) as failure:
        await put(store, key, body_of(os.urandom(size), declared_bytes=declared), max_bytes=size + max_more)
    assert failure.value.code == code
    assert remains(server, key) == []
    assert await store.abort_stale_uploads(0) == 0


async def test_a_body_declared_too_large_is_refused_before_it_is_read(store: BucketStore, key: str) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    with pytest.raises(Failed, match="limit is 10 bytes"):
        await put(store, key, Body(11, "video/mp4", untouched()), max_bytes=10)


async def test_an_endless_body_is_stopped_at_the_limit(store: BucketStore, key: str) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 65_536
            yield bytes(65_536)

    with pytest.raises(Failed) as failure:
        await put(store, key, Body(None, "video/mp4", endless()), max_bytes=2 * PART_BYTES)
    assert failure.value.code == "asset_too_large"
    assert read <= 2 * PART_BYTES + 65_536


async def test_an_empty_body_is_no_clip(store: BucketStore, key: str) -> None:
    with pytest.raises(Failed) as failure:
        await put(store, key, body_of(b"", declared_bytes=0))
    assert failure.value.code == "asset_truncated"


@pytest.mark.parametrize("declared_bytes", [4 * PART_BYTES, None])
async def test_a_body_that_breaks_leaves_nothing_and_keeps_its_error(
    server: Server, store: BucketStore, key: str, declared_bytes: int | None
) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        for _ in range(3 * PART_BYTES // 65_536):
            yield bytes(65_536)
        raise TryLater("vendor_unavailable")

    with pytest.raises(TryLater) as failure:
        await put(store, key, Body(declared_bytes, "video/mp4", breaking()))
    assert failure.value.code == "vendor_unavailable"
    assert remains(server, key) == []


async def test_puts_that_break_at_any_point_leave_nothing(server: Server, store: BucketStore, key: str) -> None:
    """The server must not take a connection that ends for a body that ends."""

    async def breaking(chunks: int) -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield bytes(65_536)
        raise ConnectionResetError

    declared = [4 * PART_BYTES, None]
    bodies = [Body(declared[number % 2], "video/mp4", breaking(7 * number)) for number in range(40)]
    puts = [put(store, f"{key}-{number}", body) for number, body in enumerate(bodies)]
    ends = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(end) for end in ends} == {ConnectionResetError}
    assert [remains(server, f"{key}-{number}") for number in range(40)] == [[]] * 40
    assert await store.abort_stale_uploads(0) == 0


@pytest.mark.parametrize("declared_bytes", [4 * PART_BYTES, None])
async def test_a_cancelled_put_leaves_nothing(
    server: Server, store: BucketStore, key: str, declared_bytes: int | None
) -> None:
    stuck = asyncio.Event()

    async def stopping() -> AsyncIterator[bytes]:
        for _ in range(3 * PART_BYTES // 65_536):
            yield bytes(65_536)
        stuck.set()
        await asyncio.sleep(600)

    task = asyncio.create_task(put(store, key, Body(declared_bytes, "video/mp4", stopping())))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert remains(server, key) == []


async def kill_half_way(server: Server, key: str, spool: Path, *choices: str) -> None:
    account = [server.endpoint, server.keys.access_key, server.keys.secret_key, server.bucket]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(UPLOADER), *account, key, str(spool), *choices, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 300) == b"half way\n"
    process.kill()
    await process.communicate()


async def test_parts_of_a_killed_process_make_no_object_and_are_swept(
    server: Server, unproven: BucketStore, key: str, tmp_path: Path
) -> None:
    await kill_half_way(server, key, tmp_path / "spool", "declared", "unproven")
    assert remains(server, key) != []
    assert await absent(unproven, key, tmp_path)
    assert await unproven.abort_stale_uploads(3600) == 0
    assert await unproven.abort_stale_uploads(0) == 1
    assert remains(server, key) == []
    assert await unproven.abort_stale_uploads(0) == 0


@pytest.mark.parametrize("choices", [("declared", "verifies"), ("undeclared", "verifies"), ("undeclared", "unproven")])
async def test_a_killed_process_leaves_nothing_in_a_store_that_verifies_or_has_not_been_asked_yet(
    server: Server, store: BucketStore, key: str, tmp_path: Path, choices: tuple[str, ...]
) -> None:
    await kill_half_way(server, key, tmp_path / "spool", *choices)
    assert remains(server, key) == []
    assert await absent(store, key, tmp_path)
    assert await store.abort_stale_uploads(0) == 0


@pytest.mark.parametrize("declared", [True, False])
async def test_many_puts_at_once_stay_within_their_memory(store: BucketStore, key: str, declared: bool) -> None:
    size = 2 * PART_BYTES

    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(size // 65_536):
            yield bytes(65_536)

    bodies = [Body(size if declared else None, "video/mp4", zeros()) for _ in range(32)]
    with _allocations() as most_held:
        await asyncio.gather(*(put(store, f"{key}-{number}", body) for number, body in enumerate(bodies)))
        # Four at a time, and of each a few blocks of half a MB; all of them are 320 MB.
        assert most_held() <= 24 * FRAME_BYTES


@contextmanager
def _allocations() -> Generator[Callable[[], int]]:
    """The most bytes that objects held at a time since the block began. What the process has of the system says less:
    that depends on which threads were busy at once."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


async def test_a_document_is_written_once(store: BucketStore, key: str) -> None:
    name = f"{key}/manifest.json"
    assert await store.put_document(name, b"{}") == b"{}"
    assert await store.put_document(name, b"{}") == b"{}"
    assert await store.put_document(name, b"[]") == b"{}"
    assert await store.get_document(name) == b"{}"


async def test_racing_documents_leave_one_winner(store: BucketStore, key: str) -> None:
    texts = [str(number).encode() for number in range(8)]
    held = await asyncio.gather(*(store.put_document(key, text) for text in texts))
    assert set(held) == {await store.get_document(key)}


async def test_a_list_has_every_object_on_some_page(server: Server, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetake.media.s3._PAGE", 2)
    store = server.store(bucket=f"{server.bucket}-listed")
    await store.ensure_bucket()
    for number in range(5):
        await store.put_document(f"{key}/{number}", bytes(number + 1))
    listed = [each async for page in store.objects() for each in page]
    store.close()
    assert [(each.key, each.size_bytes) for each in listed] == [(f"{key}/{n}", n + 1) for n in range(5)]
    assert all(datetime.now(UTC) - each.at < timedelta(minutes=5) for each in listed)


async def test_a_removed_object_is_gone_and_its_key_is_free(store: BucketStore, key: str, tmp_path: Path) -> None:
    await put(store, key, body_of(b"bad"))
    await store.remove(key)
    await store.remove(key)
    assert await absent(store, key, tmp_path)
    await put(store, key, body_of(b"good"))


async def test_a_link_downloads_the_clip_and_nothing_else_does(store: BucketStore, key: str) -> None:
    await put(store, key, body_of(b"clip"))
    link = await store.signed_url(key, expires_s=3600)
    answer = await asyncio.to_thread(_get, link)
    assert answer == (200, b"clip", "video/mp4", 'attachment; filename="0.mp4"')
    assert (await asyncio.to_thread(_get, link.partition("?")[0]))[0] == 403
    assert (await asyncio.to_thread(_get, link.replace("0.mp4", "1.mp4")))[0] == 403


async def test_a_link_names_the_host_that_its_reader_uses(server: Server) -> None:
    store = server.store(public_endpoint="https://media.example.com")
    assert (await store.signed_url("a/0.mp4", expires_s=60)).startswith(
        f"https://media.example.com/{server.bucket}/a/0.mp4?"
    )
    store.close()


def _get(url: str) -> tuple[int, bytes, str, str]:
    try:
        with urllib.request.urlopen(url, timeout=300) as answer:
            headers = answer.headers
            return answer.status, answer.read(), headers["content-type"], headers["content-disposition"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b"", "", ""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"endpoint": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"secret_key": "canary-secret"}, "credentials were refused"),
        ({"access_key": "canary-key"}, "credentials were refused"),
        ({"bucket": "canary-bucket"}, "bucket does not exist"),
    ],
)
async def test_what_is_wrong_with_the_store_is_said_without_secrets(
    server: Server, key: str, changes: dict[str, str], text: str
) -> None:
    store = server.store(**changes)
    with pytest.raises(TryLater, match=text) as failure:
        await store.check()
    with pytest.raises(TryLater) as failed_put:
        await put(store, key, body_of(b"clip"))
    for error in (failure.value, failed_put.value):
        assert error.code == "storage_unavailable"
        assert "canary" not in str(error)
        assert error.__cause__ is None
    store.close()


async def test_keys_that_are_replaced_count_for_the_next_request(
    server: Server, unproven: BucketStore, key: str
) -> None:
    assert not unproven.verifies  # it has made the bucket
    pair = ["canary-former", "canary-former-secret"]
    store = server.store(keys=Keys(lambda: tuple(pair)))
    try:
        with pytest.raises(TryLater, match="credentials were refused") as refused:
            await put(store, key, body_of(b"x" * 100, declared_bytes=100))
        assert "canary" not in str(refused.value)
        pair[:] = [server.keys.access_key, server.keys.secret_key]
        assert (await put(store, key, body_of(b"x" * 100, declared_bytes=100))).size_bytes == 100
        await store.check()
    finally:
        store.close()


def test_an_unreadable_endpoint_names_its_setting() -> None:
    with pytest.raises(Refused, match="ONETAKE_S3_ENDPOINT"):
        BucketStore(endpoint="http://a b/c", access_key="k", secret_key="s", bucket="clips")
