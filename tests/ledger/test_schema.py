"""`schema/*.sql` is today's schema in one text: it makes the same database as all migrations together."""

import secrets
from difflib import unified_diff
from pathlib import Path
from typing import Final

from onetake.ledger import migrate
from onetake.ledger.database import Session, connect_once

SCHEMA: Final = Path(migrate.__file__).with_name("schema")
WHAT_TO_DO: Final = """The migrations (-) and onetake/ledger/schema/*.sql (+) make different databases.
Change schema/*.sql to the schema of today and write a migration that brings a database there.
"""

# Every object of the schema with all that defines it; constraints and columns in the order of their names.
CATALOG: Final = """
with ours as (
    select * from pg_class where relnamespace = 'onetake'::regnamespace and relname !~ '^alembic_version'
)
select 'table ' || relname as name, concat_ws(E'\\n', relkind, array_to_string(reloptions, ', '), (
    select string_agg(concat_ws(' ', '   ', a.attname, format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then 'not null' end, nullif(a.attidentity, ''), nullif(a.attgenerated, ''),
        'default ' || pg_get_expr(d.adbin, d.adrelid)), E'\\n' order by a.attname)
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = ours.oid and a.attnum > 0 and not a.attisdropped)) as definition
from ours where relkind in ('r', 'p', 'v', 'm', 'S')
union all
select 'view ' || relname, pg_get_viewdef(oid) from ours where relkind in ('v', 'm')
union all
select 'index ' || relname, pg_get_indexdef(oid) from ours where relkind in ('i', 'I')
union all
select concat_ws(' ', 'constraint', conname, 'of', relname), pg_get_constraintdef(c.oid)
from pg_constraint c join ours on ours.oid = conrelid
union all
select concat_ws(' ', 'trigger', tgname, 'of', relname), pg_get_triggerdef(t.oid)
from pg_trigger t join ours on ours.oid = tgrelid where not tgisinternal
union all
select 'function ' || oid::regprocedure, pg_get_functiondef(oid)
from pg_proc where pronamespace = 'onetake'::regnamespace and prokind in ('f', 'p')
union all
select 'type ' || typname, concat_ws(' ', typtype, format_type(typbasetype, typtypmod), (
    select string_agg(quote_literal(enumlabel), ', ' order by enumsortorder) from pg_enum where enumtypid = t.oid))
from pg_type t where typnamespace = 'onetake'::regnamespace and typtype in ('e', 'd', 'r')
order by name
"""


async def described(session: Session) -> list[str]:
    """The schema of a database, line by line."""
    text = "\n\n".join(f"{row['name']}\n{row['definition']}" for row in await session.fetch(CATALOG))
    return text.splitlines()


async def test_the_schemas_text_makes_the_database_that_the_migrations_make(
    server: Session, server_url: str, database_url: str
) -> None:
    name = f"schema_{secrets.token_hex(4)}"
    await server.execute(f"create database {name}")
    migrated = await connect_once(database_url)
    written = await connect_once(server_url, database=name)
    await written.execute("create schema onetake")
    for file in sorted(SCHEMA.glob("*.sql")):
        await written.execute(file.read_text(encoding="utf-8"))
    before, after = await described(migrated), await described(written)
    for session in (migrated, written):
        await session.close()
    await server.execute(f"drop database {name} with (force)")
    assert sum(line.startswith(("table ", "function ")) for line in after) > 30, "the catalogue was not read"
    difference = "\n".join(unified_diff(before, after, "migrations", "schema/*.sql", lineterm=""))
    assert difference == "", f"{WHAT_TO_DO}{difference}"
