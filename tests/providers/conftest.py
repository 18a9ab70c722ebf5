import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import httpx
import pytest

from onetake.media.outbound import Outbound
from providers import apixo
from providers.driver import Driver, new_http_client
from tests.providers.parts import API_KEY, PATIENT, SHORT_CONNECT, SHORT_READ, SHORT_WRITE, Connect


@pytest.fixture(scope="session")
async def connect() -> AsyncGenerator[Connect]:
    """Drivers on clients that live as long as the session: a call has a connection of its own all the same."""
    async with AsyncExitStack() as stack:
        clients = {
            str(timeout): await stack.enter_async_context(new_http_client(timeout))
            for timeout in (PATIENT, SHORT_CONNECT, SHORT_READ, SHORT_WRITE)
        }
        outbound = Outbound(ssl_context=ssl.create_default_context())
        stack.push_async_callback(outbound.aclose)

        def connected(base_url: str, timeout: httpx.Timeout = PATIENT, *, api_key: str = API_KEY) -> Driver:
            return Driver("apixo", apixo, base_url, api_key, http=clients[str(timeout)], outbound=outbound)

        yield connected
