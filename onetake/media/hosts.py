"""Turns of the hosts of inputs: a slow one may not hold up the requests that name others."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import httpx

from onetake.core.errors import TryLater
from onetake.core.ports import MediaRules

MOST_OF_A_HOST: Final = 8  # requests whose inputs are looked at side by side, per process
TURN_S: Final = 2.0  # a look that takes longer is slow


class Hosts:
    """Which hosts are being looked at, and since when. One per process and event loop."""

    def __init__(self) -> None:
        self._looks: dict[str, list[float]] = {}
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def turn(self, rules: MediaRules) -> AsyncGenerator[None]:
        """One look at a request, when all of its hosts have room. Raises TryLater(`inputs_busy`) when one has none and
        is slow, or has none for long."""
        hosts = {host for rule in rules.inputs if (host := _host_of(rule.url))}
        try:
            async with asyncio.timeout(TURN_S), self._changed:
                await self._changed.wait_for(lambda: self._have_room(hosts))
                started = time.monotonic()
                for host in hosts:
                    self._looks.setdefault(host, []).append(started)
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        finally:
            self._leave(hosts, started)
            async with self._changed:
                self._changed.notify_all()

    def _have_room(self, hosts: Iterable[str]) -> bool:
        full = [host for host in hosts if len(self._looks.get(host, ())) >= MOST_OF_A_HOST]
        if any(time.monotonic() - min(self._looks[host]) > TURN_S for host in full):
            raise _busy()
        return not full

    def _leave(self, hosts: Iterable[str], started: float) -> None:
        for host in hosts:
            self._looks[host].remove(started)
            if not self._looks[host]:
                del self._looks[host]


def _host_of(url: str) -> str:
    """Host and port; "" of an address that will be refused."""
    try:
        return httpx.URL(url).netloc.decode()
    except (httpx.InvalidURL, ValueError):
        return ""


def _busy() -> TryLater:
    return TryLater("inputs_busy", "(many inputs of one host are being looked at)")
