"""What a vendor allows: so many jobs at once, and so many status reads a second. Beyond that it answers 429.

It names no time, and keeps a book of what it was asked for, whether it limits anything or not.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import JsonValue

from onetake.dev.simulator.vendor import Refusal

WINDOW_S = 1.0
TOO_MANY = "too many requests"


@dataclass
class Book:
    """One vendor's limits (None: no limit), and what it was asked for since they were set."""

    jobs: int | None = None
    reads_per_s: float | None = None
    submits: int = 0
    refused_submits: int = 0
    reads: int = 0
    refused_reads: int = 0
    most_jobs: int = 0
    most_reads_per_s: int = 0
    recent: deque[float] = field(default_factory=deque[float])

    def shown(self) -> dict[str, JsonValue]:
        """All but the times of recent reads, as JSON."""
        return {name: value for name, value in vars(self).items() if name != "recent"}


class Limits:
    """The books of all vendors. `running` says how many jobs of a vendor render now."""

    def __init__(self, running: Callable[[str], int]) -> None:
        self._running = running
        self._books: dict[str, Book] = {}

    def set(self, vendor: str, jobs: int | None, reads_per_s: float | None) -> Book:
        """Begin a new book with these limits."""
        self._books[vendor] = Book(jobs, reads_per_s)
        return self._books[vendor]

    def book(self, vendor: str) -> Book:
        """The vendor's book as it stands."""
        return self._books.setdefault(vendor, Book())

    def admit_submit(self, vendor: str) -> None:
        """Count a submission. Raises Refusal 429 when as many jobs render as are allowed."""
        book, running = self.book(vendor), self._running(vendor)
        book.submits += 1
        if book.jobs is not None and running >= book.jobs:
            book.refused_submits += 1
            raise Refusal(429, TOO_MANY)
        book.most_jobs = max(book.most_jobs, running + 1)

    def admit_read(self, vendor: str, now: float) -> None:
        """Count a status read. Raises Refusal 429 when as many were answered within the last second as are allowed."""
        book = self.book(vendor)
        book.reads += 1
        while book.recent and book.recent[0] <= now - WINDOW_S:
            book.recent.popleft()
        if book.reads_per_s is not None and len(book.recent) >= book.reads_per_s:
            book.refused_reads += 1
            raise Refusal(429, TOO_MANY)
        book.recent.append(now)
        book.most_reads_per_s = max(book.most_reads_per_s, len(book.recent))
