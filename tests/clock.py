"""A clock that a test sets."""


class Clock:
    """In the place of the module `time`: it goes on when a test says so."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def time(self) -> float:
        return self.now_s

    monotonic = time

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
