"""A part of a stack whose process stands still for a while."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

from onetake.dev.devstack import DevStack


@contextmanager
def standing_still(devstack: DevStack, part: str) -> Generator[None]:
    """The process of a part does nothing in this block."""
    pid = devstack.pid_of(part)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
