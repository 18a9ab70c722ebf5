"""Which port each part listens on: the well known one when it is free, else another, and who holds the first."""

import atexit
import random
import re
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

LOOPBACK: Final = "127.0.0.1"
PortChoice = Literal["default", "free"]

DEFAULT_PORTS: Final[dict[str, int]] = {
    "temporal": 7233,
    "temporal_ui": 8233,
    "postgres": 5499,
    "s3": 9000,
    "gateway": 8080,
    "simulator": 8090,
    "codec": 8081,
}

# Below the range that operating systems lend to outgoing connections (Linux 32768 and up), so that no client of another
# program takes the port between our look and the server's start.
_FREE_RANGE: Final = range(20_000, 32_000)

# Names on this machine of the ports that this process has chosen last, whose servers may not listen yet.
_chosen: Final = deque[socket.socket]()
_MOST_CHOSEN: Final = 64


def choose_ports(choice: PortChoice, note: Callable[[str, str], None]) -> dict[str, int]:
    """One port a part, all different. `note(part, text)` hears of every default port that was taken."""
    chosen: dict[str, int] = {"temporal_http": free_port(set())}
    for part, default in DEFAULT_PORTS.items():
        if choice == "default" and default not in chosen.values() and is_free(default):
            chosen[part] = default
            continue
        chosen[part] = free_port(set(chosen.values()))
        if choice == "default":
            note(part, f"port {default} is taken by {holder_of(default) or 'another program'}; using {chosen[part]}")
    return chosen


def free_port(taken: set[int]) -> int:
    """A port that nobody listens on now, that is not in `taken`, and that no process has chosen by this lately."""
    for number in random.sample(_FREE_RANGE, 200):
        if number not in taken and is_free(number) and _choose(number):
            return number
    raise OSError(f"no free port between {_FREE_RANGE.start} and {_FREE_RANGE.stop}")


def _choose(port: int) -> bool:
    """Whether it is ours now: on Linux a name, which ends with this process, keeps every other one from it."""
    if sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0onetake-port-{port}")
    except OSError:
        name.close()
        return False
    _chosen.append(name)
    if len(_chosen) > _MOST_CHOSEN:
        _chosen.popleft().close()
    return True


@atexit.register
def _forget() -> None:
    while _chosen:
        _chosen.pop().close()


def is_free(port: int) -> bool:
    """Whether a server could listen on loopback now. Connections of an ended server that still linger do not count."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOOPBACK, port))
        except OSError:
            return False
    return not answers(LOOPBACK, port, timeout_s=0.2)


def answers(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Whether something accepts a TCP connection."""
    with suppress(OSError), socket.create_connection((host, port), timeout=timeout_s):
        return True
    return False


def holder_of(port: int) -> str | None:
    """Name and process id of the program that listens on a port, where Linux lets us see it."""
    inodes = set(_listening_inodes(port))
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            for link in folder.iterdir():
                match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
                if match and match[1] in inodes:
                    return f"{(folder.parent / 'comm').read_text().strip()} (pid {folder.parent.name})"
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]
