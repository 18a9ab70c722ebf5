"""The bucket, through the minio client: clips and their manifests, each written once and never overwritten.

It must not choose keys, try again (retries live in Temporal) or let a blocking call onto the event loop. A body is
never whole in memory: it flows through an upload in parts, which makes an object only when it is complete. Every write
carries `If-None-Match: *`, so that of two writers of one key exactly one wins; stores that ignore the header are asked
first.

Errors say what is wrong in our words: no link, no key and no text of the server.
"""

import asyncio
import hashlib
import os
import queue
import re
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, Protocol, Self, TypeVar

import certifi
import urllib3
from minio import Minio
from minio.datatypes import ListMultipartUploadsResult
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from onetake.crashpoints import crashpoint
from onetake.errors import Failed, OnetakeError, Refused, TryLater
from onetake.ports import Body, Stored
from onetake.settings import Settings

PART_BYTES: Final = 5 * 1024 * 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024
_PARTS_IN_FLIGHT: Final = 2
_BLOCK_BYTES: Final = 256 * 1024
_BLOCKS_WAITING: Final = 4
_READ_BYTES: Final = 256 * 1024
_CHECK_S: Final = 10.0
_FLOW_LINK_LIFE: Final = timedelta(hours=1)
_MAX_LINK_S: Final = 7 * 86_400

# A part leaves in one call, and the connect timeout of a fresh connection bounds that call as a whole.
_TIMEOUT: Final = urllib3.Timeout(connect=20.0, read=60.0)

# A request that breaks off, also by our death, ends in a reset: versitygw takes the orderly end of a connection for the
# end of a body and keeps what came.
_RESET_ON_CLOSE: Final = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

_CAUSES: Final = {
    "NoSuchBucket": "The bucket does not exist.",
    "AccessDenied": "The credentials were refused.",
    "InvalidAccessKeyId": "The credentials were refused.",
    "SignatureDoesNotMatch": "The credentials were refused.",
    "XAdminUserNotFound": "The credentials were refused.",  # versitygw's word for an unknown access key
    "SlowDown": "It asks us to slow down.",
    "ServiceUnavailable": "It asks us to slow down.",
}
_CONTENT_TYPES: Final = {".mp4": "video/mp4", ".json": "application/json", ".jpg": "image/jpeg"}

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
        pool = _connections(threads)

        def client(address: str) -> Minio:
            host, tls = _origin(address, secure=secure)
            return Minio(
                endpoint=host,
                access_key=access_key,
                secret_key=secret_key,
                region=region,
                secure=tls,
                http_client=pool,
            )

        try:
            self._requests = _Requests(client(endpoint), pool, bucket)
            self._links = _Requests(client(public_endpoint or endpoint), pool, bucket)
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
        if held is None and await self._run(self._requests.put, key, document, _content_type(key)) is None:
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
            raise _unavailable("It cannot be reached.")
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

    def _upload(self, key: str, content_type: str, declared_bytes: int | None) -> "_Upload":
        if declared_bytes is not None and declared_bytes > PART_BYTES:
            return _OnePart(self._run, self._requests, key, content_type, declared_bytes)
        return _InParts(self._run, self._requests, key, content_type)

    async def _clean(self, upload: "_Upload") -> None:
        task = asyncio.create_task(upload.abort())
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)
        await asyncio.shield(task)


async def _pour(body: Body, upload: "_Upload", max_bytes: int, moved: Callable[[int], None]) -> tuple[str, int]:
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
    crashpoint("persist.before_complete")
    if not await upload.complete():
        raise Failed("storage_conflict")
    return digest.hexdigest(), size


def _too_large(max_bytes: int) -> Failed:
    return Failed("asset_too_large", f"The limit is {max_bytes} bytes.")


# -- Uploads -----------------------------------------------------------------------------------------------------------


class _InThread(Protocol):
    async def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


class _Upload(Protocol):
    """One object on its way. Before `complete` the store does not have all of it, so that `abort` can still undo."""

    async def write(self, chunk: bytes) -> None: ...

    async def complete(self) -> bool:
        """Make the object; False when its key is taken."""
        ...

    async def abort(self) -> None: ...


class _Multipart:
    """The frame of an upload in parts: the object appears with `complete` and not before, whoever dies in between."""

    def __init__(self, run: _InThread, requests: "_Requests", key: str, content_type: str) -> None:
        self.id = ""
        self._run = run
        self._requests = requests
        self._key = key
        self._content_type = content_type

    async def open(self) -> None:
        if not self.id:
            await self._run(self._create)

    async def complete(self, etags: list[str]) -> bool:
        return await self._run(self._requests.complete, self._key, self.id, etags) is not None

    async def abort(self, *parts: asyncio.Task[str]) -> None:
        """Wait for the parts in flight, then abort. What fails here is swept at the next start."""
        await asyncio.gather(*parts, return_exceptions=True)
        if self.id:
            with suppress(OnetakeError):
                await self._run(self._requests.abort, self._key, self.id)

    def _create(self) -> None:
        """In a thread: sets the id there, so that an upload is known even when its creator was cancelled."""
        self.id = self._requests.create(self._key, self._content_type)


