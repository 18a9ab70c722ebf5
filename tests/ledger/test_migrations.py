"""One command brings any database to the newest tables, however often and from however many places it is run."""

import asyncio
import secrets
import sys
from pathlib import Path

import pytest

from onetake.core.errors import Refused, TryLater
from onetake.ledger import Database, migrate
from onetake.ledger.database import Session
from onetake.ledger.migrate import upgrade


async def test_a_second_upgrade_changes_nothing(database_url: str, database: Database) -> None:
    assert await upgrade(database_url) == await upgrade(database_url)
    await database.health()


async def test_a_database_of_a_newer_program_stays_as_it_is(database_url: str, database: Database) -> None:
    await database.row("update onetake.alembic_version set version_num = '9999'")
    assert await upgrade(database_url) == "9999"


async def test_four_upgrades_at_once_make_the_missing_database_and_its_tables_once(
    server: Session, server_url: str
) -> None:
    name = f"fresh_{secrets.token_hex(4)}"
    url = server_url.rsplit("/", 1)[0] + f"/{name}"
    revisions = await asyncio.gather(*(upgrade(url) for _ in range(4)))
    assert len(set(revisions)) == 1
    opened = await Database.connect(url)
    await opened.health()
    await opened.close()
    await server.execute(f"drop database {name} with (force)")


async def test_the_command_says_which_revision_the_database_has(database_url: str) -> None:
    command = [sys.executable, "-m", "onetake.ledger.migrate"]
    process = await asyncio.create_subprocess_exec(
        *command, env={"ONETAKE_DATABASE_URL": database_url}, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 120)
    newest = max(path.name[:4] for path in (Path(migrate.__file__).parent / "migrations" / "versions").glob("0*.py"))
    assert (process.returncode, f"at revision {newest}".encode() in said) == (0, True)


async def test_the_command_names_a_missing_setting() -> None:
    command = [sys.executable, "-m", "onetake.ledger.migrate"]
    process = await asyncio.create_subprocess_exec(
        *command, env={"ONETAKE_DATABASE_URL": ""}, stderr=asyncio.subprocess.PIPE, cwd="/"
    )
    _, said = await asyncio.wait_for(process.communicate(), 120)
    assert (process.returncode, b"ONETAKE_DATABASE_URL" in said) == (2, True)


async def test_a_database_that_may_not_be_created_is_refused_by_name(server: Session, server_url: str) -> None:
    role = f"poor_{secrets.token_hex(4)}"
    await server.execute(f"create role {role} login password 'pw'")
    host = server_url.rsplit("@", 1)[1].rsplit("/", 1)[0]
    with pytest.raises(Refused, match="no database 'absent'"):
        await upgrade(f"postgresql://{role}:pw@{host}/absent")
    await server.execute(f"drop role {role}")


async def test_a_database_without_tables_is_unavailable_and_says_what_to_run(server_url: str) -> None:
    opened = await Database.connect(server_url)
    with pytest.raises(TryLater, match=r"onetake\.ledger\.migrate"):
        await opened.health()
    await opened.close()
