"""A process that ends takes leave of its database, but does not wait for one that has gone."""

import asyncio
from typing import Any, Self

import pytest

from onetake.ledger import database as module
from onetake.ledger.database import Database

HANG_S = 60.0  # much longer than a connection is waited for here


class Pool:
    """In the place of asyncpg's, whose `close` waits for calls under way, and for the server's end of the link."""

    def __init__(self, error: type[Exception] | None = None, *, hangs: bool = False) -> None:
        self._error, self._hangs = error, hangs
        self.told: list[str] = []

    async def close(self) -> None:
        try:
            await asyncio.sleep(HANG_S if self._hangs else 0)
        except asyncio.CancelledError:
            self.told.append("cut off")  # asyncpg terminates the connections then
            raise
        if self._error:
            raise self._error
        self.told.append("closed")

    def acquire(self, *, timeout: float) -> Any:
        raise NotImplementedError

    async def expire_connections(self: Self) -> None:
        raise NotImplementedError


async def test_connections_that_do_not_close_are_cut_off_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTING_S", 0.2)
    pools = [Pool(hangs=True), Pool(), Pool(hangs=True)]
    await Database(pools[0], pools[1], pools[2], 4).close()
    assert [pool.told for pool in pools] == [["cut off"], ["closed"], ["cut off"]]


async def test_a_connection_that_breaks_while_it_is_closed_is_closed() -> None:
    await Database(Pool(), Pool(ConnectionResetError), Pool(), 4).close()
