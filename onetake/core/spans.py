"""Spans of time as people say them."""

_SHORT_S = 90


def span(seconds: float) -> str:
    """`42 s`, and from a minute and a half on `12 min`."""
    return f"{seconds / 60:.0f} min" if seconds >= _SHORT_S else f"{seconds:.0f} s"
