"""Bring a database to the newest tables: `python -m onetake.ledger.migrate`.

Alembic keeps the order and the version; it only renders SQL here, and asyncpg runs it in one transaction. So migrations
are SQL and nothing else, and of two programs that start at once one waits for the other.
"""

import asyncio
import io
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from asyncpg import exceptions as pg

from onetake.core.errors import OnetakeError, Refused
from onetake.core.settings import load_settings, require
from onetake.ledger.database import CONNECT_TIMEOUT_S, Session, connect_once, plain_url, translated

_LOCK: Final = 0x6F6E6574616B65  # "onetake"
_LIMIT_S: Final = 120.0


async def upgrade(database_url: str) -> str:
    """Create the database where it is missing and allowed, then apply every migration it lacks; returns its revision.

    A database of a newer program stays as it is. Repeatable, and safe when several programs do it at once.
    Raises Refused(`settings_invalid`), TryLater(`ledger_unavailable`).
    """
    url = plain_url(database_url)
    with translated():
        connection = await _connect_or_create(url)
        try:
            return await _migrate(connection)
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)


async def _migrate(connection: Session) -> str:
    known = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute("create schema if not exists onetake")
        present = await _revision(connection)
        if present is None or present in known[1:]:
            await connection.execute(_sql(present))
            present = known[0]
    return present


async def _revision(connection: Session) -> str | None:
    if await connection.fetchval("select to_regclass('onetake.alembic_version') is null"):
        return None
    return await connection.fetchval("select version_num from onetake.alembic_version")


def _sql(present: str | None) -> str:
    """Every statement between the revision present and the newest."""
    output = io.StringIO()
    command.upgrade(_config(output), f"{present or 'base'}:head", sql=True)
    return output.getvalue()


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output or sys.stdout)
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config


async def _connect_or_create(url: str) -> Session:
    try:
        return await connect_once(url, limit_s=_LIMIT_S)
    except pg.InvalidCatalogNameError:
        await _create_database(url)
        return await connect_once(url, limit_s=_LIMIT_S)


async def _create_database(url: str) -> None:
    name = urlsplit(url).path.lstrip("/")
    try:
        connection = await connect_once(url, database="postgres")
        try:
            await connection.execute('create database "{}"'.format(name.replace('"', '""')))
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)
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
