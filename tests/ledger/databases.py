"""A real PostgreSQL, and a fresh, migrated database for each test: fixtures that a conftest imports."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, cast

import asyncpg
import pytest

from onetake.core.contracts import GenerationRequest, Price, ReserveInput, SettleInput
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.ports import Begun
from onetake.ledger import (
    Budgets,
    Callbacks,
    Database,
    Epochs,
    PostgresGenerations,
    PostgresLedger,
    PostgresSubmissions,
)
from onetake.ledger import addresses as addresses_module
from onetake.ledger import database as database_module
from onetake.ledger import lanes as lanes_module
from onetake.ledger import pacing as pacing_module
from onetake.ledger.callbacks import token_sha256
from onetake.ledger.database import Session, connect_once
from tests.servers import LIMIT_S, TEMPLATE, Servers, on_this_server

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
Begin = Callable[..., Awaitable[Begun]]
Suspend = Callable[..., Awaitable[str]]

# The limits of the ledger as production has them.
LIMITS: Final = {
    name: getattr(database_module, name)
    for name in ("STATEMENT_TIMEOUT_S", "QUICK_LOCK_S", "SLOW_LOCK_S", "TURN_S", "CONNECTION_S")
}
# Who waits for a lock here; other databases of the server are other tests'.
WAITERS: Final = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
BEFORE_MIDNIGHT_S: Final = 30.0

# Making a database takes longer than most tests. Each process keeps those that it has emptied.
MOST_GROWTH_BYTES: Final = 4_000_000
_EMPTIED: Final = list[str]()
_AS_MADE: Final = dict[str, tuple[str, int]]()
_OTHERS: Final = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
# What says whether anything but rows of ours was changed: no definition changes without a new row of a catalog. A
# function may have been another one meanwhile.
_DEFINITIONS: Final = """
select array[
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_class),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_attribute),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_attrdef),
    (select count(*)::text from pg_proc),
    (select md5(string_agg(p::text, ' ' order by p.oid)) from pg_proc p
     where p.pronamespace = 'onetake'::regnamespace),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_constraint),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_index),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_trigger),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_type),
    (select concat(count(*), ' ', max(xmin::text::bigint)) from pg_namespace),
    (select concat(count(*)) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
     where d.datname = current_database()),
    (select string_agg(v::text, ' ') from onetake.alembic_version v),
    (select string_agg(s::text, ' ') from onetake.secret s)
]::text as definitions, pg_database_size(current_database()) as size
"""
_EMPTY: Final = """
set session_replication_role = replica;
do $$ declare t regclass; begin
    for t in select oid from pg_class where relnamespace = 'onetake'::regnamespace
        and (relkind = 'r' and relname not in ('alembic_version', 'secret') or relkind = 'S')
    loop
        if (select relkind from pg_class where oid = t) = 'S' then
            perform setval(t, 1, false);
        else
            execute format('delete from %s', t);
        end if;
    end loop;
