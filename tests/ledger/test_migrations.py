"""One command brings any database to the newest tables, however often and from however many places it is run."""

import asyncio
import secrets
import shutil
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from onetake.core.errors import Refused, TryLater
from onetake.ledger import Database, migrate
from onetake.ledger.database import Session, connect_once
from onetake.ledger.migrate import Outlook, outlook, upgrade
from tests.servers import LIMIT_S


async def test_a_second_upgrade_changes_nothing(database_url: str, database: Database) -> None:
    assert await upgrade(database_url) == await upgrade(database_url)
    await database.health()


async def test_a_database_of_a_newer_program_stays_as_it_is(database_url: str, database: Database) -> None:
    await database.row("update onetake.alembic_version set version_num = '9999'")
    assert await upgrade(database_url) == "9999"


async def test_a_dry_run_says_what_is_lacking_and_changes_nothing(
    database_url: str, database: Database, migrations: Path
) -> None:
    assert await outlook(database_url) == Outlook("0001", False, None, ())
    write(migrations, "0002", "0001", "alter table onetake.hold add column more int;")
    write(migrations, "0003", "0002", "create index concurrently more on onetake.hold (more);")
    found = await outlook(database_url)
    assert [(step.revision, step.concurrently) for step in found.steps] == [("0002", False), ("0003", True)]
    assert (await database.answer("select version_num from onetake.alembic_version"))["version_num"] == "0001"
    await database.row("update onetake.alembic_version set version_num = '9999'")
    assert await outlook(database_url) == Outlook("9999", True, None, ())


async def test_a_dry_run_makes_no_database(database_url: str) -> None:
    absent = f"{database_url}_absent"
    found = await outlook(absent)
    assert (found.revision, [step.revision for step in found.steps]) == (None, ["0001"])
    assert found.missing_database == absent.rpartition("/")[2]
    assert await outlook(absent) == found


async def test_the_wait_for_another_program_is_bounded(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limit bounds each statement too, so the clock is what is quick here."""
    assert database.size
    other = await connect_once(database_url)
    try:
        assert await other.fetchval("select pg_try_advisory_lock($1)", int.from_bytes(b"onetake"))
        with monkeypatch.context() as quick:
            quick.setattr(migrate, "time", SimpleNamespace(monotonic=count(0, LIMIT_S / 2).__next__))
            with pytest.raises(TryLater, match="Another program migrates it"):
                await upgrade(database_url, limit_s=LIMIT_S)
        assert (await outlook(database_url)).revision == "0001"
    finally:
        await other.close()


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the migrations, in which a test may write more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder)
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    return folder / "versions"


def write(versions: Path, revision: str, before: str, sql: str) -> None:
    baseline = (versions / "0001_baseline.py").read_text(encoding="utf-8")
    text = baseline.replace('revision = "0001"', f'revision = "{revision}"')
    text = text.replace("down_revision = None", f'down_revision = "{before}"')
    (versions / f"{revision}_more.py").write_text(text, encoding="utf-8")
    (versions / f"{revision}_more.sql").write_text(sql, encoding="utf-8")


async def test_migrations_commit_one_by_one_and_indexes_are_made_concurrently(
    database_url: str, database: Database, migrations: Path
) -> None:
    write(migrations, "0002", "0001", "alter table onetake.hold add column more int;")
    write(migrations, "0003", "0002", "create index concurrently more on onetake.hold (more);")
    write(migrations, "0004", "0003", "alter table onetake.no_such_table add column more int;")
    with pytest.raises(TryLater, match="42P01"):
        await upgrade(database_url)
    assert (await database.answer("select version_num from onetake.alembic_version"))["version_num"] == "0003"
    index = await database.answer("select indisvalid from pg_index where indexrelid = 'onetake.more'::regclass")
    assert index["indisvalid"]


async def test_a_migration_that_meets_a_lock_gives_way(
    database_url: str, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(migrations, "0002", "0001", "alter table onetake.hold add column more int;")
    reader = await connect_once(database_url)
    async with reader.transaction():
        await reader.fetchval("select count(*) from onetake.hold")
        with monkeypatch.context() as quick:
            quick.setattr(migrate, "_LOCK_S", 0.2)
            with pytest.raises(TryLater, match="A lock was not to be had in time"):
                await upgrade(database_url)
    await reader.close()
    assert await upgrade(database_url) == "0002"


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
    _, said = await asyncio.wait_for(process.communicate(), LIMIT_S)
    newest = max(path.name[:4] for path in (Path(migrate.__file__).parent / "migrations" / "versions").glob("0*.py"))
    assert (process.returncode, f"at revision {newest}".encode() in said) == (0, True)


async def test_the_command_names_a_missing_setting() -> None:
    command = [sys.executable, "-m", "onetake.ledger.migrate"]
    process = await asyncio.create_subprocess_exec(
        *command, env={"ONETAKE_DATABASE_URL": ""}, stderr=asyncio.subprocess.PIPE, cwd="/"
    )
    _, said = await asyncio.wait_for(process.communicate(), LIMIT_S)
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
