"""The databases of these tests: one that was used before is as a new one, or it is not used again."""

from collections.abc import Awaitable, Callable

import pytest

from onetake.core.contracts import ReserveInput
from onetake.ledger import Database, PostgresLedger
from onetake.ledger.database import Session
from tests.ledger.databases import fresh_database


async def opened(url: str) -> Database:
    return await Database.connect(url, pool_size=1)


async def test_a_database_is_empty_again_whatever_was_booked_in_it(
    server: Session,
    server_url: str,
    template_url: str,
    database: Database,
    ledger: PostgresLedger,
    accept: Callable[..., Awaitable[str]],
    order: Callable[..., ReserveInput],
) -> None:
    """Its journal cannot be deleted by anybody else, and its numbers begin at one again."""
    await ledger.reserve(order(await accept()))
    copies = "insert into onetake.generation select * from json_populate_record(null::onetake.generation, $1::json)"
    row = await database.answer("select to_json(g)::text as row from onetake.generation g")
    async with fresh_database(server, server_url, template_url) as url:
        first = await opened(url)
        await first.row(copies, row["row"])
        await first.row("select nextval('onetake.event_id_seq')")
        await first.close()
    async with fresh_database(server, server_url, template_url) as again:
        assert again == url
        second = await opened(again)
        assert await second.rows("select from onetake.generation") == []
        assert (await second.answer("select nextval('onetake.event_id_seq') as n"))["n"] == 1
        await second.health()
        await second.close()


@pytest.mark.parametrize(
    "change",
    [
        "create or replace function onetake.clock() returns timestamptz language sql as $$ select now() $$",
        "alter table onetake.hold add column more int",
        "alter table onetake.hold alter unit set default 'u'",
        "drop index onetake.generation_open",
        "drop trigger generation_is_kept on onetake.generation",
        "update onetake.alembic_version set version_num = '9999'",
        "alter schema onetake rename to away",
        "do $$ begin execute format('alter database %I set work_mem = 999', current_database()); end $$",
    ],
)
async def test_a_database_that_was_changed_is_not_used_again(
    server: Session, server_url: str, template_url: str, change: str
) -> None:
    async with fresh_database(server, server_url, template_url) as url:
        changing = await opened(url)
        await changing.row(change)
        await changing.close()
    name = url.rpartition("/")[2]
    assert not await server.fetchval("select count(*) from pg_database where datname = $1", name)
