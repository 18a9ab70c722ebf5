"""Bring a database to the newest tables: `python -m onetake.ledger.migrate`.

Alembic keeps the order and the version; it only renders SQL here, and asyncpg runs each migration in a transaction of
its own, which waits five seconds for a lock at most. One that makes or drops indexes concurrently runs outside of any.
So migrations are SQL and nothing else, and of two programs that start at once one waits for the other.
"""

import asyncio
import io
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from asyncpg import exceptions as pg

from onetake.core.errors import OnetakeError, Refused, TryLater
from onetake.core.settings import load_settings, require
from onetake.ledger.addresses import Addresses
from onetake.ledger.database import CLOSE_S, Session, connect_once, translated

_LOCK: Final = 0x6F6E6574616B65  # "onetake"
LIMIT_S: Final = 120.0
_LONGEST_S: Final = 86_400.0  # for an index of a large table
_TURN_S: Final = 0.1
_LOCK_S: Final = 5.0  # or all who come after a waiting migration would wait behind it
_CONCURRENTLY: Final = re.compile(
    r"^\s*(create (unique )?index|drop index|reindex \w+) concurrently\b", re.IGNORECASE | re.MULTILINE
)
MIGRATIONS: Final = Path(__file__).with_name("migrations")


async def upgrade(database_url: str, *, limit_s: float = LIMIT_S) -> str:
    """Create the database where it is missing and allowed, then apply every migration it lacks; returns its revision.

    A database of a newer program stays as it is. Repeatable, and safe when several programs do it at once. `limit_s`
    bounds the wait for another program, and each statement.
    Raises Refused(`settings_invalid`), TryLater(`ledger_unavailable`).
    """
    with translated():
        connection = await _connect_or_create(database_url, limit_s)
        try:
            return await _migrate(connection, limit_s)
        finally:
            await connection.close(timeout=CLOSE_S)


@dataclass(frozen=True)
class Step:
    """One migration that a database lacks. What is made concurrently commits statement by statement."""

    revision: str
    title: str
    concurrently: bool


@dataclass(frozen=True)
class Outlook:
    """What `upgrade` would do. `revision` is None where there are no tables yet; a database of a newer program is
    `ahead`, and stays as it is."""

    revision: str | None
    ahead: bool
    missing_database: str | None
    steps: tuple[Step, ...]


async def outlook(database_url: str, *, limit_s: float = LIMIT_S) -> Outlook:
    """What `upgrade` would do; changes nothing, and waits for no other program. Raises as `upgrade`."""
    with translated():
        try:
            connection = await connect_once(database_url, limit_s=limit_s)
        except pg.InvalidCatalogNameError:
            return Outlook(None, False, Addresses(database_url).database, _steps(None))
        try:
            present = await _revision(connection)
        finally:
            await connection.close(timeout=CLOSE_S)
    ahead = present is not None and present not in _known()
    return Outlook(present, ahead, None, () if ahead else _steps(present))


def _steps(present: str | None) -> tuple[Step, ...]:
    steps: list[Step] = []
    for revision in _lacking(present):
        concurrently = _CONCURRENTLY.search(_sql(present, revision)) is not None
        steps.append(Step(revision, _known()[revision], concurrently))
        present = revision
    return tuple(steps)


def _known() -> dict[str, str]:
    """The title of each revision, the first one first."""
    scripts = list(ScriptDirectory.from_config(_config()).walk_revisions())[::-1]
    return {script.revision: script.doc.partition(". ")[0].rstrip(".") for script in scripts}


def _lacking(present: str | None) -> list[str]:
    known = list(_known())
    return known[known.index(present) + 1 if present else 0 :]


async def _migrate(connection: Session, limit_s: float) -> str:
    await _take_turn(connection, limit_s)
    await connection.execute(f"set lock_timeout = '{_LOCK_S:g}s'")
    await connection.execute("create schema if not exists onetake")
    present = await _revision(connection)
    if present is not None and present not in _known():
        return present
    for revision in _lacking(present):
        await _apply(connection, _sql(present, revision))
        present = revision
    return list(_known())[-1]


async def _take_turn(connection: Session, limit_s: float) -> None:
    """Until the session ends nobody else migrates. Asked for again and again: a statement that waited would hold up an
    index that is made concurrently."""
    deadline = time.monotonic() + limit_s
    while not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        if time.monotonic() > deadline:
            raise TryLater("ledger_unavailable", "Another program migrates it.")
        await asyncio.sleep(_TURN_S)


async def _apply(connection: Session, sql: str) -> None:
    if not _CONCURRENTLY.search(sql):
        async with connection.transaction():
            await connection.execute(sql)
        return
    await connection.execute("set lock_timeout = 0")  # it waits for transactions, and holds up nobody
    for statement in filter(str.strip, sql.split(";")):
        await connection.execute(statement, timeout=_LONGEST_S)
    await connection.execute(f"set lock_timeout = '{_LOCK_S:g}s'")


async def _revision(connection: Session) -> str | None:
    if await connection.fetchval("select to_regclass('onetake.alembic_version') is null"):
        return None
    return await connection.fetchval("select version_num from onetake.alembic_version")


def _sql(present: str | None, revision: str) -> str:
    """Every statement between the revision present and the next."""
    output = io.StringIO()
    command.upgrade(_config(output), f"{present or 'base'}:{revision}", sql=True)
    return output.getvalue()


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output or sys.stdout)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


async def _connect_or_create(url: str, limit_s: float) -> Session:
    try:
        return await connect_once(url, limit_s=limit_s)
    except pg.InvalidCatalogNameError:
        await _create_database(url)
        return await connect_once(url, limit_s=limit_s)


async def _create_database(url: str) -> None:
    name = Addresses(url).database
    try:
        connection = await connect_once(url, database="postgres")
        try:
            await connection.execute('create database "{}"'.format(name.replace('"', '""')))
        finally:
            await connection.close(timeout=CLOSE_S)
    except (pg.DuplicateDatabaseError, pg.UniqueViolationError):
        return  # another program was faster
    except (pg.InsufficientPrivilegeError, pg.InvalidCatalogNameError):
        raise Refused(
            "settings_invalid",
            f"There is no database {name!r}, and the user of ONETAKE_DATABASE_URL may not create it.",
        ) from None


def main() -> int:
    """Migrate the database of ONETAKE_DATABASE_URL; returns the exit code."""
    try:
        settings = load_settings()
        require(settings, "database_url")
        revision = asyncio.run(upgrade(settings.database_url.get_secret_value()))
    except OnetakeError as error:
        sys.stderr.write(f"{error.code}: {error}\n{error.hint}\n")
        return error.entry.exit_code
    sys.stderr.write(f"The database is at revision {revision}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
