"""Asking a server of ours how it is, as a probe does."""

import urllib.error
import urllib.request


def answers(url: str) -> bool:
    """Whether it answers 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, urllib.error.HTTPError):
        return False
