"""Blocking requests to one bucket through the minio client, and what its answers mean.

Every write of a whole object carries `If-None-Match: *`. Errors say what is wrong in our words: no link, no key and no
text of the server.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import certifi
import urllib3
from minio import Minio
from minio.datatypes import ListMultipartUploadsResult
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from onetake.core.errors import TryLater
from onetake.media import versitygw

WINDOW_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_FLOW_LINK_LIFE: Final = timedelta(hours=1)

# A part leaves in one call, and the connect timeout of a fresh connection bounds that call as a whole.
_TIMEOUT: Final = urllib3.Timeout(connect=20.0, read=60.0)

_CAUSES: Final = {
    "NoSuchBucket": "The bucket does not exist.",
    "AccessDenied": "The credentials were refused.",
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
        return _words(error.code or "")
    return "It answered something that is not S3."


def _words(code: str) -> str:
    return _CAUSES.get(code) or f"It answered {re.sub('[^A-Za-z0-9]', '', code)[:64]}."


class Requests:
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
            raise unavailable("It could not start the upload.")
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
            raise unavailable(_words(code[1] if code else str(answer.status)))
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
            raise unavailable("It could not complete the upload.")
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
