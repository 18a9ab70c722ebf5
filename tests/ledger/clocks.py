"""A database whose clock goes on only when a test says so."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from onetake.ledger import Database
from onetake.ledger.database import connect_once

# What is called `clock_timestamp` and `now` without a schema is found here first. Each look is a microsecond later.
_STILL = """
create schema still;
create table still.time (at timestamptz);
insert into still.time values (pg_catalog.clock_timestamp());
create sequence still.looks;
create function still.clock_timestamp() returns timestamptz language sql volatile
as $$ select at + interval '1 microsecond' * nextval('still.looks') from still.time $$;
create function still.now() returns timestamptz language sql volatile as $$ select still.clock_timestamp() $$;
do $$ declare d record; begin
    for d in select c.relname, a.attname from pg_attrdef f join pg_class c on c.oid = f.adrelid
        join pg_attribute a on a.attrelid = f.adrelid and a.attnum = f.adnum
        where c.relnamespace = 'onetake'::regnamespace
          and pg_get_expr(f.adbin, f.adrelid) in ('clock_timestamp()', 'now()')
    loop
        execute format('alter table onetake.%I alter %I set default still.clock_timestamp()', d.relname, d.attname);
    end loop;
    execute format('alter database %I set search_path = still, pg_catalog, public', current_database());
end $$
"""


@asynccontextmanager
async def standing_still(database_url: str) -> AsyncGenerator[Database]:
    """This database with a clock that stands still for all new sessions; only `pass_by` lets time pass."""
    session = await connect_once(database_url)
    await session.execute(_STILL)
    await session.close()
    database = await Database.connect(database_url)
    yield database
    await database.close()


async def pass_by(database: Database, seconds: float) -> None:
    """Let so many seconds pass."""
    await database.row("update still.time set at = at + make_interval(secs => $1)", seconds)
