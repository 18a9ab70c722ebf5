"""Processes that do nothing but burn the processor, to see what a busy machine changes."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

# It ends with the one that started it, also when that one is killed.
_BURN = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def hogs(number: int) -> Generator[None]:
    """So many of them while the block runs."""
    with ExitStack() as running:
        for _ in range(number):
            hog = running.enter_context(subprocess.Popen([sys.executable, "-c", _BURN]))
            running.callback(hog.kill)
        yield