end $$
"""


@pytest.fixture(scope="module", autouse=True)
def patient() -> Generator[None]:
    """The database's limits are those of a hang, and so is that of a session of a test's own: what waits for a lock is
    not given up because the machine is slow. A test that is about a limit sets that one."""
    session_defaults = cast("Any", connect_once).__kwdefaults__
    with pytest.MonkeyPatch.context() as patch:
        for name in LIMITS:
            patch.setattr(database_module, name, LIMIT_S)
        patch.setattr(lanes_module, "TURN_S", LIMIT_S)
        patch.setattr(addresses_module, "CONNECT_TIMEOUT_S", LIMIT_S)
        patch.setattr(pacing_module, "LIMIT_S", LIMIT_S)
        patch.setitem(session_defaults, "limit_s", LIMIT_S)
        yield


@pytest.fixture(scope="session")
def server_url(servers: Servers) -> str:
    """The address of a running server, ending in the name of its first database, which has no tables."""
    return servers.addresses.database_url


@pytest.fixture(scope="session")
def template_url(server_url: str) -> str:
    """A migrated database that others are copied from."""
    return on_this_server(server_url, TEMPLATE)


@pytest.fixture(scope="session")
async def server(server_url: str) -> AsyncIterator[Session]:
    """One session for what concerns the whole server."""
    session = await connect_once(server_url, limit_s=LIMIT_S)
    yield session
    await session.close()


async def _not_just_before_midnight() -> None:
    """A budget's window is a day of UTC: a test that begins in one and ends in the next sees two."""
    now = datetime.now(UTC)
    left_s = 86_400 - (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    if left_s < BEFORE_MIDNIGHT_S:
        await asyncio.sleep(left_s + 0.1)


@asynccontextmanager
async def fresh_database(server: Session, server_url: str, template_url: str) -> AsyncGenerator[str]:
    """The address of a migrated database of its own: a new one, or one that was used before and is empty again."""
    await _not_just_before_midnight()
    name = _EMPTIED.pop() if _EMPTIED else f"test_{secrets.token_hex(6)}"
    known = _AS_MADE.get(name) or await _made(server, server_url, template_url, name)
    url = on_this_server(server_url, name)
    yield url
    if await _is_empty_again(url, known):
        _EMPTIED.append(name)
    else:
        await server.execute(f"drop database if exists {name} with (force)")


async def _made(server: Session, server_url: str, template_url: str, name: str) -> tuple[str, int]:
    """Make a database; its definitions and its size."""
    await server.execute(f"create database {name} template {template_url.rsplit('/', 1)[1]} strategy file_copy")
    session = await connect_once(on_this_server(server_url, name), limit_s=LIMIT_S)
    _AS_MADE[name] = await _as_it_is(session)
    await session.close()
    return _AS_MADE[name]


async def _as_it_is(session: Session) -> tuple[str, int]:
    (row,) = await session.fetch(_DEFINITIONS)
    return row["definitions"], row["size"]


async def _is_empty_again(url: str, known: tuple[str, int]) -> bool:
    """Delete all rows of ours; False when a test has changed more than rows, or made the database large."""
    try:
        session = await connect_once(url, limit_s=LIMIT_S)
    except (asyncpg.PostgresError, OSError):
        return False
    try:
        while await session.fetchval(_OTHERS):
            await asyncio.sleep(0.005)
        definitions, size = await _as_it_is(session)
        if definitions != known[0] or size > known[1] + MOST_GROWTH_BYTES:
            return False
        await session.execute(_EMPTY)
    except asyncpg.PostgresError:
        return False
    finally:
        await session.close()
    return True


@pytest.fixture
async def database_url(server: Session, server_url: str, template_url: str) -> AsyncIterator[str]:
    async with fresh_database(server, server_url, template_url) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await Database.connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def generations(database: Database) -> PostgresGenerations:
    return PostgresGenerations(database)


@pytest.fixture
def ledger(database: Database) -> PostgresLedger:
    return PostgresLedger(database)


@pytest.fixture
def submissions(database: Database) -> PostgresSubmissions:
    return PostgresSubmissions(database)


@pytest.fixture
def epochs(database: Database) -> Epochs:
    return Epochs(database)


@pytest.fixture
async def fail_over(database: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """From now on the database tells that it is another one than before; what it lost is the caller's to remove."""
    defined = await database.answer("select pg_get_functiondef('onetake.epoch'::regproc) as text")

    async def fail_over() -> None:
        await database.row(
            "create or replace function onetake.epoch() returns text language sql as $$ select 'another' $$"
        )

    yield fail_over
    await database.row(defined["text"])


@pytest.fixture
def callbacks(database: Database) -> Callbacks:
    return Callbacks(database)


@pytest.fixture
def budgets(database: Database) -> Budgets:
    return Budgets(database)


@pytest.fixture
def accept(generations: PostgresGenerations) -> Accept:
    """Accept a generation as a client does; returns its id."""

    async def accept(**fields: object) -> str:
        given: dict[str, object] = {"route": "apixo/wan-2.6/text-to-video", "prompt": "a fox", "tenant": "acme"}
        request = GenerationRequest.model_validate(given | fields)
        workflow_id = workflow_id_of(request.tenant, new_generation_id())
        return (await generations.accept_once(request, workflow_id=workflow_id)).id

    return accept


@pytest.fixture
def accept_many(database: Database) -> Callable[[int], Awaitable[list[str]]]:
    """Make many generations of acme at once, where accepting is not what a test is about."""

    async def accept_many(number: int) -> list[str]:
        ids = [str(new_generation_id()) for _ in range(number)]
        await database.rows(
            """insert into onetake.generation (id, tenant, workflow_id, request_sha256, request, route, vendor)
            select id, 'acme', 'gen/acme/' || id, sha256(''), '{}', 'r', 'apixo' from unnest($1::text[]) as id""",
            ids,
        )
        return ids

    return accept_many


@pytest.fixture
def order() -> Order:
    """A reservation by ann of acme for one dollar, unless said otherwise."""

    def order(generation_id: str, amount_micros: int = 1_000_000, **fields: object) -> ReserveInput:
        price = Price(amount_micros=amount_micros, unit="5 s at 720p", table_version="2026-11-01")
        given: dict[str, object] = {
            "generation_id": generation_id,
            "attempt": 1,
            "tenant": "acme",
            "user": "ann",
            "feature": "ads",
            "route": "apixo/wan-2.6/text-to-video",
            "vendor": "apixo",
            "price": price,
        }
        return ReserveInput.model_validate(given | fields)

    return order


@pytest.fixture
def begin(submissions: PostgresSubmissions) -> Callable[..., Awaitable[Begun]]:
    """Begin a submission at apixo, each time with another token."""
    numbers = count()

    async def begin(generation_id: str, *, token: str | None = None) -> Begun:
        return await submissions.begin(
            generation_id,
            1,
            vendor="apixo",
            token_sha256=token_sha256(token or f"token-{generation_id}-{next(numbers)}"),
            request_sha256=bytes(32),
            seed=7,
        )

    return begin


@pytest.fixture
def suspend(
    ledger: PostgresLedger, submissions: PostgresSubmissions, accept: Accept, order: Order, begin: Begin
) -> Suspend:
    """Make a generation that has failed, and whose job the vendor calls by this id; a dollar is in suspense."""

    async def suspend(task_id: str, resolution: str = "suspend") -> str:
        generation_id = await accept()
        await ledger.reserve(order(generation_id))
        await begin(generation_id)
        await submissions.record(generation_id, 1, state="accepted", vendor_task_id=task_id)
        settlement = {
            "generation_id": generation_id,
            "attempt": 1,
            "tenant": "acme",
            "status": "failed",
            "vendor_task_id": task_id,
        }
        await ledger.settle(SettleInput.model_validate(settlement | {"resolution": resolution}))
        return generation_id

    return suspend
