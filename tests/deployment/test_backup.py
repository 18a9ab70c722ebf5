"""The scripts of `deployment/backup` on a real server: a backup, a second to go back to, and what they refuse."""

import asyncio
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from onetake.ledger.database import connect_once
from onetake.ledger.migrate import upgrade
from tests.deployment.tools import program
from tests.docs.markdown import blocks, page
from tests.system.backed import SCRIPTS, Backed, well
from tests.system.standby import LIMIT_S

PAGE = "docs/deploying.md"
NAMES = ("archive.sh", "base.sh", "incremental.sh", "restore.sh")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def backed() -> AsyncGenerator[Backed]:
    home = Path(tempfile.mkdtemp(prefix="onetake-backup-"))
    server = Backed(home, composed())
    await server.start()
    await upgrade(server.url)
    yield server
    server.kill()
    shutil.rmtree(home, ignore_errors=True)


def composed() -> str:
    """The settings that compose gives its server, with folders of ours."""
    given = re.findall(r"^      - -c(\w+)=(.*)$", page("deployment/compose/compose.yaml"), re.MULTILINE)
    assert {"archive_mode", "archive_command", "summarize_wal"} <= {name for name, _ in given}
    text = "".join(f"{name} = '{value}'\n" for name, value in given)
    return text.replace("/opt/onetake/backup", "{scripts}").replace("/backups/wal", "{wal}")


def line(backed: Backed, script: str) -> list[str]:
    """How the page runs a script in compose's container, with folders of ours: its name and words."""
    (found,) = re.findall(rf"^docker compose exec .*/opt/onetake/backup/({script} .*)$", page(PAGE), re.MULTILINE)
    ours = {"/backups/base": str(backed.backups), "/backups/wal": str(backed.wal)}
    return [ours.get(word, word) for word in shlex.split(found)]


async def asked(backed: Backed, sql: str) -> object:
    session = await connect_once(backed.url, limit_s=LIMIT_S)
    try:
        return await session.fetchval(sql)
    finally:
        await session.close()


