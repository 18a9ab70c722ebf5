import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import httpx
import pytest
from temporalio.worker import Worker

from onetake.core.contracts import GenerationRequest
from onetake.core.settings import Settings
from onetake.dev.devstack import DevStack, SilentProgress
from onetake.engine.temporal import connect
from onetake.ledger import Database
from onetake.ledger.migrate import upgrade
from providers.admission import RouteAdmission
from tests.gateway.house import CANARY, QUEUE, ROUTE, House, Listening, Recovering, gateway_part, url_of
from tests.system.harness import bare_environ


@pytest.fixture(scope="session")
def servers() -> Generator[DevStack]:
    home = Path(tempfile.mkdtemp(prefix="onetake-gateway-"))
    with DevStack(
        home,
        progress=SilentProgress(),
        ports="free",
        environ=bare_environ(),
        ephemeral=True,
        temporal_in_memory=True,
    ) as stack:
        stack.start_servers()
        yield stack


@pytest.fixture(scope="session")
async def house(servers: DevStack) -> AsyncGenerator[House]:
    at, env = servers.addresses, servers.environment()
    await upgrade(at.database_url)
    settings = Settings.model_validate({"codec_key": env["ONETAKE_CODEC_KEY"], "database_url": at.database_url})
    temporal = await connect(settings, address=at.temporal_address)
    part = gateway_part("gateway", codec=True)
    servers.start_part(part)
    database = await Database.connect(at.database_url)
    codec_url = f"http://127.0.0.1:{part.argv[-1]}"
    request = GenerationRequest(route=ROUTE, prompt=CANARY)
    plan = RouteAdmission(settings, sends=False).plan(request, base_queue=QUEUE)
    async with Worker(temporal, task_queue=QUEUE, workflows=[Listening, Recovering]):
        yield House(servers, database, temporal, url_of(part), codec_url, plan)
    await database.close()


@pytest.fixture
async def http(house: House) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=house.gateway_url, trust_env=False, timeout=15) as client:
        yield client
