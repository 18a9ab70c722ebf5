"""The bucket, through the minio client: clips and their manifests, each written once and never overwritten.

It must not choose keys, try again (retries live in Temporal) or let a blocking call onto the event loop. A body is
never whole in memory: while it arrives, a thread hashes it, writes it to the spool and sends it. Its sha256 follows it,
and the store compares. A store that does not compare is read back; `check` finds out. Every write carries
`If-None-Match: *`, so that of two writers of one key exactly one wins; a store that ignores the header is not used.

Errors say what is wrong in our words: no link, no key and no text of the server.
"""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, ParamSpec, Self, TypeVar

from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import Provider

from onetake.core.errors import Failed, Refused, TryLater
from onetake.core.ports import Body, Stored
from onetake.core.secrets import Secrets
from onetake.core.settings import Settings
from onetake.media.manners import try_out
from onetake.media.s3 import (
    TAKEN,
    WINDOW_BYTES,
    Listed,
    Requests,
    connections,
    content_type_of,
    origin_of,
    unavailable,
    words,
)
from onetake.media.uploads import BLOCK_BYTES, Flow, drain, hashed, spooled

_CHECK_S: Final = 10.0
_SHORT_CALLS: Final = 8
_MAX_LINK_S: Final = 7 * 86_400

P = ParamSpec("P")
T = TypeVar("T")

Pair = Callable[[], tuple[str, ...]]