async def marked(backed: Backed, text: str) -> None:
    await asked(backed, f"insert into onetake.tenant_zone (tenant, time_zone) values ('{text}', 'UTC')")


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    done = subprocess.run(
        [program("shellcheck"), "-x", *NAMES, "shared.sh"], cwd=SCRIPTS, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


@pytest.mark.parametrize("name", NAMES)
def test_each_script_explains_itself_and_refuses_what_it_does_not_know(name: str) -> None:
    shown = subprocess.run([SCRIPTS / name, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"{name} --")
    wrong = subprocess.run([SCRIPTS / name, "--nonsense"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert f"{name} --help shows how it is used" in wrong.stderr


async def test_a_user_with_the_rights_that_the_page_gives_backs_up_and_reads_nothing(backed: Backed) -> None:
    (lines,) = [body for body in blocks(page("docs/restoring.md"), "sql") if "create role backup" in body]
    role, *rights = lines.strip().rstrip(";").split(";")
    await asked(backed, role)
    own = {"PGUSER": "backup", "PGPASSWORD": "of your choice"}
    without = await backed.script("base.sh", "--to", str(backed.backups), **own)
    assert (without.returncode, "has the rights that the user needs" in without.stderr) == (1, True), without.stderr
    for right in rights:
        await asked(backed, right)
    done = await backed.script("incremental.sh", "--to", str(backed.backups), **own)
    assert done.returncode == 0, done.stderr
    kinds = await asked(backed, "select string_agg(kind, ' ' order by kind) from onetake.backup")
    assert kinds == "archive incremental"
    readable = "select string_agg(relname, ' ') from pg_class where relnamespace = 'onetake'::regnamespace"
    assert await asked(backed, f"{readable} and has_table_privilege('backup', oid, 'select')") is None


async def test_a_database_that_is_not_the_ledgers_is_backed_up_without_a_note(backed: Backed) -> None:
    await asked(backed, "create role other superuser login password 'other'")
    await asked(backed, "create database other")
    own = {"PGUSER": "other", "PGPASSWORD": "other", "PGDATABASE": None}
    done = await backed.script("base.sh", "--to", str(backed.backups), **own)
    assert done.returncode == 0, done.stderr
    assert "the database is no database of Onetake" in done.stderr


async def test_a_server_is_put_back_to_a_second_between_two_backups_and_later(backed: Backed) -> None:
    await marked(backed, "before")
    well(await backed.script(*line(backed, "base.sh")))
    await marked(backed, "after-base")
    well(await backed.script(*line(backed, "incremental.sh")))
    await marked(backed, "wanted")
    moment = await backed.now()
    await asyncio.sleep(0.01)
    await marked(backed, "unwanted")
    await backed.archived()
    epochs = [await asked(backed, "select onetake.epoch()")]
    for zone in ("+00", "Z"):  # two lives from one archive are never taken for one
        assert line(backed, "restore.sh")[1:6] == backed.words_of(moment, backed.wal)[:5]
        said = await backed.restore(moment, zone)
        there = await asked(backed, "select string_agg(tenant, ' ' order by tenant) from onetake.tenant_zone")
        assert there == "after-base before wanted"
        assert "and incr-" in said
        assert "restored up to" in said
        assert "generations, the last accepted at" in said
        assert "onetake reconcile --after-failover" in said
        assert await asked(backed, "show archive_mode") == "off"
        epochs.append(await asked(backed, "select onetake.epoch()"))
    assert len(set(epochs)) == 3
    kinds = await asked(backed, "select string_agg(kind, ' ' order by kind) from onetake.backup")
    assert kinds == "archive base incremental"


async def test_what_cannot_be_restored_is_refused_with_the_reason(backed: Backed, tmp_path: Path) -> None:
    now = await backed.now()
    early = await backed.script("restore.sh", *backed.words_of(now - timedelta(days=9), tmp_path / "new"))
    assert early.returncode == 1
    assert "ended before" in early.stderr
    full = await backed.script("restore.sh", *backed.words_of(now, SCRIPTS))
    assert "is not empty" in full.stderr
    zone = [*backed.words_of(now, tmp_path / "new")[:-1], "2026-11-29 10:00:00"]
    assert "names no time zone" in (await backed.script("restore.sh", *zone)).stderr
    home = Path(tempfile.mkdtemp(prefix="onetake-late-"))
    home.chmod(0o777)
    late = await backed.script("restore.sh", *backed.words_of(now + timedelta(hours=1), home / "new"))
    shutil.rmtree(home, ignore_errors=True)
    assert late.returncode == 1
    assert "choose an earlier moment" in late.stderr


async def test_an_archive_never_overwrites_and_takes_the_same_segment_twice(backed: Backed) -> None:
    home = Path(tempfile.mkdtemp(prefix="onetake-segment-"))
    home.chmod(0o777)
    segment = home / "segment"
    segment.write_bytes(b"one")
    words = ["--to", str(backed.wal), str(segment), "0000000900000000000000AA"]
    assert (await backed.script("archive.sh", *words)).returncode == 0
    assert (await backed.script("archive.sh", *words)).returncode == 0
    segment.write_bytes(b"two")
    refused = await backed.script("archive.sh", *words)
    shutil.rmtree(home, ignore_errors=True)
    assert refused.returncode == 1
    assert "with other bytes" in refused.stderr
    assert (backed.wal / words[-1]).read_bytes() == b"one"
    assert not list(backed.wal.glob(".*"))


async def test_a_server_that_archives_nothing_is_backed_up_on_demand_only(backed: Backed) -> None:
    assert await asked(backed, "show archive_mode") == "off"  # it was restored
    notes = "select string_agg(kind || label, ' ' order by kind) from onetake.backup"
    before, noted = sorted(backed.backups.iterdir()), await asked(backed, notes)
    for name in ("base.sh", "incremental.sh"):
        refused = await backed.script(name, "--to", str(backed.backups))
        assert refused.returncode == 1
        assert "archive_mode is off" in refused.stderr
        assert "--without-archive" in refused.stderr
    assert sorted(backed.backups.iterdir()) == before
    assert await asked(backed, notes) == noted


def _put(backed: Backed, folder: Path, name: str, parent: str = "") -> None:
    """What a script of ours would have left."""
    (folder / name).mkdir()
    (folder / f"{name}.ended").write_text("20200101T000000.0\n")
    if parent:
        (folder / f"{name}.parent").write_text(f"{parent}\n")
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, backed.cluster.account.uid or os.getuid())


async def test_what_a_later_incremental_backup_rests_on_stays(backed: Backed) -> None:
    """It was begun while the whole one was being made, so it rests on an older one."""
    folder = Path(tempfile.mkdtemp(prefix="onetake-chain-"))
    folder.chmod(0o755)
    _put(backed, folder, "base-20190101T000000Z")
    _put(backed, folder, "incr-20190101T010000Z", "base-20190101T000000Z")
    _put(backed, folder, "base-20200101T000000Z")
    _put(backed, folder, "incr-20200101T010000Z", "base-20200101T000000Z")
    _put(backed, folder, "incr-20990101T000000Z", "incr-20200101T010000Z")
    done = await backed.script("base.sh", "--to", str(folder), "--keep", "1", "--without-archive")
    assert done.returncode == 0, done.stderr
    chain = {"base-20200101T000000Z", "incr-20200101T010000Z", "incr-20990101T000000Z"}
    left = {path.name for path in folder.iterdir() if path.is_dir()}
    assert chain < left
    assert len(left) == len(chain) + 1  # and the new one
    assert (folder / "incr-20200101T010000Z.parent").exists()
    shutil.rmtree(folder)


async def test_two_scripts_are_never_at_one_folder_s_chains_at_once(backed: Backed) -> None:
    folder = Path(tempfile.mkdtemp(prefix="onetake-lock-"))
    _put(backed, folder, "base-20200101T000000Z")
    with (folder / ".lock").open("w") as lock:
        (folder / ".lock").chmod(0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, words in (("incremental.sh", ()), ("base.sh", ("--keep", "1"))):
            said = await backed.script(name, "--to", str(folder), "--without-archive", *words, LOCK_WAIT_S="1")
            assert said.returncode == 1
            assert "another backup has held" in said.stderr
    assert (folder / "base-20200101T000000Z").exists()
    shutil.rmtree(folder)


async def test_old_backups_go_with_what_rests_on_them_and_a_hook_gets_each_new_one(backed: Backed) -> None:
    hook = backed.scripts / "hook.sh"
    hook.write_text('#!/bin/sh\nbasename "$1" > "$(dirname "$1")/handed"\n')
    hook.chmod(0o755)
    await backed.base("--keep", "1", "--archive", str(backed.wal), "--then", str(hook), "--without-archive")
    left = sorted(path.name for path in backed.backups.iterdir() if path.name != ".lock")
    (base,) = [name for name in left if name.startswith("base-") and not name.endswith(".ended")]
    assert left == [base, f"{base}.ended", "handed"]
    assert (backed.backups / "handed").read_text().strip() == base
    refused = await backed.script("base.sh", "--to", str(backed.backups), PGPASSWORD="wrong")
    assert refused.returncode == 1
    assert "does not let us in" in refused.stderr
