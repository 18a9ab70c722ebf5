"""Blocking requests to one bucket through the minio client, and what its answers mean.

Every write of a whole object carries `If-None-Match: *`. Errors say what is wrong in our words: no link, no key and no
text of the server.
"""

import os
import re
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.credentials.providers import Provider
from minio.datatypes import ListMultipartUploadsResult
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from onetake.core.errors import OnetakeError, TryLater
from onetake.media import versitygw
from onetake.media.trailing import CHECKSUM, Digest, framed, sha256_told, signed_headers

WINDOW_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_PAGE: Final = 1000
_FLOW_LINK_LIFE: Final = timedelta(hours=1)
TAKEN: Final = "PreconditionFailed"
_WRONG_SHA256: Final = frozenset({"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})

# A block leaves in one call, and the connect timeout of a fresh connection bounds each of these calls.
_TIMEOUT: Final = urllib3.Timeout(connect=20.0, read=60.0)

DENIED: Final = "These credentials lack a right."
_CAUSES: Final = {
    "NoSuchBucket": "The bucket does not exist.",
    "AccessDenied": DENIED,
    "InvalidAccessKeyId": "The credentials were refused.",
    "SignatureDoesNotMatch": "The credentials were refused.",
    "SlowDown": "It asks us to slow down.",
    "ServiceUnavailable": "It asks us to slow down.",
    **versitygw.CAUSES,
}
_CONTENT_TYPES: Final = {".mp4": "video/mp4", ".json": "application/json", ".jpg": "image/jpeg"}

P = ParamSpec("P")
T = TypeVar("T")


def _translated(call: Callable[P, T]) -> Callable[P, T]:
    """Turn what the client and its sockets raise into TryLater(`storage_unavailable`)."""

    @wraps(call)
    def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except (MinioException, HTTPError) as error:
            raise unavailable(_cause(error)) from None

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


def unavailable(detail: str) -> TryLater:
    return TryLater("storage_unavailable", detail)


def _cause(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return "It cannot be reached."
    if isinstance(error, S3Error):
        return words(error.code or "")
    return "It answered something that is not S3."


def words(code: str) -> str:
    return _CAUSES.get(code) or f"It answered {re.sub('[^A-Za-z0-9]', '', code)[:64]}."


@dataclass(frozen=True)
class Told:
    """What the store says of an object; `sha256` is None where it does not know that of the whole."""

    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class Listed:
    """An object in a list of the bucket."""

    key: str
    size_bytes: int
    at: datetime


class Requests:
    """Blocking requests to one bucket."""

    def __init__(self, client: Minio, pool: urllib3.PoolManager, bucket: str, region: str, keys: Provider) -> None:
        self._client = client
        self._pool = pool
        self._bucket = bucket
        self._region = region
        self._keys = keys

    @_unless("NoSuchKey")
    def told(self, key: str) -> Told:
        found = self._client.stat_object(
            bucket_name=self._bucket, object_name=key, extra_headers={"x-amz-checksum-mode": "ENABLED"}
        )
        return Told(found.size or 0, sha256_told((found.metadata or {}).get(CHECKSUM)))

    def verifies(self, key: str) -> bool:
        """Whether the store refuses a body which the sha256 behind it does not fit. Leaves nothing under the key."""
        data = b"not what its checksum says"
        try:
            refused = self.put_verified(key, iter([data]), len(data), "text/plain", sha256(b"something else"))
            if not refused or self.told(key) is not None:
                self.remove(key)
                return False
        except TryLater:
            return False
        return refused in _WRONG_SHA256

    @_unless(TAKEN)
    def put(self, key: str, data: bytes, content_type: str) -> str:
        """Write a whole object with its sha256, without which some stores take none; None when the key is taken."""
        checksum = b64encode(sha256(data).digest()).decode()
        headers = {"Content-Type": content_type, "If-None-Match": "*", CHECKSUM: checksum}
        return _etag(self._send("PUT", key, data, headers, {}))

    @_translated
    def put_verified(self, key: str, blocks: Iterator[bytes], size: int, content_type: str, digest: Digest) -> str:
        """Write a whole object from blocks, whose sha256 follows them; the store refuses what it does not fit.

        Returns "" or the code with which the store refused it, which then keeps nothing.
        """
        place = urlsplit(self._presigned(key))._replace(query="")
        headers = signed_headers(place, self._region, self._keys.retrieve(), content_type=content_type, size=size)
        return _refusal(self._flow(place.geturl(), framed(blocks, size, digest), headers))

    def put_unverified(self, key: str, blocks: Iterator[bytes], size: int, content_type: str) -> str:
        """Write a whole object from blocks; whoever needs to know what the store keeps reads it back.

        It is the one part of a multipart upload. Not a plain put: some stores keep the beginning of one whose sender
        died, and say so to nobody. An upload that is not complete is no object; what a killed process left is swept at
        the next start. Returns as `put_verified`.
        """
        upload_id = self._create(key, content_type)
        try:
            etag = self._put_flow(key, upload_id, blocks, size)
            refused = "" if self._complete(key, upload_id, etag) else TAKEN
        except BaseException:
            self._abort_quietly(key, upload_id)
            raise
        if refused:
            self._abort_quietly(key, upload_id)
        return refused

    def _abort_quietly(self, key: str, upload_id: str) -> None:
        with suppress(OnetakeError):
            self.abort(key, upload_id)

    @_translated
    def _create(self, key: str, content_type: str) -> str:
        answer = self._send("POST", key, None, {"Content-Type": content_type}, {"uploads": ""})
        found = re.search(r"<UploadId>([^<]+)</UploadId>", answer.data.decode())
        if not found:
            raise unavailable("It could not start the upload.")
        return found[1]

    @_translated
    def _put_flow(self, key: str, upload_id: str, blocks: Iterator[bytes], size: int) -> str:
        """The client would want the part whole, to hash it for its signature. A signed link needs no hash."""
        link = self._presigned(key, {"partNumber": "1", "uploadId": upload_id})
        answer = self._flow(link, blocks, {"Content-Length": str(size)})
        if refused := _refusal(answer):
            raise unavailable(words(refused))
        return _etag(answer)

    @_unless(TAKEN)
    def _complete(self, key: str, upload_id: str, etag: str) -> str:
        """Make the object of its part; None when the key is taken."""
        part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        headers = {"Content-Type": "application/xml", "If-None-Match": "*"}
        answer = self._send("POST", key, document, headers, {"uploadId": upload_id}).data.decode()
        if "<CompleteMultipartUploadResult" not in answer:
            # S3 may answer 200 and then say in the body that it failed.
            raise unavailable("It could not complete the upload.")
        return answer

    @_unless("NoSuchUpload")
    def abort(self, key: str, upload_id: str) -> None:
        self._send("DELETE", key, None, {}, {"uploadId": upload_id})

    @_translated
    def uploads(self, after_key: str) -> ListMultipartUploadsResult:
        query = {"uploads": "", "encoding-type": "url", "max-uploads": "1000", "key-marker": after_key}
        return ListMultipartUploadsResult(self._send("GET", None, None, {}, query))

    @_translated
    def holds_any(self, prefix: str) -> bool:
        """Whether there is an object under a prefix."""
        query = {"list-type": "2", "max-keys": "1", "prefix": prefix, "delimiter": ""}
        return b"<Contents>" in self._send("GET", None, None, {}, query).data

    @_unless("NoSuchKey")
    def copy_window(self, key: str, offset: int, accept: Callable[[bytes], None]) -> int:
        """Hand on the bytes from `offset` to the end of one window; returns the size of the whole object."""
        with self._client.get_object(
            bucket_name=self._bucket, object_name=key, offset=offset, length=WINDOW_BYTES
        ) as response:
            total = re.fullmatch(rf"bytes {offset}-[0-9]+/([0-9]+)", response.headers.get("content-range", ""))
            if not total:
                raise unavailable("It ignores ranges.")
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

    @_translated
    def listed(self, after_key: str) -> list[Listed]:
        """The next page of objects behind a key; an empty one is the end."""
        found = self._client.list_objects(bucket_name=self._bucket, recursive=True, start_after=after_key)
        return [
            Listed(str(each.object_name), each.size or 0, each.last_modified or datetime.now(UTC))
            for each in islice(found, _PAGE)
        ]

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
                "response-content-type": content_type_of(key),
                "response-content-disposition": f'attachment; filename="{key.rpartition("/")[2]}"',
            },
        )

    @_translated
    def bucket_exists(self) -> bool:
        return self._client.bucket_exists(bucket_name=self._bucket)

    @_unless("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    def make_bucket(self) -> None:
        self._client.make_bucket(bucket_name=self._bucket)

    def _presigned(self, key: str, query: dict[str, str] | None = None) -> str:
        return self._client.get_presigned_url(
            method="PUT",
            bucket_name=self._bucket,
            object_name=key,
            expires=_FLOW_LINK_LIFE,
            extra_query_params={**(query or {})},
        )

    def _flow(self, address: str, blocks: Iterator[bytes], headers: Mapping[str, str]) -> Any:
        return self._pool.request("PUT", address, body=blocks, headers=headers, redirect=False)

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


def _refusal(answer: Any) -> str:
    """The code with which the store refused a request; "" when it did not."""
    if answer.status == 200:
        return ""
    code = re.search(r"<Code>([A-Za-z0-9]+)</Code>", answer.data.decode(errors="replace"))
    return code[1] if code else str(answer.status)


def _etag(answer: Any) -> str:
    return answer.headers.get("etag", "").replace('"', "") or "none"


def content_type_of(key: str) -> str:
    return _CONTENT_TYPES.get(Path(key).suffix, "application/octet-stream")


def origin_of(endpoint: str, *, secure: bool) -> tuple[str, bool]:
    scheme, separator, host = endpoint.rpartition("://")
    return host.rstrip("/"), scheme == "https" if separator else secure


def connections(size: int) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=size,
        block=False,
        timeout=_TIMEOUT,
        retries=False,
        cert_reqs="CERT_REQUIRED",
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), versitygw.RESET_ON_CLOSE],
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
    )
