"""What a store must be able to do, tried with a few bytes when a worker starts and by `onetake doctor`.

All that storing a clip rests on is done once here: a key that is not there is said to be absent, objects and unfinished
uploads are listed, a key is written once and never twice, and an object goes away when it is removed. What a store
cannot do is found out before a vendor is paid. Whatever was written is removed again. The calls block.
"""

from collections.abc import Callable
from typing import Final, TypeVar
from uuid import uuid4

from onetake.core.errors import TryLater
from onetake.media.s3 import DENIED, TAKEN, Requests, unavailable

FOLDER: Final = "check/"
_DATA: Final = b"a store that keeps what it has\n"

T = TypeVar("T")


def try_out(requests: Requests) -> bool:
    """Whether the store verifies what it is sent. Raises TryLater(`storage_unavailable`) saying what it cannot do."""
    key = f"{FOLDER}{uuid4().hex}"
    _require_absent(requests, key)
    _tried("The keys may not list the bucket.", requests.holds_any, FOLDER)
    _tried("The keys may not list its unfinished uploads.", requests.uploads, "")
    try:
        _require_written_once(requests, key)
    finally:
        _tried("The keys may not remove objects.", requests.remove, key)
    if requests.verifies(f"{key}-verified"):
        return True
    _require_assembled_once(requests, f"{key}-parts")
    return False


def _require_absent(requests: Requests, key: str) -> None:
    # A read and not a HEAD, whose answers have no body: a wrong key and a missing bucket would look the same.
    try:
        found = requests.get(key)
    except TryLater as error:
        if error.detail != DENIED:
            raise
        why = "To keys that may not list the bucket (s3:ListBucket) a missing object looks like a forbidden one."
        raise unavailable(f"{DENIED} {why}") from None
    if found is not None or requests.told(key) is not None:
        raise unavailable("It has an object that nobody wrote.")


def _require_written_once(requests: Requests, key: str) -> None:
    what = "It refuses a conditional write (If-None-Match)."
    if _tried(what, requests.put, key, _DATA, "text/plain") is None:
        raise unavailable(f"{what} It says that a new key is taken.")
    if _tried(what, requests.put, key, _DATA, "text/plain") is not None:
        raise unavailable("It ignores conditional writes (If-None-Match): of two writers the last would win.")
    if requests.get(key) != _DATA:
        raise unavailable("It does not hand out what was written.")


def _require_assembled_once(requests: Requests, key: str) -> None:
    """The way of a clip into a store that does not verify: a multipart upload."""
    what = "It refuses a conditional multipart upload."

    def put() -> str:
        return requests.put_unverified(key, iter([_DATA]), len(_DATA), "text/plain")

    try:
        if _tried(what, put):
            raise unavailable(f"{what} It says that a new key is taken.")
        if _tried(what, put) != TAKEN:
            raise unavailable("It ignores conditional writes (If-None-Match) of multipart uploads.")
    finally:
        requests.remove(key)


def _tried(what: str, call: Callable[..., T], *args: object) -> T:
    """The call's answer. Its error says what was tried, in front of what the store said."""
    try:
        return call(*args)
    except TryLater as error:
        raise unavailable(f"{what} {error.detail}") from None
