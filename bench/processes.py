"""What processes use, from /proc: processor time and memory of whole trees or of one process, and listening ports."""

import os
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_LISTEN: Final = "0A"  # a socket's state in /proc/net/tcp


def can_be_measured() -> bool:
    """Whether this system tells what its processes use."""
    return (_PROC / "self" / "stat").exists()


def cpu_seconds(roots: dict[str, int]) -> dict[str, float]:
    """Processor time so far of each tree of processes, children that ended included, and of this process alone.

    Empty on a system that does not tell.
    """
    if not can_be_measured():
        return {}
    stats, children = _tree()
    used = {name: _tree_ticks(pid, stats, children) / TICKS_A_SECOND for name, pid in roots.items()}
    return used | {"client": time.process_time()}


def _tree() -> tuple[dict[int, "_Stat"], dict[int, list[int]]]:
    stats = dict(_stats())
    children: dict[int, list[int]] = defaultdict(list)
    for pid, stat in stats.items():
        children[stat.parent].append(pid)
    return stats, children


@dataclass(frozen=True)
class _Stat:
    parent: int
    ticks: int


def _stats() -> list[tuple[int, _Stat]]:
    found: list[tuple[int, _Stat]] = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended; its parent's counters have its time
                continue
            found.append((int(folder.name), _Stat(int(fields[1]), sum(map(int, fields[11:15])))))
    return found


def _tree_ticks(pid: int, stats: dict[int, _Stat], children: dict[int, list[int]]) -> int:
    own = stats[pid].ticks if pid in stats else 0
    return own + sum(_tree_ticks(child, stats, children) for child in children[pid])


def rss_bytes(pid: int) -> int:
    """Resident memory of one process now."""
    return _status_bytes(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory of one process since its start or `forget_peak`."""
    return _status_bytes(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak start again from the memory in use now."""
    (_PROC / str(pid) / "clear_refs").write_text("5")


def pss_bytes(roots: dict[str, int]) -> dict[str, int]:
    """Memory now of each tree of processes, pages that processes share divided among them.

    Empty on a system that does not tell, or does not tell us.
    """
    if not can_be_measured():
        return {}
    _, children = _tree()
    try:
        return {name: sum(_pss(each) for each in (pid, *_below(pid, children))) for name, pid in roots.items()}
    except PermissionError:
        return {}


def _below(pid: int, children: dict[int, list[int]]) -> list[int]:
    return [each for child in children[pid] for each in (child, *_below(child, children))]


def _pss(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def listening_ports(pid: int) -> list[int]:
    """The TCP ports on which a process of ours listens."""
    sockets = {link.removeprefix("socket:[").removesuffix("]") for link in _links(pid)}
    found: list[int] = []
    for table in ("tcp", "tcp6"):
        for line in (_PROC / str(pid) / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and fields[9] in sockets:
                found.append(int(fields[1].rpartition(":")[2], 16))
    return found


def _links(pid: int) -> list[str]:
    found: list[str] = []
    for file in (_PROC / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):  # it has just been closed
            found.append(str(file.readlink()))
    return found


def children_of(pid: int) -> list[int]:
    return [child for child, stat in _stats() if stat.parent == pid]


def _status_bytes(pid: int, name: str) -> int:
    lines = (_PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
