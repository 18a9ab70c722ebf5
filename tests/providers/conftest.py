import ssl
from collections.abc import AsyncGenerator

import pytest

from onetake.outbound import Outbound
from providers import apixo
from providers.driver import Driver, new_http_client
from tests.providers.parts import API_KEY, QUICK, Connect


@pytest.fixture(scope="session")
async def connect() -> AsyncGenerator[Connect]:
    """Drivers with times short enough to wait for; each call has a connection of its own all the same."""
    http, outbound = new_http_client(QUICK), Outbound(ssl_context=ssl.create_default_context())

    def connected(base_url: str, *, api_key: str = API_KEY) -> Driver:
        return Driver("apixo", apixo, base_url, api_key, http=http, outbound=outbound)

    yield connected
    await http.aclose()
    await outbound.aclose()
