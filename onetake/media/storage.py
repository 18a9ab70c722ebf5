"""The bucket, through the minio client: clips and their manifests, each written once and never overwritten.

It must not choose keys, try again (retries live in Temporal) or let a blocking call onto the event loop. A body is
never whole in memory: it flows through an upload in parts, which makes an object only when it is complete. Every write
carries `If-None-Match: *`, so that of two writers of one key exactly one wins; stores that ignore the header are asked
first.

Errors say what is wrong in our words: no link, no key and no text of the server.
"""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, ParamSpec, Self, TypeVar

from minio import Minio

from onetake.core.errors import Failed, Refused
from onetake.core.ports import Body, Stored
from onetake.core.settings import Settings
from onetake.media.s3 import WINDOW_BYTES, Requests, connections, content_type_of, origin_of, unavailable
from onetake.media.uploads import PART_BYTES, InParts, OnePart, Upload

_CHECK_S: Final = 10.0
_MAX_LINK_S: Final = 7 * 86_400

P = ParamSpec("P")
T = TypeVar("T")


class BucketStore:
    """`ObjectStore` over one bucket. One per process and event loop; `close` ends its threads."""

    def __init__(
        self,
        *,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        region: str = "us-east-1",
        secure: bool = True,
        public_endpoint: str | None = None,
        parallel_puts: int = 4,
    ) -> None:
        """`endpoint` is `host:port`, or an address whose scheme decides over `secure`; links name `public_endpoint`.

        Raises Refused(`settings_invalid`) for an endpoint that cannot be read; connects to nothing.
        """
        threads = 2 * parallel_puts
        pool = connections(threads)

        def client(address: str) -> Minio:
            host, tls = origin_of(address, secure=secure)
            return Minio(
                endpoint=host,
                access_key=access_key,
                secret_key=secret_key,
                region=region,
                secure=tls,
                http_client=pool,
            )

        try:
            self._requests = Requests(client(endpoint), pool, bucket)
            self._links = Requests(client(public_endpoint or endpoint), pool, bucket)
        except ValueError:
            raise Refused("settings_invalid", "Wrong: ONETAKE_S3_ENDPOINT or ONETAKE_S3_PUBLIC_ENDPOINT.") from None
        self._puts = asyncio.Semaphore(parallel_puts)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="s3")
        self._cleanups: set[asyncio.Task[None]] = set()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            endpoint=settings.s3_endpoint,
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            bucket=settings.s3_bucket,
            region=settings.s3_region,
            secure=settings.s3_secure,
            public_endpoint=settings.s3_public_endpoint,
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put_stream(
        self, key: str, body: Body, *, content_type: str, max_bytes: int, moved: Callable[[int], None]
    ) -> Stored:
        """Store a body under a key that nothing holds yet; `moved` hears the total after each chunk.

        Raises Failed (`asset_too_large`, `asset_truncated`, `storage_conflict`), TryLater (`storage_unavailable`), and
        whatever the chunks raise; then no object and no part is left. Cancelled or cut off in its very last request it
        may have stored the whole object: so a caller that tries again looks with `fetch` first.
        """
        if body.declared_bytes is not None and body.declared_bytes > max_bytes:
            raise _too_large(max_bytes)
        async with self._puts:
            if await self._run(self._requests.stat, key):
                raise Failed("storage_conflict")
            upload = self._upload(key, content_type, body.declared_bytes)
            try:
                sha256, size = await _pour(body, upload, max_bytes, moved)
            except BaseException:
                await self._clean(upload)
                raise
        return Stored(key, sha256, size)

    async def fetch(self, key: str, target: Path, *, moved: Callable[[int], None]) -> Stored | None:
        """Copy an object into a file through ranged reads, hashing on the way; None when there is no such object."""
        digest, size = hashlib.sha256(), 0
        with target.open("wb", buffering=0) as file:

            def accept(chunk: bytes) -> None:
                digest.update(chunk)
                file.write(chunk)

            while (total := await self._run(self._requests.copy_window, key, size, accept)) is not None:
                size = min(size + WINDOW_BYTES, total)
                moved(size)
                if size == total:
                    return Stored(key, digest.hexdigest(), size)
        return None

    async def discard(self, key: str) -> None:
        """Remove an object that no manifest names; one that is not there is removed already."""
        await self._run(self._requests.remove, key)

    async def put_document(self, key: str, document: bytes) -> None:
        """Write a small document once; the same bytes again change nothing. Raises Failed(`storage_conflict`)."""
        held = await self.get_document(key)
        if held is None and await self._run(self._requests.put, key, document, content_type_of(key)) is None:
            held = await self.get_document(key)
        if held not in {None, document}:
            raise Failed("storage_conflict")

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
        """Raise TryLater(`storage_unavailable`) saying whether it is the address, the credentials or the bucket."""
        # A read and not a HEAD, whose answers have no body: a wrong key and a missing bucket would look the same.
        look = asyncio.create_task(self._run(self._requests.get, "check"))
        # Not cancelled when it is too slow: its thread cannot be, and waiting for that is what a check must not do.
        done, _ = await asyncio.wait([look], timeout=_CHECK_S)
        if not done:
            look.add_done_callback(lambda task: task.cancelled() or task.exception())
            raise unavailable("It cannot be reached.")
        look.result()

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

    def _upload(self, key: str, content_type: str, declared_bytes: int | None) -> "Upload":
        if declared_bytes is not None and declared_bytes > PART_BYTES:
            return OnePart(self._run, self._requests, key, content_type, declared_bytes)
        return InParts(self._run, self._requests, key, content_type)

    async def _clean(self, upload: "Upload") -> None:
        task = asyncio.create_task(upload.abort())
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)
        await asyncio.shield(task)


async def _pour(body: Body, upload: "Upload", max_bytes: int, moved: Callable[[int], None]) -> tuple[str, int]:
    """Move a body through an upload, held to its declared length and to the limit; returns its sha256 and size."""
    digest, size = hashlib.sha256(), 0
    async for chunk in body.chunks:
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if body.declared_bytes is not None and size > body.declared_bytes:
            raise Failed("asset_truncated", "It is longer than declared.")
        digest.update(chunk)
        await upload.write(chunk)
        moved(size)
    if body.declared_bytes not in {None, size}:
        raise Failed("asset_truncated", f"{size} of {body.declared_bytes} bytes came.")
    if not size:
        raise Failed("asset_truncated", "It is empty.")
    if not await upload.complete():
        raise Failed("storage_conflict")
    return digest.hexdigest(), size


def _too_large(max_bytes: int) -> Failed:
    return Failed("asset_too_large", f"The limit is {max_bytes} bytes.")
