"""Small pools of connections, and the only place where the database's errors become ours.

A database error may quote a row (and so a prompt) or an address (and so a password): none of its text goes on, only its
SQLSTATE and the name of our constraint. An unknown outcome is the caller's to repeat. A statement that met a lock
changed nothing: it is run once more in the slow lane, a second and smaller pool. Thus those who wait for a lock leave
the first pool to the others. What a POST depends on has a pool of its own. Nobody waits for a connection longer than
ten seconds.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Final, Protocol, Self

import asyncpg
from asyncpg import exceptions as pg

from onetake.core.contracts import CountLimit
from onetake.core.errors import Failed, OnetakeError, Refused, TryLater
from onetake.ledger.addresses import Addresses, CurrentAddresses, bad_url
from onetake.metrics import instruments

STATEMENT_TIMEOUT_S: Final = 10.0
QUICK_LOCK_S: Final = 0.5  # many times what calls on one hot budget wait for each other
SLOW_LOCK_S: Final = 3.0
TURN_S: Final = 3.0
CONNECTION_S: Final = 10.0  # what a caller waits for a connection
CLOSE_S: Final = 5.0
PARTING_S: Final = 3.0  # what the connections of a process that ends may take together
RESERVED: Final = 2
SLOW_LANE: Final = "slow lane"
POSTS: Final = "posts"

Row = Mapping[str, Any]

_asyncpg: Final[Any] = asyncpg  # it ships no types; `Session` and `_Pool` are what we use of it

# By SQLSTATE, or its class: the same call may work later. Everything else is a fault of ours.
_LATER: Final[dict[str, str]] = {
    "08": "The connection was lost.",
    "26": "It does not know our prepared statement; a pooler between us must keep sessions.",
    "42P05": "It knows our prepared statement already; a pooler between us must keep sessions.",
    "XX": "It failed inside.",
    "25006": "It is read-only now.",
    "25P03": "It ended an idle transaction.",
    "28": "It refuses our user or password.",
    "3D000": "There is no database of this name; `python -m onetake.ledger.migrate` makes it.",
    "3F000": "It lacks our tables; run `python -m onetake.ledger.migrate`.",
    "40": "It asks to repeat the transaction.",
    "42501": "Our user may not use our tables.",
    "42703": "Its tables are of another version; run `python -m onetake.ledger.migrate`.",
    "42883": "Its functions are of another version; run `python -m onetake.ledger.migrate`.",
    "42P01": "It lacks our tables; run `python -m onetake.ledger.migrate`.",
    "53": "It is out of connections, memory or disk.",
    "57": "It is stopping, starting, or stopped the statement.",
    "58": "Its disk or operating system failed.",
}

LOCKED: Final = "55P03"


class Locked(TryLater):
    """A lock was not to be had in time; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("ledger_unavailable", "A lock was not to be had in time.")


class NoConnection(TryLater):
    """None was free, or could be made, in time."""

    def __init__(self) -> None:
        super().__init__("ledger_unavailable", f"No connection was to be had within {CONNECTION_S:g} s.")


