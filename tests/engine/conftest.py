import base64
import secrets
from collections.abc import AsyncGenerator

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.worker import Worker

from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.dev.devstack.temporal_server import register_search_attributes
from onetake.engine.temporal import connect
from tests.engine.parts import ACTIVITIES, QUEUE, At, Quoting, Waiting
from tests.servers import Servers


def key_text() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture(scope="session")
def at(servers: Servers) -> At:
    """Address and namespace for `connect`; the namespace lacks all search attributes but one."""
    environ = servers.of_ones_own("engine")
    register_search_attributes(SearchAttribute.ALL[:1], environ)
    return At(address=environ["TEMPORAL_ADDRESS"], namespace=environ["TEMPORAL_NAMESPACE"])


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(codec_key=SecretStr(key_text()))


@pytest.fixture(scope="session")
async def client(at: At, settings: Settings) -> Client:
    return await connect(settings, **at)


@pytest.fixture(scope="session")
async def plain(at: At) -> Client:
    """A client that knows nothing of this package."""
    return await Client.connect(at["address"], namespace=at["namespace"])


@pytest.fixture(scope="session", autouse=True)
async def worker(client: Client) -> AsyncGenerator[None]:
    async with Worker(client, task_queue=QUEUE, workflows=[Quoting, Waiting], activities=ACTIVITIES):
        yield
