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


@pytest.fixture(scope="session", params=["verifies", "unproven"])
async def store(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[BucketStore]:
    """The store as it verifies what it is sent, and as it is used when nothing is known of it."""
    store = server.store()
    await store.ensure_bucket()
    if request.param == "verifies":
        await store.check()
    assert store.verifies == (request.param == "verifies")
    yield store
    store.close()


@pytest.fixture
async def unproven(server: Server) -> AsyncIterator[BucketStore]:
    store = server.store()
    await store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
def key() -> str:
    """A key nobody used."""
    return f"tenant/gen_{secrets.token_hex(8)}/1/0.mp4"
