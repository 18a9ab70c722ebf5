"""Code and tables of neighbouring versions: older tables are waited for, newer ones are used."""

import asyncio

import pytest
from alembic.script import ScriptDirectory
from structlog.testing import capture_logs

from onetake.ledger import Database, migrate, revisions
from onetake.ledger.migrate import upgrade
from onetake.ledger.revisions import newest, present, until_migrated

LIMIT_S = 240.0


def test_the_newest_revision_is_the_head_of_the_migrations() -> None:
    assert newest() == ScriptDirectory(str(migrate.MIGRATIONS)).get_current_head()


async def test_tables_of_this_revision_and_of_a_newer_one_are_used(database: Database) -> None:
    assert await until_migrated(database) == newest()
    await database.row("update onetake.alembic_version set version_num = '9999'")
    async with asyncio.timeout(LIMIT_S):
        assert await until_migrated(database) == "9999", "the next version has expanded them"


@pytest.mark.parametrize("there", ["0000", None])
async def test_older_tables_and_missing_ones_are_waited_for(
    database: Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    there: str | None,
) -> None:
    monkeypatch.setattr(revisions, "LOOK_EVERY_S", 0.05)
    await database.row("update onetake.alembic_version set version_num = '0000'")
    if there is None:
        await database.row("alter schema onetake rename to away")
    with capture_logs() as said:
        waiting = asyncio.create_task(until_migrated(database))
        async with asyncio.timeout(LIMIT_S):
            while (
                not (told := [each["detail"] for each in said if each["event"] == "schema_older"])
                and not waiting.done()
            ):
                await asyncio.sleep(0.02)
        await _is_waited_for(waiting, database, database_url, there)
    assert f"revision {there or 'none'}, and this needs {newest()}: run onetake migrate." in told[0]


async def _is_waited_for(waiting: asyncio.Task[str], database: Database, database_url: str, there: str | None) -> None:
    await asyncio.sleep(0.3)
    assert not waiting.done(), "no crash, and no work on tables that it does not know"
    assert await present(database) == there
    if there is None:
        await upgrade(database_url)
    else:
        await database.row("update onetake.alembic_version set version_num = $1", newest())
    async with asyncio.timeout(LIMIT_S):
        assert await waiting == newest()
