"""What a driver says about one exchange with a vendor when it is over, for who watches: no path, no key, no text."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class VendorCall:
    """`outcome`: of a submission its own word, of a read `answered`, or the code of the error that it ended with.
    `status`: of HTTP, None without an answer. Times in nanoseconds since 1970."""

    vendor: str
    method: str
    host: str
    outcome: str
    status: int | None
    began_ns: int
    ended_ns: int


NoteCall = Callable[[VendorCall], None]


def unnoted(call: VendorCall) -> None:
    """Nobody watches."""
    del call
