import base64
import secrets
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.worker import Worker

from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.dev.devstack import DevStack, SilentProgress, StackAddresses
from onetake.engine.temporal import connect
from tests.engine.parts import ACTIVITIES, QUEUE, Quoting, Waiting
from tests.system.harness import bare_environ


def key_text() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture(scope="session")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Generator[StackAddresses]:
    home: Path = tmp_path_factory.mktemp("stack")
    stack = DevStack(
        home,
        progress=SilentProgress(),
        ports="free",
        environ=bare_environ(),
        search_attributes=SearchAttribute.ALL[:1],
        ephemeral=True,
        temporal_in_memory=True,
    )
    with stack:
        yield stack.start_servers()


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(codec_key=SecretStr(key_text()))


@pytest.fixture(scope="session")
async def client(addresses: StackAddresses, settings: Settings) -> Client:
    return await connect(settings, address=addresses.temporal_address)


@pytest.fixture(scope="session")
async def plain(addresses: StackAddresses) -> Client:
    """A client that knows nothing of this package."""
    return await Client.connect(addresses.temporal_address)


@pytest.fixture(scope="session", autouse=True)
async def worker(client: Client) -> AsyncGenerator[None]:
    async with Worker(client, task_queue=QUEUE, workflows=[Quoting, Waiting], activities=ACTIVITIES):
        yield
