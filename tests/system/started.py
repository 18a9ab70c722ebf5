"""Whether a process of ours has started, asked at its port: it may lack something then, but it is not starting."""

import json
import urllib.error
import urllib.request

from onetake.core.probes import STARTING
from onetake.dev.devstack.ports import LOOPBACK


def readiness(port: int) -> tuple[int, list[str]]:
    """The status of `/readyz`, and what it names. Blocks. Raises OSError where nothing listens yet."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/readyz", timeout=30) as answer:
            return answer.status, json.load(answer)["red"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error).get("red", [])


def has_started(port: int) -> bool:
    """Whether it has its parts, and polls where it is a worker. Blocks."""
    try:
        _, lacks = readiness(port)
    except OSError:
        return False
    return not any(each == STARTING or each.startswith("queue ") for each in lacks)
