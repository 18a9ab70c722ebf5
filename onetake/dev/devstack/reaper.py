"""The reaper: ends what a killed supervisor left behind. A script of its own, standard library only.

It holds the read end of a pipe and learns from it which process groups live ("add PID SIGNAL"), which have ended ("gone
PID") and which home is not to be kept ("delete PATH"). When the pipe closes, the supervisor is gone, however it went:
the reaper asks the groups that are left to stop, then kills them, and deletes. Then it ends too; it starts nothing.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

GRACE_S = 5.0


def main() -> None:
    """Follow the pipe to its end, then stop what is left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: dict[int, int] = {}
    homes: list[Path] = []
    for line in sys.stdin:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "add":
            pid, stop_signal = rest.split()
            groups[int(pid)] = int(stop_signal)
        elif verb == "gone":
            groups.pop(int(rest), None)
        elif verb == "delete":
            homes.append(Path(rest))
    end(groups)
    for home in homes:
        delete(home)


def end(groups: dict[int, int]) -> None:
    """Signal each group its own way, and kill those that live on after the grace."""
    left = [group for group, stop_signal in groups.items() if tell(group, stop_signal)]
    deadline = time.monotonic() + GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [group for group in left if tell(group, 0)]
    for group in left:
        tell(group, signal.SIGKILL)


def tell(group: int, number: int) -> bool:
    """Whether the group still had a process to hear the signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def delete(home: Path) -> None:
    """Remove a stack's home, and the database cluster that lies elsewhere (see postgres.py)."""
    cluster = home / "postgres"
    if cluster.is_symlink():
        shutil.rmtree(cluster.resolve(), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