class _OnePart:
    """A body of known length as one part, sent by a thread while it arrives; a few blocks wait between the two.

    Not a plain put: versitygw keeps the beginning of one whose sender died, and says so to nobody.
    """

    def __init__(self, run: _InThread, requests: "_Requests", key: str, content_type: str, length: int) -> None:
        self._upload = _Multipart(run, requests, key, content_type)
        self._send = lambda: run(requests.put_flow, key, self._upload.id, self._flow(), length)
        self._sending: asyncio.Task[str] | None = None
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_BLOCKS_WAITING)
        self._blocks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        if len(self._buffer) >= _BLOCK_BYTES:
            await self._hand_over()

    async def complete(self) -> bool:
        sending = await self._hand_over()
        self._blocks.put(b"")
        return await self._upload.complete([await sending])

    async def abort(self) -> None:
        self._blocks.put(None)
        await self._upload.abort(*([self._sending] if self._sending else []))

    async def _hand_over(self) -> asyncio.Task[str]:
        if self._sending is None:
            await self._upload.open()
            self._sending = asyncio.create_task(self._send())
            self._sending.add_done_callback(lambda _: self._room.release())
        await self._room.acquire()
        if self._sending.done():
            await self._sending  # nobody takes blocks any more: this raises why
        if self._buffer:
            self._blocks.put(bytes(self._buffer))
            self._buffer.clear()
        return self._sending

    def _flow(self) -> Iterator[bytes]:
        """The blocks, for the thread that sends; breaks the request off when the upload is aborted."""
        while block := self._blocks.get():
            self._loop.call_soon_threadsafe(self._room.release)
            yield block
        if block is None:
            raise _AbortedError


class _AbortedError(Exception):
    """The request in flight is to be broken off."""


class _InParts:
    """A body of unknown length: equal parts, a few being sent while the next fills. A short one is a plain put, whose
    signature covers its bytes."""

    def __init__(self, run: _InThread, requests: "_Requests", key: str, content_type: str) -> None:
        self._upload = _Multipart(run, requests, key, content_type)
        self._run = run
        self._requests = requests
        self._key = key
        self._content_type = content_type
        self._parts: list[asyncio.Task[str]] = []
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) > PART_BYTES:
            await self._start(self._take(PART_BYTES))

    async def complete(self) -> bool:
        last = self._take(len(self._buffer))
        if not self._upload.id:
            return await self._run(self._requests.put, self._key, last, self._content_type) is not None
        await self._start(last)
        return await self._upload.complete([await part for part in self._parts])

    async def abort(self) -> None:
        await self._upload.abort(*self._parts)

    def _take(self, size: int) -> bytes:
        part = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return part

    async def _start(self, part: bytes) -> None:
        await self._upload.open()
        if len(self._parts) >= _PARTS_IN_FLIGHT:
            await self._parts[-_PARTS_IN_FLIGHT]
        number = len(self._parts) + 1
        put = self._run(self._requests.put_part, self._key, self._upload.id, number, part)
        self._parts.append(asyncio.create_task(put))


# -- Requests ----------------------------------------------------------------------------------------------------------


def _translated(call: Callable[P, T]) -> Callable[P, T]:
    """Turn what the client and its sockets raise into TryLater(`storage_unavailable`)."""

    @wraps(call)
    def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except (MinioException, HTTPError) as error:
            raise _unavailable(_cause(error)) from None

    return translated


def _unless(*codes: str) -> Callable[[Callable[P, T]], Callable[P, T | None]]:
    """As `_translated`, but these answers of the server mean None."""

    def decorate(call: Callable[P, T]) -> Callable[P, T | None]:
        @_translated
        @wraps(call)
        def translated(*args: P.args, **kwargs: P.kwargs) -> T | None:
            try:
                return call(*args, **kwargs)
            except S3Error as error:
                if error.code in codes:
                    return None
                raise

        return translated

    return decorate


def _unavailable(detail: str) -> TryLater:
    return TryLater("storage_unavailable", detail)