class Session(Protocol):
    """One connection of our own, for migrations and tests."""

    async def execute(self, query: str, *arguments: object, timeout: float | None = None) -> str: ...  # noqa: ASYNC109
    async def fetchval(self, query: str, *arguments: object) -> Any: ...
    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...
    async def close(self, *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109 - asyncpg's name for it


class _Connection(Protocol):
    async def fetchrow(self, query: str, *arguments: object) -> Row | None: ...
    async def fetch(self, query: str, *arguments: object) -> list[Row]: ...


class _Pool(Protocol):
    def acquire(self, *, timeout: float) -> AbstractAsyncContextManager[_Connection]: ...
    async def expire_connections(self) -> None: ...
    async def close(self) -> None: ...


class Database:
    """Three pools on one PostgreSQL database. Build it with `connect`; share it between all stores of one process.

    Keep them small: on a hot budget more connections are slower, because each takes the row's lock in turn. In the
    first pool a statement waits for a lock up to half a second, in the slow lane, which has one less, up to three. In
    the third are the two connections of `surely`.
    """

    def __init__(self, pool: _Pool, slow: _Pool, reserved: _Pool, size: int) -> None:
        self._pool = pool
        self._slow = slow
        self._reserved = reserved
        self.size = size

    @classmethod
    async def connect(
        cls,
        url: str | Callable[[], str],
        *,
        pool_size: int = 4,
        application_name: str = "onetake",
        read_only: bool = False,
    ) -> Self:
        """Open the pools; a `url` that is called may be another one for later connections.

        Raises Refused(`settings_invalid`) for a URL that cannot be read, TryLater
        (`ledger_unavailable`) when nothing answers there. A pool outlives later outages by itself, and follows a
        failover to another host of the URL. The server refuses every write of a `read_only` one."""
        at = CurrentAddresses(url if callable(url) else lambda: url)
        with translated():
            pool = await _pool(at, pool_size, application_name, _limits(QUICK_LOCK_S, read_only=read_only))
            slowly = _limits(SLOW_LOCK_S, read_only=read_only)
            slow = await _pool(at, max(1, pool_size - 1), f"{application_name} {SLOW_LANE}", slowly)
            reserved = await _pool(at, RESERVED, f"{application_name} {POSTS}", slowly)
        database = cls(pool, slow, reserved, pool_size)
        try:
            await database.row("select 1")
        except OnetakeError:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Wait for the calls under way, then close all connections; cut off what takes longer than `PARTING_S`."""
        with suppress(OSError):  # a server that has gone takes no leave
            async with asyncio.timeout(PARTING_S):
                await asyncio.gather(*(pool.close() for pool in (self._pool, self._slow, self._reserved)))

    async def health(self) -> None:
        """Return when our tables can be read. Raises TryLater(`ledger_unavailable`)."""
        await self.row("select version_num from onetake.alembic_version")

    async def row(self, sql: str, *arguments: object) -> Row | None:
        """Run one statement, which commits on its own, and return its first row."""
        try:
            async with self._connection(self._pool) as connection:
                return await connection.fetchrow(sql, *arguments)
        except Locked:
            async with self._slow_connection() as connection:
                return await connection.fetchrow(sql, *arguments)

    async def rows(self, sql: str, *arguments: object) -> list[Row]:
        """Run one statement, which commits on its own, and return all its rows."""
        try:
            return await self.quickly(sql, *arguments)
        except Locked:
            return await self.slowly(sql, *arguments)

    async def answer(self, sql: str, *arguments: object) -> Row:
        """Run a function that always gives one row."""
        row = await self.row(sql, *arguments)
        if row is None:
            raise Failed("internal_error", "A database function gave no row.")
        return row

    async def surely(self, sql: str, *arguments: object) -> Row:
        """`answer` for what a POST depends on: no report and no reservation can take its connection."""
        async with self._connection(self._reserved) as connection:
            row = await connection.fetchrow(sql, *arguments)
        if row is None:
            raise Failed("internal_error", "A database function gave no row.")
        return row

    async def quickly(self, sql: str, *arguments: object) -> list[Row]:
        """`rows`, but raises Locked instead of waiting longer for a lock."""
        async with self._connection(self._pool) as connection:
            return await connection.fetch(sql, *arguments)

    async def slowly(self, sql: str, *arguments: object) -> list[Row]:
        """`rows` in the slow lane alone. Raises Locked also when the lane is taken for long."""
        async with self._slow_connection() as connection:
            return await connection.fetch(sql, *arguments)

    def _slow_connection(self) -> AbstractAsyncContextManager[_Connection]:
        return self._connection(self._slow, TURN_S, Locked)

    @asynccontextmanager
    async def _connection(
        self, pool: _Pool, wait_s: float | None = None, too_late: Callable[[], TryLater] = NoConnection
    ) -> AsyncGenerator[_Connection]:
        with translated():
            async with AsyncExitStack() as stack:
                try:
                    connection = await stack.enter_async_context(pool.acquire(timeout=wait_s or CONNECTION_S))
                except TimeoutError:
                    instruments().database_failed("08" if too_late is NoConnection else LOCKED)
                    raise too_late() from None
                try:
                    yield connection
                except pg.ReadOnlySQLTransactionError:  # it serves no more writes, but perhaps another host does
                    await pool.expire_connections()
                    raise


async def connect_once(url: str, *, limit_s: float = STATEMENT_TIMEOUT_S, database: str | None = None) -> Session:
    """Open one connection, to the URL's database or another one. Raises what asyncpg raises: use it in `translated`."""
    other = {"database": database} if database else {}
    return await Addresses(url).connect(command_timeout=limit_s, **other)


@contextmanager
def translated() -> Generator[None]:
    """Turn what asyncpg and the operating system raise into `onetake.core.errors`, without their text."""
    try:
        yield
    except pg.PostgresError as error:
        raise _of_database(error) from None
    except (pg.ClientConfigurationError, pg.UnsupportedClientFeatureError):
        raise bad_url() from None
    except pg.TargetServerAttributeNotMatched:
        instruments().database_failed("25")
        raise TryLater("ledger_unavailable", "None of its hosts takes writes now.") from None
    except ValueError:
        raise Failed("internal_error", "A value does not fit its column.") from None
    except (OSError, pg.InterfaceError, pg.InternalClientError):
        instruments().database_failed("08")
        raise TryLater("ledger_unavailable", "The connection failed.") from None


def _of_database(error: Any) -> OnetakeError:
    state = str(error.sqlstate or "")
    if state == "OT403":
        return Refused("policy_refused", violations=(CountLimit.model_validate_json(error.detail).violation(),))
    instruments().database_failed(state)
    if state == LOCKED:
        return Locked()
    reason = _LATER.get(state) or _LATER.get(state[:2])
    if reason is not None:
        return TryLater("ledger_unavailable", f"{reason} (SQLSTATE {state})")
    named = f", {error.constraint_name}" if error.constraint_name else ""
    return Failed("internal_error", f"The database refused a statement (SQLSTATE {state}{named}).")


async def _pool(at: CurrentAddresses, size: int, application_name: str, limits: str) -> _Pool:
    async def connect(*_: object, **options: Any) -> Any:
        connection = await at.connect(**options)
        try:
            await connection.execute(limits)
        except BaseException:
            connection.terminate()
            raise
        return connection

    return await _asyncpg.create_pool(
        connect=connect,
        min_size=0,  # or asyncpg would keep reconnecting in the background, and log what it meets
        max_size=size,
        command_timeout=STATEMENT_TIMEOUT_S + CLOSE_S,
        reset=_keep_session,
        server_settings={"application_name": application_name},
    )


def _limits(lock_s: float, *, read_only: bool) -> str:
    """What a session of ours goes by. Not sent with the start of the session, where poolers refuse it. A commit that a
    crash may undo would let a second POST be sent, so a server that answers before it has written is told not to."""
    statement_ms, lock_ms = round(STATEMENT_TIMEOUT_S * 1000), round(lock_s * 1000)
    return f"""
    set statement_timeout = {statement_ms};
    set idle_in_transaction_session_timeout = {statement_ms};
    set lock_timeout = {lock_ms};
    {"set default_transaction_read_only = on;" if read_only else ""}
    select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
    """


async def _keep_session(_: object) -> None:
    """Skip asyncpg's reset after each call, one round trip: nothing here changes a session."""