class Keys(Provider):
    """The access key and the secret key as they are now: minio asks before each request."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def retrieve(self) -> Credentials:
        access_key, secret_key = self._pair()
        return Credentials(access_key, secret_key)


class BucketStore:
    """`ObjectStore` over one bucket. One per process and event loop; `close` ends its threads."""

    def __init__(
        self,
        *,
        endpoint: str,
        access_key: str = "",
        secret_key: str = "",
        keys: Keys | None = None,
        bucket: str,
        region: str = "us-east-1",
        secure: bool = True,
        public_endpoint: str | None = None,
        parallel_puts: int = 4,
    ) -> None:
        """`endpoint` is `host:port`, or an address whose scheme decides over `secure`; links name `public_endpoint`.
        `keys` give the keys that may be replaced, instead of the two fixed ones.

        Raises Refused(`settings_invalid`) for an endpoint that cannot be read; connects to nothing.
        """
        threads = parallel_puts + _SHORT_CALLS  # a put keeps its thread for as long as its body comes
        pool = connections(threads)
        provider = keys or Keys(lambda: (access_key, secret_key))

        def client(address: str) -> Minio:
            host, tls = origin_of(address, secure=secure)
            return Minio(
                endpoint=host,
                credentials=provider,
                region=region,
                secure=tls,
                http_client=pool,
            )

        def requests(address: str) -> Requests:
            return Requests(client(address), pool, bucket, region, provider)

        try:
            self._requests = requests(endpoint)
            self._links = requests(public_endpoint or endpoint)
        except ValueError:
            raise Refused("settings_invalid", "Wrong: ONETAKE_S3_ENDPOINT or ONETAKE_S3_PUBLIC_ENDPOINT.") from None
        self.verifies = False  # until `check` has found otherwise: what is not known to be compared is read back
        self._puts = asyncio.Semaphore(parallel_puts)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._cleanups: set[asyncio.Task[None]] = set()

    @classmethod
    def from_settings(cls, settings: Settings, *, parallel_puts: int = 4, secrets: Secrets | None = None) -> Self:
        """The store of these settings, whose keys are read again; `secrets` are those of the process."""
        names, now = ("s3_access_key", "s3_secret_key"), secrets or Secrets(settings)
        for name in names:
            now.secret(name)
        return cls(
            endpoint=settings.s3_endpoint,
            keys=Keys(lambda: now.texts(*names)),
            bucket=settings.s3_bucket,
            region=settings.s3_region,
            secure=settings.s3_secure,
            public_endpoint=settings.s3_public_endpoint,
            parallel_puts=parallel_puts,
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put_stream(self, key: str, body: Body, *, content_type: str, max_bytes: int, spool: Path) -> Stored:
        """Store a body under a key that nothing holds yet, and write it to the file `spool` as well.

        Raises Failed (`asset_too_large`, `asset_truncated`, `storage_conflict`), TryLater (`storage_unavailable`,
        `spool_full`), and whatever the chunks raise; then no object and no part is left. Cancelled or cut off in its
        very last request it may have stored the whole object: so a caller that tries again looks with `fetch` first.
        """
        if body.declared_bytes is not None and body.declared_bytes > max_bytes:
            raise _too_large(max_bytes)
        _require_room(spool, body.declared_bytes or 0)
        async with self._puts:
            if await self._run(self._requests.told, key) is not None:
                raise Failed("storage_conflict")
            if body.declared_bytes is not None:
                return await self._send(key, body, body.declared_bytes, content_type, max_bytes, spool)
            # The store wants to know the length beforehand: so it is received first, and sent from the spool.
            size = await self._pour(body, lambda blocks: drain(spooled(blocks, spool)), max_bytes)
            again = Body(size, body.content_type, self._blocks_of(spool))
            return await self._send(key, again, size, content_type, max_bytes, None)

    async def look(self, key: str) -> Stored | None:
        """What the bucket holds under a key, None when nothing.

        The store's own word where it verifies what it is sent and knows the sha256; otherwise the object is read.
        """
        told = await self._run(self._requests.told, key) if self.verifies else None
        if told and told.sha256:
            return Stored(key, told.sha256, told.size_bytes)
        return await self._read(key, _ignored, moved=_ignored)

    async def fetch(self, key: str, target: Path, *, moved: Callable[[int], None]) -> Stored | None:
        """Copy an object into a file through ranged reads, hashing on the way; None when there is no such object."""
        with target.open("wb") as file:
            return await self._read(key, file.write, moved=moved)

    async def _read(
        self, key: str, accept: Callable[[bytes], object], *, moved: Callable[[int], None]
    ) -> Stored | None:
        digest, size = hashlib.sha256(), 0

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            accept(chunk)

        while (total := await self._run(self._requests.copy_window, key, size, take)) is not None:
            size = min(size + WINDOW_BYTES, total)
            moved(size)
            if size == total:
                return Stored(key, digest.hexdigest(), size)
        return None

    async def put_document(self, key: str, document: bytes) -> bytes:
        """Write a small document, unless there is one: the first writer's stands. Returns what is held now."""
        held = await self.get_document(key)
        if held is None and await self._run(self._requests.put, key, document, content_type_of(key)) is not None:
            return document
        held = held if held is not None else await self.get_document(key)
        if held is None:
            raise unavailable("It refused a document, and holds none.")
        return held

    async def objects(self) -> AsyncIterator[Sequence[Listed]]:
        """Every object of the bucket in pages, by key."""
        after = ""
        while page := await self._run(self._requests.listed, after):
            yield page
            after = page[-1].key

    async def remove(self, key: str) -> None:
        """Remove an object; one that is not there is removed already. Nothing but the sweeper and `check` may."""
        await self._run(self._requests.remove, key)

    async def get_document(self, key: str) -> bytes | None:
        return await self._run(self._requests.get, key)

    async def signed_url(self, key: str, *, expires_s: int) -> str:
        """A link that downloads one object until it expires, after seven days at most. Never to be logged or stored."""
        return self._links.link(key, min(max(expires_s, 1), _MAX_LINK_S))

    async def ensure_bucket(self) -> None:
        """Create the bucket, private, unless it exists."""
        if not await self._run(self._requests.bucket_exists):
            await self._run(self._requests.make_bucket)

    async def check(self) -> None:
        """Try out what storing a clip needs, and find out whether the store `verifies` what it is sent.

        Raises TryLater(`storage_unavailable`) saying whether it is the address, the credentials or the bucket, or what
        the store or its keys cannot do (`onetake.media.manners`).
        """
        examining = asyncio.create_task(self._examine())
        # Not cancelled when it is too slow: its thread cannot be, and waiting for that is what a check must not do.
        done, _ = await asyncio.wait([examining], timeout=_CHECK_S)
        if not done:
            examining.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise unavailable("It cannot be reached.")
        examining.result()

    async def _examine(self) -> None:
        self.verifies = await self._run(try_out, self._requests)

    async def abort_stale_uploads(self, older_than_s: float) -> int:
        """Abort uploads that a killed process left unfinished; returns how many. Younger ones may still be running."""
        before, stale, marker = datetime.now(UTC) - timedelta(seconds=older_than_s), 0, ""
        while True:
            page = await self._run(self._requests.uploads, marker)
            for upload in page.uploads:
                if (upload.initiated_time or before) <= before and upload.object_name and upload.upload_id:
                    await self._run(self._requests.abort, upload.object_name, upload.upload_id)
                    stale += 1
            if not page.is_truncated or (page.next_key_marker or "") <= marker:
                return stale
            marker = page.next_key_marker or ""

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in a thread; a cancelled caller first waits for its end, so that none acts unseen."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            with suppress(Exception):
                future.result()
            raise

    async def _send(
        self, key: str, body: Body, size: int, content_type: str, max_bytes: int, spool: Path | None
    ) -> Stored:
        digest = hashlib.sha256()

        def send(blocks: Iterator[bytes]) -> None:
            passing = hashed(spooled(blocks, spool) if spool else blocks, digest)
            if self.verifies:
                refused = self._requests.put_verified(key, passing, size, content_type, digest)
            else:
                refused = self._requests.put_unverified(key, passing, size, content_type)
            if refused == TAKEN:
                raise Failed("storage_conflict")
            if refused:
                raise unavailable(words(refused))

        await self._pour(body, send, max_bytes)
        return Stored(key, digest.hexdigest(), size)

    async def _pour(self, body: Body, take: Callable[[Iterator[bytes]], None], max_bytes: int) -> int:
        """Move a body to the thread that takes it, held to its declared length and to the limit; returns its size."""
        flow = Flow(self._run, take)
        try:
            size = await _poured(body, flow, max_bytes)
            await flow.end()
        except BaseException:
            await self._broken_off(flow)
            raise
        return size

    async def _broken_off(self, flow: Flow) -> None:
        task = asyncio.create_task(flow.abort())
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)
        await asyncio.shield(task)

    async def _blocks_of(self, spool: Path) -> AsyncIterator[bytes]:
        with spool.open("rb") as file:
            while block := await self._run(file.read, BLOCK_BYTES):
                yield block


async def _poured(body: Body, flow: Flow, max_bytes: int) -> int:
    size = 0
    async for chunk in body.chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if body.declared_bytes is not None and size > body.declared_bytes:
            raise Failed("asset_truncated", "It is longer than declared.")
        await flow.write(chunk)
    if body.declared_bytes not in {None, size}:
        raise Failed("asset_truncated", f"{size} of {body.declared_bytes} bytes came.")
    if not size:
        raise Failed("asset_truncated", "It is empty.")
    return size


def _require_room(spool: Path, needed: int) -> None:
    """A body that does not fit on this machine is not begun: another worker may have the room."""
    with suppress(OSError):
        if shutil.disk_usage(spool.parent).free < needed:
            raise TryLater("spool_full", f"(It needs {needed} bytes.)")


def _ignored(_: object) -> None:
    """Nobody follows the bytes of an object that is only looked at."""


def _too_large(max_bytes: int) -> Failed:
    return Failed("asset_too_large", f"The limit is {max_bytes} bytes.")
