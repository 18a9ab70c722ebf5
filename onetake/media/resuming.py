"""Where a body stands, and whether the rest of it may be asked for: `Range` with `If-Range` (RFC 9110, 13 and 14).

A body is gone on with only when its server offers byte ranges and has named what it serves in a way that cannot mean
two files: a strong ETag, or the time of its last change. What comes then must be the rest of that very file.
"""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Self

import httpcore

from onetake.core.errors import TryLater

_SURE_S: Final = 1.0  # a file that changed in the very second of its answer may have changed twice


def header(response: httpcore.Response, name: bytes) -> str:
    """The first header of this name; "" when there is none."""
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), "")


def declared_bytes(response: httpcore.Response) -> int | None:
    """What `Content-Length` says, where it counts."""
    text = header(response, b"content-length")
    chunked = header(response, b"transfer-encoding") != ""
    return int(text) if text.isascii() and text.isdigit() and not chunked else None


@dataclass
class Place:
    """How far a body has been read. `total` is None while nobody has said how long it is."""

    total: int | None
    name: bytes
    value: str
    offered: bool
    done: int = 0

    @classmethod
    def of(cls, response: httpcore.Response) -> Self:
        """The beginning of what a first answer names."""
        etag = header(response, b"etag")
        strong = re.fullmatch(r'"[!#-~]*"', etag) is not None
        name, value = (b"etag", etag) if strong else (b"last-modified", _sure_change(response) if not etag else "")
        offered = header(response, b"accept-ranges").strip().lower() == "bytes"
        return cls(declared_bytes(response), name, value, offered)

    @property
    def can_resume(self) -> bool:
        return self.offered and self.value != ""

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What asks for the rest, and for all of it when the file has changed."""
        return (b"Range", b"bytes=%d-" % self.done), (b"If-Range", self.value.encode("latin-1"))

    def require_rest(self, response: httpcore.Response) -> None:
        """Raises TryLater(`asset_truncated`) unless an answer is the rest of the file that the first one named."""
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", header(response, b"content-range"))
        named = header(response, self.name)
        same = named == self.value or (named == "" and self.name == b"last-modified")
        total = int(found[2]) if found else None
        if response.status != 206 or not found or int(found[1]) != self.done or self.total not in {None, total}:
            raise _changed()
        if not same:
            raise _changed()
        self.total = total


def _sure_change(response: httpcore.Response) -> str:
    """`Last-Modified`, when it lies before the answer: else it may name two files."""
    changed = header(response, b"last-modified")
    try:
        age = parsedate_to_datetime(header(response, b"date")) - parsedate_to_datetime(changed)
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""
    return changed if age.total_seconds() >= _SURE_S and changed.isascii() else ""


def _changed() -> TryLater:
    return TryLater("asset_truncated", "It broke off, and what its server has now is not the rest of it.")
