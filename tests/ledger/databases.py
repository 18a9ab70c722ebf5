"""A real PostgreSQL, and a fresh, migrated database for each test: fixtures that a conftest imports."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest

from onetake.core.contracts import GenerationRequest, Price, ReserveInput
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.ports import Begun
from onetake.ledger import Budgets, Callbacks, Database, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.callbacks import token_sha256
from onetake.ledger.database import Session, connect_once
from tests.servers import TEMPLATE, Servers, on_this_server

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]


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
    session = await connect_once(server_url)
    yield session
    await session.close()


@asynccontextmanager
async def fresh_database(server: Session, server_url: str, template_url: str) -> AsyncGenerator[str]:
    """The address of a migrated database of its own."""
    name = f"test_{secrets.token_hex(6)}"
    await server.execute(f"create database {name} template {template_url.rsplit('/', 1)[1]} strategy file_copy")
    yield server_url.rsplit("/", 1)[0] + f"/{name}"
    await server.execute(f"drop database {name} with (force)")


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
