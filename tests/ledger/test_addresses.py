"""An address that was copied from somewhere works, or what is wrong with it is named; a failover is followed."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest

from onetake.core.contracts import ReserveInput
from onetake.core.errors import OnetakeError, Refused, TryLater
from onetake.ledger import Database, PostgresLedger, PostgresSubmissions
from onetake.ledger import database as module
from onetake.ledger.addresses import Addresses
from onetake.ledger.database import connect_once
from tests.connections import LOOPBACK, first_of, listening
from tests.ledger.databases import LIMITS
from tests.servers import LIMIT_S
from tests.system.relay import Relay, relayed

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]

UNSUPPORTED = "unsupported startup parameter"


def with_hosts(url: str, *hosts: str) -> str:
    user, _, rest = url.rpartition("@")
    return f"{user}@{','.join(hosts)}/{rest.partition('/')[2]}"


def host_of(url: str) -> str:
    return url.rpartition("@")[2].partition("/")[0]


class Pooler(Relay):
    """Between us and the server as poolers are: refuses sessions that begin with a parameter it does not know."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (code := (head := await self._packet(reader))[4:8]) != struct.pack("!I", 196608):
            assert code
            writer.write(b"N")  # no TLS
        names = head[8:].split(b"\0")[:-2:2]
        if foreign := set(names) - {b"user", b"database", b"application_name", b"client_encoding"}:
            text = f"{UNSUPPORTED}: {foreign.pop().decode()}".encode()
            fields = b"SFATAL\0VFATAL\0C08P01\0M" + text + b"\0\0"
            writer.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
            return
        joined = asyncio.StreamReader()
        joined.feed_data(head)
        await first_of(_feed(reader, joined), super()._serve(joined, writer))

    async def _packet(self, reader: asyncio.StreamReader) -> bytes:
        size = await reader.readexactly(4)
        return size + await reader.readexactly(struct.unpack("!I", size)[0] - 4)


async def _feed(reader: asyncio.StreamReader, joined: asyncio.StreamReader) -> None:
    while data := await reader.read(65536):
        joined.feed_data(data)
    joined.feed_eof()


@asynccontextmanager
async def pooled(url: str) -> AsyncGenerator[str]:
    """The database's address through a pooler."""
    host, _, port = host_of(url).partition(":")
    pooler = Pooler(host, int(port))
    through = f"127.0.0.1:{await pooler.start()}"
    try:
        yield with_hosts(url, through)
    finally:
        await pooler.stop()


