"""How the database stands: its tables, its connections, what it promises, the passes, the money, the prices, and the
backups that were noted in it."""

# ruff: noqa: PLC0415 - each examination imports what it examines

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from onetake.cli.doctor.engine import BY_HAND
from onetake.cli.doctor.findings import Finding, absent, broken, fine, warning
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import TryLater

if TYPE_CHECKING:
    from onetake.ledger.database import Database, Session
    from onetake.ledger.passes import LastPass

MISSED: Final = 5  # passes in a row that may fail before the reconciler is called broken
LEAST_AGE_S: Final = 60.0
MOST_BACKUP_AGE: Final = timedelta(hours=26)  # a daily one that is two hours late
SPARE: Final = 5  # connections for people and monitoring
SESSION_LIMIT_S: Final = 5.0


async def tables(setup: Setup) -> Finding:
    """The server, and whether its tables are this version's."""
    from alembic.script import ScriptDirectory

    from onetake.ledger import migrate

    database = await setup.database()
    server = await database.row("show server_version")
    is_there = await database.answer("select to_regclass('onetake.alembic_version') is not null as is_so")
    present = await database.row("select version_num from onetake.alembic_version") if is_there["is_so"] else None
    revision = present["version_num"] if present else "none"
    scripts = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations")))
    found = f"PostgreSQL {server['server_version'] if server else '?'}, tables at revision {revision}"
    return _of_revision(
        found, revision, str(scripts.get_current_head()), {each.revision for each in scripts.walk_revisions()}
    )


def _of_revision(found: str, revision: str, newest: str, known: set[str]) -> Finding:
    if revision == newest:
        return fine(found)
    told = f"{found}; this version needs {newest}"
    if revision == "none" or revision in known:
        return broken("database_older", told, "Run `onetake migrate`.", "ledger_unavailable")
    fix = (
        "Nothing while a deploy is under way. Otherwise run the version that migrated it: tables are never taken back."
    )
    return warning("database_newer", f"{told} and does not know that one", fix)


async def connections(setup: Setup) -> Finding | list[Finding]:
    """Whether all processes find a connection, and the server keeps their sessions."""
    from onetake.ledger.database import RESERVED

    database = await setup.database()
    row = await database.answer(_CONNECTIONS)
    each = 2 * setup.settings.database_pool - (setup.settings.database_pool > 1) + RESERVED
    processes = max(await _processes(setup, database), 1)
    findings = await _of_pooler(setup)
    found = f"{processes} processes may take {each} connections each, of {row['usable']} that the server gives"
    if processes * each + SPARE > row["usable"]:
        fix = "Raise max_connections of the server, lower ONETAKE_DATABASE_POOL, or run fewer processes."
        findings.append(warning("connections_too_many", found, fix))
    return findings or fine(found)


_CONNECTIONS: Final = """
select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int as usable,
       (select count(distinct (client_addr, client_hostname)) from pg_stat_activity
        where application_name like 'onetake-gateway%') as gateways
"""


async def _processes(setup: Setup, database: "Database") -> int:
    """Workers by what Temporal sees poll, and gateways by the machines that are connected."""
    from temporalio.service import RPCError

    from onetake.cli.doctor.engine import pollers
    from onetake.core.errors import OnetakeError

    gateways = (await database.answer(_CONNECTIONS))["gateways"]
    try:
        polled = await pollers(setup)
    except (OnetakeError, RPCError):
        return gateways
    return gateways + len({poller.identity for told in polled.values() for poller in told})


async def _of_pooler(setup: Setup) -> list[Finding]:
    """A session of ours that changes its server process between two statements goes through a transaction pooler: our
    time limits and `synchronous_commit` do not reach what runs after them."""
    url = setup.settings.database_url.get_secret_value()
    async with AsyncExitStack() as cleanup:
        one, other = [await _session(url, cleanup) for _ in range(2)]
        if await _is_kept(one, other):
            return []
    found = "something between us and the server gives each transaction another session"
    fix = "Point ONETAKE_DATABASE_URL at the server itself, or at a pooler in session mode (pool_mode = session)."
    return [broken("transaction_pooler", found, fix, "settings_invalid")]


async def _session(url: str, cleanup: AsyncExitStack) -> "Session":
    from onetake.ledger.database import connect_once, translated

    with translated():
        session = await connect_once(url, limit_s=SESSION_LIMIT_S)
    cleanup.push_async_callback(session.close)
    return session