def _cause(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return "It cannot be reached."
    if isinstance(error, S3Error):
        return _words(error.code or "")
    return "It answered something that is not S3."


def _words(code: str) -> str:
    return _CAUSES.get(code) or f"It answered {re.sub('[^A-Za-z0-9]', '', code)[:64]}."


class _Requests:
    """Blocking requests to one bucket."""

    def __init__(self, client: Minio, pool: urllib3.PoolManager, bucket: str) -> None:
        self._client = client
        self._pool = pool
        self._bucket = bucket

    @_unless("NoSuchKey")
    def stat(self, key: str) -> str:
        return self._client.stat_object(bucket_name=self._bucket, object_name=key).etag or key

    @_unless("PreconditionFailed")
    def put(self, key: str, data: bytes, content_type: str) -> str:
        """Write a whole object; None when the key is taken."""
        return _etag(self._send("PUT", key, data, {"Content-Type": content_type, "If-None-Match": "*"}, {}))

    @_translated
    def create(self, key: str, content_type: str) -> str:
        answer = self._send("POST", key, None, {"Content-Type": content_type}, {"uploads": ""})
        found = re.search(r"<UploadId>([^<]+)</UploadId>", answer.data.decode())
        if not found:
            raise _unavailable("It could not start the upload.")
        return found[1]

    @_translated
    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        return _etag(self._send("PUT", key, data, {}, {"partNumber": str(number), "uploadId": upload_id}))

    @_translated
    def put_flow(self, key: str, upload_id: str, flow: Iterator[bytes], length: int) -> str:
        """Send one part from blocks.

        The client would want it whole, to hash it for its signature. A signed link needs no hash; whoever reads the
        object back compares it with his own.
        """
        link = self._client.get_presigned_url(
            method="PUT",
            bucket_name=self._bucket,
            object_name=key,
            expires=_FLOW_LINK_LIFE,
            extra_query_params={"partNumber": "1", "uploadId": upload_id},
        )
        answer = self._pool.request("PUT", link, body=flow, headers={"Content-Length": str(length)}, redirect=False)
        if answer.status != 200:
            code = re.search(r"<Code>([A-Za-z]+)</Code>", answer.data.decode(errors="replace"))
            raise _unavailable(_words(code[1] if code else str(answer.status)))
        return _etag(answer)

    @_unless("PreconditionFailed")
    def complete(self, key: str, upload_id: str, etags: list[str]) -> str:
        """Make the object of its parts; None when the key is taken."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
        )
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        headers = {"Content-Type": "application/xml", "If-None-Match": "*"}
        answer = self._send("POST", key, document, headers, {"uploadId": upload_id}).data.decode()
        if "<CompleteMultipartUploadResult" not in answer:
            # S3 may answer 200 and then say in the body that it failed.
            raise _unavailable("It could not complete the upload.")
        return answer

    @_unless("NoSuchUpload")
    def abort(self, key: str, upload_id: str) -> None:
        self._send("DELETE", key, None, {}, {"uploadId": upload_id})

    @_translated
    def uploads(self, after_key: str) -> ListMultipartUploadsResult:
        query = {"uploads": "", "encoding-type": "url", "max-uploads": "1000", "key-marker": after_key}
        return ListMultipartUploadsResult(self._send("GET", None, None, {}, query))

    @_unless("NoSuchKey")
    def copy_window(self, key: str, offset: int, accept: Callable[[bytes], None]) -> int:
        """Hand on the bytes from `offset` to the end of one window; returns the size of the whole object."""
        with self._client.get_object(
            bucket_name=self._bucket, object_name=key, offset=offset, length=WINDOW_BYTES
        ) as response:
            total = re.fullmatch(rf"bytes {offset}-[0-9]+/([0-9]+)", response.headers.get("content-range", ""))
            if not total:
                raise _unavailable("It ignores ranges.")
            for chunk in response.stream(_READ_BYTES):
                accept(chunk)
            response.release_conn()
        return int(total[1])

    @_unless("NoSuchKey")
    def get(self, key: str) -> bytes:
        with self._client.get_object(bucket_name=self._bucket, object_name=key) as response:
            data = response.read()
            response.release_conn()
        return data

    @_unless("NoSuchKey")
    def remove(self, key: str) -> None:
        self._client.remove_object(bucket_name=self._bucket, object_name=key)

    def link(self, key: str, expires_s: int) -> str:
        return self._client.get_presigned_url(
            method="GET",
            bucket_name=self._bucket,
            object_name=key,
            expires=timedelta(seconds=expires_s),
            response_headers={
                "response-content-type": _content_type(key),
                "response-content-disposition": f'attachment; filename="{key.rpartition("/")[2]}"',
            },
        )

    @_translated
    def bucket_exists(self) -> bool:
        return self._client.bucket_exists(bucket_name=self._bucket)

    @_unless("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    def make_bucket(self) -> None:
        self._client.make_bucket(bucket_name=self._bucket)

    def _send(
        self, method: str, key: str | None, body: bytes | None, headers: dict[str, str], query: dict[str, str]
    ) -> Any:
        """One signed request. The client's public calls know no conditional writes and no steps of an upload."""
        return self._client._execute(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            method,
            bucket_name=self._bucket,
            object_name=key,
            body=body,
            headers={**headers},
            query_params={**query},
        )


def _etag(answer: Any) -> str:
    return answer.headers.get("etag", "").replace('"', "") or "none"


def _content_type(key: str) -> str:
    return _CONTENT_TYPES.get(Path(key).suffix, "application/octet-stream")


def _origin(endpoint: str, *, secure: bool) -> tuple[str, bool]:
    scheme, separator, host = endpoint.rpartition("://")
    return host.rstrip("/"), scheme == "https" if separator else secure


def _connections(size: int) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=size,
        block=False,
        timeout=_TIMEOUT,
        retries=False,
        cert_reqs="CERT_REQUIRED",
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), _RESET_ON_CLOSE],
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