@asynccontextmanager
async def silent() -> AsyncGenerator[str]:
    """The address of a server that takes connections and never says anything."""

    async def keep(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(keep) as port:
        yield f"{LOOPBACK}:{port}"


@pytest.mark.parametrize(
    "asked",
    [
        "channel_binding=prefer",
        "connect_timeout=5",
        "connect_timeout=5&channel_binding=disable&keepalives=1&application_name=psql",
        "sslmode=prefer&target_session_attrs=read-write",
        "gssencmode=disable&sslmode=disable",
        "target_session_attrs=primary",
        "options=-c%20work_mem%3D5MB",
        "search_path=public",
    ],
)
async def test_what_other_programs_write_into_an_address_works(database_url: str, asked: str) -> None:
    opened = await Database.connect(f"{database_url}?{asked}")
    await opened.health()
    await opened.close()


async def test_an_address_that_is_replaced_counts_for_new_connections(database_url: str) -> None:
    """As a password is: what is open stays, and what is made afterwards uses the new one."""
    user, _, rest = database_url.rpartition("@")
    named = [database_url]
    opened = await Database.connect(lambda: named[0], pool_size=2)
    try:
        scheme = user.partition("://")[0]
        named[0] = f"{scheme}://nobody-of-this-name:canary-password@{rest}"
        await opened.health()
        with pytest.raises(TryLater) as refused:
            await asyncio.gather(*(opened.row("select pg_sleep(0.5)") for _ in range(2)))
        assert "canary" not in str(refused.value)
        named[0] = database_url
        await asyncio.gather(*(opened.row("select pg_sleep(0.1)") for _ in range(2)))
    finally:
        await opened.close()


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("channel_binding=require", "channel_binding (it may be disable, prefer)"),
        ("pgbouncer=true", "pgbouncer (Onetake keeps its sessions"),
        ("schema=public&connection_limit=1", "connection_limit (it belongs to another program; remove it); schema"),
        ("sslmode=no-verify", "sslmode (it may be disable, allow,"),
        ("sslrootcert=/nowhere/ca.pem", "sslrootcert (there is no such file)"),
        ("target_session_attrs=standby", "target_session_attrs (it may be any, read-write, primary)"),
        ("connect_timeout=soon", "connect_timeout (it is in whole seconds)"),
        ("frobnicate=1", "The server knows no frobnicate; remove it"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_its_name(database_url: str, asked: str, named: str) -> None:
    with pytest.raises(Refused) as refused:
        await Database.connect(f"{database_url}?{asked}")
    assert (refused.value.code, named in str(refused.value)) == ("settings_invalid", True), str(refused.value)


async def test_the_first_host_that_answers_is_used(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host has the time that the address gives; here only the silent one's is over after a second."""
    connect = cast("Any", asyncpg).connect
    given = set[float]()

    async def connected(*, dsn: str, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109 - as asyncpg has it
        given.add(timeout)
        return await connect(dsn=dsn, timeout=timeout if dumb in dsn else LIMIT_S, **options)

    async with silent() as dumb:
        monkeypatch.setattr(asyncpg, "connect", connected)
        hosts = ["127.0.0.1:1", dumb, host_of(database_url)]
        opened = await Database.connect(f"{with_hosts(database_url, *hosts)}?connect_timeout=1")
    assert given == {1.0}
    await asyncio.gather(*(opened.health() for _ in range(8)))
    await opened.close()


async def test_a_host_that_takes_no_writes_is_passed_over(database_url: str, server_url: str) -> None:
    name = database_url.rpartition("/")[2]
    session = await connect_once(server_url)
    await session.execute(f"alter database {name} set default_transaction_read_only = on")
    await session.close()
    with pytest.raises(TryLater, match="None of its hosts takes writes now"):
        await Database.connect(with_hosts(database_url, host_of(database_url), host_of(database_url)))


async def test_sessions_are_limited_behind_a_pooler_that_takes_no_parameters(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATEMENT_TIMEOUT_S", "QUICK_LOCK_S"):
        monkeypatch.setattr(module, name, LIMITS[name])
    async with pooled(database_url) as url:
        opened = await Database.connect(url, pool_size=1)
        limits = {name: await opened.answer(f"show {name}") for name in ("statement_timeout", "lock_timeout")}
        assert {name: row[name] for name, row in limits.items()} == {
            "statement_timeout": "10s",
            "lock_timeout": "500ms",
        }
        await opened.close()
        with pytest.raises(Refused, match="The server knows no options"):
            await Database.connect(f"{url}?options=-c%20work_mem%3D5MB")


async def test_a_commit_that_a_crash_may_undo_is_not_taken_for_one(database_url: str, server_url: str) -> None:
    session = await connect_once(server_url)
    await session.execute(f"alter database {database_url.rpartition('/')[2]} set synchronous_commit = off")
    await session.close()
    opened = await Database.connect(database_url, pool_size=1)
    assert (await opened.answer("show synchronous_commit"))["synchronous_commit"] == "on"
    await opened.close()


async def test_no_caller_waits_for_ever_for_a_silent_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LIMITS["CONNECTION_S"] + LIMITS["STATEMENT_TIMEOUT_S"] <= 20
    async with relayed(database_url) as (relay, url), silent() as dumb:
        opened = await Database.connect(url)
        monkeypatch.setattr(module, "CONNECTION_S", 1.0)
        relay.cut()
        relay.lead_to(dumb)
        relay.mend()
        answers = await asyncio.gather(*(opened.health() for _ in range(24)), return_exceptions=True)
    assert {(type(each), getattr(each, "code", "")) for each in answers} <= {
        (TryLater, "ledger_unavailable"),
        (module.NoConnection, "ledger_unavailable"),
    }
    assert any(isinstance(each, module.NoConnection) for each in answers)
    await opened.close()


async def test_what_a_post_depends_on_is_recorded_while_others_have_all_other_connections(
    database_url: str, database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    opened = await Database.connect(database_url, pool_size=1)
    submissions = PostgresSubmissions(opened)
    reports = [asyncio.create_task(opened.row("select pg_sleep(3600)")) for _ in range(3)]
    asleep = "select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    while not await database.rows(asleep):
        await asyncio.sleep(0.02)
    began = await submissions.begin(
        generation_id, 1, vendor="apixo", token_sha256=None, request_sha256=bytes(32), seed=None
    )
    stored = await submissions.record(generation_id, 1, state="accepted", vendor_task_id="t", post=began.post)
    assert (began.fresh, stored.state, [report.done() for report in reports]) == (True, "accepted", [False] * 3)
    for report in reports:
        report.cancel()
    await asyncio.gather(*reports, return_exceptions=True)
    await opened.close()


@pytest.mark.parametrize(
    "url", ["postgresql://h:1,h:0/x", "postgresql://h:1,h:99999999/x", "mysql://h/x", "postgresql://h/x?nonsense"]
)
def test_what_is_no_address_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(OnetakeError, match="is not the address of a PostgreSQL database"):
        Addresses(url)
