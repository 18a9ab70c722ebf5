"""Named places where a test may kill the process with SIGKILL.

In production the environment variable is unset and a point costs one comparison.
`ONETAKE_CRASH=submit.after_intent` kills at the first hit; the death is real: no cleanup, no flush, no `finally`.
"""

import os
import signal
from typing import Final, Literal

CrashPoint = Literal[
    "accept.after_commit",
    "reserve.before_commit",
    "reserve.after_commit",
    "submit.before_intent",
    "submit.after_intent",
    "submit.after_send",
    "submit.after_record",
    "wait.before_read",
    "wait.after_read",
    "persist.before_put",
    "persist.during_put",
    "persist.after_put",
    "persist.after_manifest",
    "settle.before_commit",
    "settle.after_commit",
]

_ARMED: Final = os.environ.get("ONETAKE_CRASH")


def crashpoint(name: CrashPoint) -> None:
    """Die here, as by `kill -9`, when this point is armed."""
    if name == _ARMED:
        os.kill(os.getpid(), signal.SIGKILL)
