"""Reservations stopped in the middle of their transaction, in the server itself, so that a test decides what comes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from onetake.ledger.database import SLOW_LANE, Session, connect_once
from tests.system.harness import LIMIT_S, Stack

_LOCK = """
select from onetake.budget_window w join onetake.budget b on b.id = w.budget_id
where b.scope = 'tenant' and b.scope_key = $1 for update of w
"""
_WAITING = """
select pid from pg_stat_activity
where $1 = any(pg_blocking_pids(pid)) and query like '%' || $2 || '%' and application_name like '%' || $3 limit 1
"""


@dataclass(frozen=True)
class Held:
    """A transaction that holds a tenant's budget: every reservation of this tenant waits for its end."""

    session: Session
    looking: Session
    pid: int

    async def reserving(self) -> int:
        """Wait until a reservation waits for us in the slow lane, where it stays for some time; the id of its server
        process."""
        return await self.waiting_for(self.pid, "onetake.reserve", SLOW_LANE)

    async def reserving_before(self, call: str, limit_s: float) -> int:
        """Wait until a call of this function waits for a reservation that waits for us; the id of the reservation's
        server process. A reservation that is given up meanwhile is followed by another, in another process. Raises
        TimeoutError when they have not met in time."""
        async with asyncio.timeout(limit_s):
            while True:
                reserving = await self.reserving()
                if await self.looking.fetchval(_WAITING, reserving, call, ""):
                    return reserving
                await asyncio.sleep(0.02)

    async def waiting_for(self, pid: int, call: str, lane: str = "") -> int:
        """Wait until a call of this function waits for a server process; the id of the one that waits."""
        async with asyncio.timeout(LIMIT_S):
            while not (waiting := await self.looking.fetchval(_WAITING, pid, call, lane)):
                await asyncio.sleep(0.02)
        return int(waiting)

    async def kill(self, pid: int) -> None:
        """End a server process: its client loses the connection, and its transaction is undone."""
        await self.looking.execute("select pg_terminate_backend($1)", pid)


@asynccontextmanager
async def budget_held(stack: Stack, tenant: str, usd: str = "100") -> AsyncGenerator[Held]:
    """Give a tenant a budget without end, and hold it until the block is left."""
    await stack.set_budget("tenant", tenant, "total", usd)
    url = stack.environment["ONETAKE_DATABASE_URL"]
    session, looking = await connect_once(url, limit_s=LIMIT_S), await connect_once(url, limit_s=LIMIT_S)
    try:
        await looking.execute(
            "select onetake.open_windows(array_agg(id)) from onetake.budget where scope_key = $1", tenant
        )
        async with session.transaction():
            await session.execute(_LOCK, tenant)
            yield Held(session, looking, await session.fetchval("select pg_backend_pid()"))
    finally:
        await session.close()
        await looking.close()