async def _is_kept(one: "Session", other: "Session") -> bool:
    """Whether a session has the same process before and while another one has a transaction open."""
    import asyncpg

    pid = "select pg_backend_pid()"
    try:
        before = await one.fetchval(pid)
        async with other.transaction():
            await other.fetchval(pid)
            return before == await one.fetchval(pid)
    except (TimeoutError, asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
        return False  # there is one process for both, or it does not know what was prepared


async def durability(setup: Setup) -> Finding:
    """Look whether a failover or a crash can undo what the database has answered."""
    from onetake.ledger.durability import FIX, durability_of

    promised = await durability_of(await setup.database())
    if promised.doubts:
        return warning("durability_doubtful", f"{'; '.join(promised.doubts)} ({promised.found})", FIX)
    return fine(promised.found)


async def passes(setup: Setup) -> Finding:
    """How long the last good pass is ago, and what the last one said that was not."""
    from onetake.engine.schedule import pass_every_s
    from onetake.ledger.passes import Passes

    last = await Passes(await setup.database()).last()
    if last is None:
        return absent("no_pass_yet", "none yet", "The first is made within a minute after a worker has started.")
    is_wanted = setup.settings.reconcile_every_s > 0
    most_age_s = max(MISSED * pass_every_s(setup.settings), LEAST_AGE_S) if is_wanted else None
    return _of_last(last, most_age_s)


def _of_last(last: "LastPass", most_age_s: float | None) -> Finding:
    when = "no good one yet" if last.age_s is None else f"the last good one was {last.age_s:.0f} s ago"
    said = f"{when}; the last one failed: {last.error}" if last.error else when
    fix = f"Look at the log of `onetake worker`, and at the run's details in the Temporal UI. {BY_HAND}"
    if most_age_s is not None and (last.age_s is None or last.age_s > most_age_s):
        return broken("passes_old", said, fix, "engine_unavailable")
    if last.error:
        return warning("pass_failed", said, fix)
    return fine(f"{when}; it looked at {last.looked_at}, with {last.found} findings")


async def money(setup: Setup) -> Finding:
    """Compare the rollup of spend with the journal, since yesterday only: a large ledger takes too long."""
    from onetake.ledger.database import STATEMENT_TIMEOUT_S
    from onetake.ledger.invariants import violations_of_spend

    since = datetime.now(UTC).date() - timedelta(days=1)
    try:
        differing = await violations_of_spend(await setup.database(), since=since)
    except TryLater as error:
        if "57014" not in error.detail:
            raise
        found = f"too much was booked since {since} to add it up in {STATEMENT_TIMEOUT_S:g} s"
        return absent("money_not_added_up", found, "Nothing to do.")
    if differing:
        fix = "Somebody or something wrote to the tables by hand: compare the journal with `onetake.spend`."
        return broken("spend_differs", f"{len(differing)} since {since}; {differing[0]}", fix, "internal_error")
    return fine(f"spend adds up to the journal since {since} (UTC)")


async def prices(setup: Setup) -> Finding:
    """Look for routes whose vendors report other costs than were expected, in this week and the last one."""
    from onetake.ledger.drift import Drifts

    tolerance = setup.settings.drift_tolerance_percent
    found = await Drifts(await setup.database()).weeks(2)
    beyond = [each for each in found if each.is_beyond(tolerance)]
    if beyond:
        fix = "Compare `onetake drift` with the vendor's price list; set it in the file ONETAKE_PRICES names."
        told = f"{len(beyond)} beyond {tolerance.normalize():f} %; {beyond[0]}"
        return broken("price_drift", told, fix, "settings_invalid")
    return fine(f"what vendors report is within {tolerance.normalize():f} % of what was expected")


async def backups(setup: Setup) -> Finding:
    """When the last backup ended well, where our scripts make them, and when the log was last seen in the archive."""
    database = await setup.database()
    noted = await database.rows("select kind, clock_timestamp() - ended_at as age from onetake.backup")
    rows = [row for row in noted if row["kind"] != "archive"]
    if not rows:
        found = "none was noted: whoever else backs this database up does not say so here"
        return absent("backup_not_noted", found, "deployment/backup/base.sh makes one; see docs/restoring.md.")
    youngest = min(rows, key=lambda row: row["age"])
    found = f"the last one ({youngest['kind']}) ended {_hours(youngest['age'])} ago"
    if youngest["age"] > MOST_BACKUP_AGE:
        fix = "Run deployment/backup/base.sh, and see why its schedule did not."
        return warning("backup_old", found, fix)
    for archive in (row for row in noted if row["kind"] == "archive" and row["age"] > MOST_BACKUP_AGE):
        gap = (
            f"{found}, and no log has been seen in the archive for {_hours(archive['age'])}: no second can be restored"
        )
        return warning("archive_old", gap, "After restore.sh: alter system reset archive_mode, restart, base.sh.")
    return fine(found)


def _hours(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
