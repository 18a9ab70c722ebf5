"""Whether a person looks at a stream."""

import os
from typing import TextIO


def is_screen(stream: TextIO) -> bool:
    """Whether escape sequences are welcome: a terminal that is not dumb, and no NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
