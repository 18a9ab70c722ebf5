"""One small pool of connections, and the only place where the database's errors become ours.

A database error may quote a row (and so a prompt) or an address (and so a password): none of its text goes on, only its
SQLSTATE and the name of our constraint. Nothing is retried here: an unknown outcome is the caller's to repeat.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

import asyncpg
from asyncpg import exceptions as pg

from onetake.core.errors import Failed, OnetakeError, Refused, TryLater

CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 10.0

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
    "55P03": "A lock was not to be had in time.",
    "57": "It is stopping, starting, or stopped the statement.",
    "58": "Its disk or operating system failed.",
}


class Session(Protocol):
    """One connection of our own, for migrations and tests."""

    async def execute(self, query: str, *arguments: object) -> str: ...
    async def fetchval(self, query: str, *arguments: object) -> Any: ...
    async def fetch(self, query: str, *arguments: object) -> Sequence[Row]: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...
    async def close(self, *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109 - asyncpg's name for it


class _Pool(Protocol):
    async def fetchrow(self, query: str, *arguments: object) -> Row | None: ...
    async def fetch(self, query: str, *arguments: object) -> list[Row]: ...
    async def close(self) -> None: ...


class Database:
    """A pool on one PostgreSQL database. Build it with `connect`; share it between all stores of one process.

    Keep it small: on a hot budget more connections are slower, because each takes the row's lock in turn.
    """

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool

    @classmethod
    async def connect(cls, url: str, *, pool_size: int = 4, application_name: str = "onetake") -> Self:
        """Open the pool. Raises Refused(`settings_invalid`) for a URL that cannot be read, TryLater
        (`ledger_unavailable`) when nothing answers there. A pool outlives later outages by itself."""
        timeout_ms = str(round(STATEMENT_TIMEOUT_S * 1000))
        with translated():
            pool = await _asyncpg.create_pool(
                dsn=plain_url(url),
                min_size=0,  # or asyncpg would keep reconnecting in the background, and log what it meets
                max_size=pool_size,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S + CONNECT_TIMEOUT_S,
                reset=_keep_session,
                server_settings={
                    "application_name": application_name,
                    "statement_timeout": timeout_ms,
                    "idle_in_transaction_session_timeout": timeout_ms,
                },
            )
        database = cls(pool)
        try:
            await database.row("select 1")
        except OnetakeError:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Wait for the calls under way, then close all connections."""
        await self._pool.close()

    async def health(self) -> None:
        """Return when our tables can be read. Raises TryLater(`ledger_unavailable`)."""
        await self.row("select version_num from onetake.alembic_version")

    async def row(self, sql: str, *arguments: object) -> Row | None:
        """Run one statement, which commits on its own, and return its first row."""
        with translated():
            return await self._pool.fetchrow(sql, *arguments)

    async def rows(self, sql: str, *arguments: object) -> list[Row]:
        """Run one statement, which commits on its own, and return all its rows."""
        with translated():
            return await self._pool.fetch(sql, *arguments)

    async def answer(self, sql: str, *arguments: object) -> Row:
        """Run a function that always gives one row."""
        row = await self.row(sql, *arguments)
        if row is None:
            raise Failed("internal_error", "A database function gave no row.")
        return row


async def connect_once(url: str, *, limit_s: float = STATEMENT_TIMEOUT_S, database: str | None = None) -> Session:
    """Open one connection, to the URL's database or another one. Raises what asyncpg raises: use it in `translated`."""
    other = {"database": database} if database else {}
    return await _asyncpg.connect(dsn=plain_url(url), timeout=CONNECT_TIMEOUT_S, command_timeout=limit_s, **other)


@contextmanager
def translated() -> Generator[None]:
    """Turn what asyncpg and the operating system raise into `onetake.core.errors`, without their text."""
    try:
        yield
    except pg.PostgresError as error:
        raise _of_database(error) from None
    except (pg.ClientConfigurationError, pg.UnsupportedClientFeatureError):
        raise _bad_url() from None
    except ValueError:
        raise Failed("internal_error", "A value does not fit its column.") from None
    except (OSError, pg.InterfaceError, pg.InternalClientError):
        raise TryLater("ledger_unavailable", "The connection failed.") from None


def plain_url(url: str) -> str:
    """The URL as asyncpg reads it; SQLAlchemy's `postgresql+asyncpg://` is understood too. Raises Refused."""
    plain = url.replace("postgresql+asyncpg://", "postgresql://", 1)
    try:
        usable = urlsplit(plain).scheme in ("postgresql", "postgres") and urlsplit(plain).port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _bad_url()
    return plain


def _bad_url() -> Refused:
    return Refused("settings_invalid", "ONETAKE_DATABASE_URL is not the address of a PostgreSQL database.")


def _of_database(error: Any) -> OnetakeError:
    state = str(error.sqlstate or "")
    reason = _LATER.get(state) or _LATER.get(state[:2])
    if reason is not None:
        return TryLater("ledger_unavailable", f"{reason} (SQLSTATE {state})")
    named = f", {error.constraint_name}" if error.constraint_name else ""
    return Failed("internal_error", f"The database refused a statement (SQLSTATE {state}{named}).")


async def _keep_session(_: object) -> None:
    """Skip asyncpg's reset after each call, one round trip: nothing here changes a session."""
