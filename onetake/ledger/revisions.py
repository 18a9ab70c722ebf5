"""Whether the database's tables are what this code needs: older ones are waited for, newer ones are used.

A migration expands first and contracts two versions later, so that the code of the version before runs on the tables
of this one. No code runs on tables older than its own.
"""

import asyncio
from functools import cache
from pathlib import Path
from typing import Final

from onetake.core import logs
from onetake.core.errors import TryLater
from onetake.ledger.database import Database

LOOK_EVERY_S: Final = 2.0
SAY_EVERY: Final = 15  # looks
_VERSIONS: Final = Path(__file__).with_name("migrations") / "versions"  # no worker loads Alembic for it

_log = logs.logger(__name__)


@cache
def newest() -> str:
    """The newest revision that this code knows; revisions are numbers of one length."""
    return max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*.py"))


async def present(database: Database) -> str | None:
    """The revision of the database; None when it has no tables of ours. Raises TryLater(`ledger_unavailable`)."""
    there = await database.answer("select to_regclass('onetake.alembic_version') is not null as there")
    if not there["there"]:
        return None
    row = await database.row("select version_num from onetake.alembic_version")
    return row["version_num"] if row else None


async def until_migrated(database: Database) -> str:
    """Return when the tables are of our revision or a newer one; says in the log what is waited for."""
    looks = 0
    while True:
        revision = await _looked_up(database)
        if revision is not None and revision >= newest():
            return revision
        if looks % SAY_EVERY == 0:
            detail = f"The tables are at revision {revision or 'none'}, and this needs {newest()}: run onetake migrate."
            _log.warning("schema_older", code="ledger_unavailable", detail=detail)
        looks += 1
        await asyncio.sleep(LOOK_EVERY_S)


async def _looked_up(database: Database) -> str | None:
    try:
        return await present(database)
    except TryLater:  # it restarts, or migrates this very moment
        return None
