import tempfile
from collections.abc import AsyncGenerator, Generator
from functools import partial
from pathlib import Path

import httpx
import pytest
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from onetake.core.contracts import GenerationRequest
from onetake.core.settings import Settings
from onetake.dev.devstack import DevStack, SilentProgress
from onetake.engine.temporal import connect
from onetake.ledger import Database
from providers.admission import RouteAdmission
from tests.gateway.parts import CANARY, LIMIT_S, QUEUE, ROUTE, Gateway, Listening, Recovering, gateway_part, url_of
from tests.ledger.databases import patient
from tests.servers import Servers
from tests.system.harness import bare_environ, patiently

__all__ = ["patient"]


@pytest.fixture(scope="session")
def stack(servers: Servers) -> Generator[DevStack]:
    """For gateways alone: no simulator and no worker of ours."""
    home = Path(tempfile.mkdtemp(prefix="onetake-gateway-"))
    environ = bare_environ() | servers.of_ones_own("gateway")
    with DevStack(home, progress=SilentProgress(), ports="free", environ=environ, ephemeral=True) as stack:
        stack.start_servers()
        yield stack


@pytest.fixture(scope="session")
async def gateway(stack: DevStack) -> AsyncGenerator[Gateway]:
    at, env = stack.addresses, stack.environment()
    settings = Settings.model_validate({"codec_key": env["ONETAKE_CODEC_KEY"], "database_url": at.database_url})
    # Without the sandbox, which would import everything again for each of a test's ten generations.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onetake.engine.temporal.sandbox", UnsandboxedWorkflowRunner)
        connecting = partial(connect, settings, address=at.temporal_address, namespace=at.temporal_namespace)
        temporal = await patiently(connecting)
    part = gateway_part("gateway", codec=True)
    stack.start_part(part)
    database = await patiently(lambda: Database.connect(at.database_url))
    codec_url = f"http://127.0.0.1:{part.argv[-1]}"
    request = GenerationRequest(route=ROUTE, prompt=CANARY)
    plan = RouteAdmission(settings, sends=False).plan(request, base_queue=QUEUE)
    async with Worker(temporal, task_queue=QUEUE, workflows=[Listening, Recovering]):
        yield Gateway(stack, database, temporal, url_of(part), codec_url, plan)
    await database.close()


@pytest.fixture
async def http(gateway: Gateway) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=LIMIT_S) as client:
        yield client
