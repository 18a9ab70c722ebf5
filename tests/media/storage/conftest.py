import secrets
from collections.abc import AsyncIterator

import pytest

from onetake.media.storage import BucketStore
from tests.media.storage.parts import Server
from tests.servers import Servers


@pytest.fixture(scope="session")
def server(servers: Servers) -> Server:
    bucket = f"clips-{secrets.token_hex(4)}"
    return Server(servers.addresses.s3_endpoint, servers.keys, bucket, servers.objects / bucket)


@pytest.fixture(scope="session")
async def store(server: Server) -> AsyncIterator[BucketStore]:
    store = server.store()
    await store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
def key() -> str:
    """A key nobody used."""
    return f"tenant/gen_{secrets.token_hex(8)}/1/0.mp4"
