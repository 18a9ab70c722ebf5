"""Named places where a test may kill the process with SIGKILL.

In production nothing is armed and a point costs one comparison with None. `ONETAKE_CRASH=submit.after_intent` kills at
the first hit, `submit.after_intent:3` at the third; several names, comma-separated, each wait for their own. The points
at the edges of the activities' ports are placed by `onetake.dev.crashing` when a worker is built. The death is real: no
cleanup, no flush, no `finally`. Its last line on standard error is `killed at NAME`.
"""

import os
import signal
from typing import Final, Literal, cast, get_args

from onetake.core.errors import Refused

CrashPoint = Literal[
    # The client.
    "start.before_row",
    "start.after_row",
    "start.after_run",
    "cancel.before_mark",
    "cancel.after_mark",
    "cancel.after_request",
    # The client, and the worker in its first activity.
    "accept.before_commit",
    "accept.after_commit",
    # The worker.
    "validate.before_pin",
    "validate.after_pin",
    "reserve.before_admit",
    "reserve.before_commit",
    "reserve.after_commit",
    "submit.before_intent",
    "submit.after_intent",
    "submit.before_body",
    "submit.after_body",
    "submit.after_send",
    "submit.before_record",
    "submit.after_record",
    "submit.before_doubt",
    "submit.after_doubt",
    "submit.before_slow_down",
    "submit.after_slow_down",
    "resolve.before_look",
    "resolve.after_look",
    "resolve.after_record",
    "wait.before_read",
    "wait.after_read",
    "wait.after_missing",
    "wait.before_slow_down",
    "persist.before_links",
    "persist.after_links",
    "persist.after_end",
    "persist.before_put",
    "persist.during_put",
    "persist.before_complete",
    "persist.after_put",
    "persist.before_read",
    "persist.after_read",
    "persist.before_manifest",
    "persist.after_manifest",
    "settle.before_commit",
    "settle.after_commit",
    # The gateway.
    "callback.before_store",
    "callback.after_store",
    "callback.before_answer",
    "callback.before_signal",
    "callback.after_signal",
    "callback.after_note",
    "sweep.before_read",
    "sweep.after_wake",
    # The reconciler, recoveries and replays.
    "reconcile.before_act",
    "reconcile.after_act",
    "correct.before_commit",
    "correct.after_commit",
    "replay.after_row",
    "replay.after_start",
]
CRASH_POINTS: Final = cast("tuple[CrashPoint, ...]", get_args(CrashPoint))

_hits_left: dict[str, int] | None = None


def arm(points: str) -> None:
    """Arm these points in place of any before; an empty text disarms. Raises ValueError for a name that is not ours."""
    global _hits_left  # noqa: PLW0603 - one process, one death
    armed = {name: int(hit or 1) for name, _, hit in (point.partition(":") for point in points.split(",") if point)}
    if unknown := armed.keys() - set(CRASH_POINTS):
        raise ValueError(f"no such crash point: {', '.join(sorted(unknown))}")
    _hits_left = armed or None


def is_armed() -> bool:
    """Whether this process may kill itself."""
    return _hits_left is not None


def refuse_mistake() -> None:
    """Raises Refused(`settings_invalid`) where the environment names points that cannot be armed."""
    if _mistake:
        raise Refused("settings_invalid", f"ONETAKE_CRASH: {_mistake}.")


def crashpoint(name: CrashPoint) -> None:
    """Die here, as by `kill -9`, when this point is armed."""
    if _hits_left is not None:
        _hit(_hits_left, name)


def _hit(left: dict[str, int], name: CrashPoint) -> None:
    if name not in left:
        return
    left[name] -= 1
    if left[name] == 0:
        os.write(2, f"killed at {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def _mistake_in(points: str) -> str:
    """Arm these points; what is wrong with them, when nothing can be armed."""
    try:
        arm(points)
    except ValueError as error:
        return str(error)
    return ""


_mistake: Final = _mistake_in(os.environ.get("ONETAKE_CRASH", ""))
