"""Temporal, PostgreSQL and S3 on this machine without Docker, and our own processes beside them.

For `onetake dev`, the demo, the tests and the bench. Not for production, and it imports nothing of ours.
"""

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.progress import LiveProgress, PlainProgress, Progress, SilentProgress, progress_for, step
from onetake.dev.devstack.stack import DevStack, Part, StackAddresses

__all__ = [
    "DevStack",
    "DevStackError",
    "LiveProgress",
    "Part",
    "PlainProgress",
    "Progress",
    "SilentProgress",
    "StackAddresses",
    "progress_for",
    "step",
]
