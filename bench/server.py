"""What the Temporal development server counts itself: the actions that leave no event in any history."""

import asyncio
import re
from collections import Counter
from typing import Final

import httpx

from bench import processes

_ACTION: Final = re.compile(
    r'^action\{action_type="(?P<kind>[^"]+)",namespace="default",.*\} (?P<number>[\d.e+]+)$', re.MULTILINE
)
OUTSIDE_HISTORY: Final = ("grpc_RecordActivityTaskHeartbeat", "grpc_RecordActivityTaskHeartbeatById")
_LIMIT_S: Final = 10.0
_REPORTED_S: Final = 2.0  # the server reports its counters once a second


class ServerActions:
    """Reads the server's metric `action`, by kind, for the namespace of the generations."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    @classmethod
    async def find(cls, http: httpx.AsyncClient, pid: int) -> "ServerActions | None":
        """The server chooses the port of its metrics; None where none of its ports gives them."""
        if not processes.can_be_measured():
            return None
        for port in processes.listening_ports(pid):
            found = cls(http, f"http://127.0.0.1:{port}/metrics")
            if await found.count():
                return found
        return None

    async def count(self) -> Counter[str]:
        """Actions since the server's start; empty when this is no address of metrics. What has just happened counts."""
        await asyncio.sleep(_REPORTED_S)
        try:
            answer = await self._http.get(self._url, timeout=_LIMIT_S)
        except httpx.HTTPError:
            return Counter()
        return counted(answer.text)


def counted(metrics: str) -> Counter[str]:
    """The actions in the server's metrics, by kind; the server's own namespace is left out."""
    return Counter({each["kind"]: round(float(each["number"])) for each in _ACTION.finditer(metrics)})
