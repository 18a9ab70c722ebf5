"""A PUT whose sha256 follows its body, so that the store can verify bytes that were hashed while they were sent.

The minio client sends no trailing checksums. This is the little that it lacks: the headers, signed by the client's own
signer, and the framing of the body in blocks (`aws-chunked`). The blocks themselves are not signed.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import SplitResult

from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

_FRAME_BYTES: Final = 1024 * 1024  # S3 wants 8 KiB at least of each but the last; other stores 16 MiB at most
CHECKSUM: Final = "x-amz-checksum-sha256"
_PAYLOAD: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SHA256_BYTES: Final = 32


class Digest(Protocol):
    """The sha256 of what has been sent so far."""

    def digest(self) -> bytes: ...


def signed_headers(
    place: SplitResult, region: str, credentials: Credentials, *, content_type: str, size: int
) -> dict[str, str]:
    """The headers of a PUT of so many bytes to a key that nothing holds yet; `place` is its address without a query.

    `Content-Encoding: aws-chunked` is left out because versitygw would hand it out with the object.
    """
    now = datetime.now(UTC)
    headers: dict[str, str | list[str] | tuple[str]] = {
        "Host": place.netloc,
        "Content-Type": content_type,
        "Content-Length": str(_framed_bytes(size)),
        "If-None-Match": "*",
        "x-amz-content-sha256": _PAYLOAD,
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-decoded-content-length": str(size),
        "x-amz-trailer": CHECKSUM,
    }
    signed = sign_v4_s3(
        method="PUT",
        url=place,
        region=region,
        headers=headers,
        credentials=credentials,
        content_sha256=_PAYLOAD,
        date=now,
    )
    return {name: str(value) for name, value in signed.items()}


def framed(blocks: Iterator[bytes], size: int, digest: Digest) -> Iterator[bytes]:
    """The body on the wire, for blocks that are `size` bytes together. The digest is read after the last one."""
    before, room, left = b"", 0, size
    for block in blocks:
        rest = block
        while rest:
            if not room:
                room = min(_FRAME_BYTES, left)
                yield before + b"%x\r\n" % room
                before = b"\r\n"
            piece, rest = rest[:room], rest[room:]
            yield piece
            room, left = room - len(piece), left - len(piece)
    yield before + _end(digest.digest())


def sha256_told(value: str | None) -> str | None:
    """The sha256 of a whole object as the store tells it, in hex; None when it tells none, or that of parts."""
    try:
        digest = b64decode(value or "", validate=True)
    except Base64Error:
        return None
    return digest.hex() if len(digest) == _SHA256_BYTES else None


def _framed_bytes(size: int) -> int:
    whole, rest = divmod(size, _FRAME_BYTES)
    return whole * _frame_bytes(_FRAME_BYTES) + (_frame_bytes(rest) if rest else 0) + len(_end(bytes(_SHA256_BYTES)))


def _frame_bytes(size: int) -> int:
    return len(b"%x\r\n\r\n" % size) + size


def _end(digest: bytes) -> bytes:
    return b"0\r\n" + f"{CHECKSUM}:".encode() + b64encode(digest) + b"\r\n\r\n"
