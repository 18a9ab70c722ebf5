from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import httpx
import pytest

from onetake.core.secrets import Secret
from onetake.media.outbound import Outbound
from providers import apixo
from providers.driver import Clients, Driver
from tests.providers.parts import API_KEY, PATIENT, SHORT_CONNECT, SHORT_READ, SHORT_WRITE, Connect


@pytest.fixture(scope="session")
async def connect() -> AsyncGenerator[Connect]:
    """Drivers on clients that live as long as the session: a call has a connection of its own all the same."""
    async with AsyncExitStack() as stack:
        clients = {
            str(timeout): await stack.enter_async_context(Clients.opened(timeout))
            for timeout in (PATIENT, SHORT_CONNECT, SHORT_READ, SHORT_WRITE)
        }
        outbound = Outbound()
        stack.push_async_callback(outbound.aclose)

        def connected(base_url: str, timeout: httpx.Timeout = PATIENT, *, api_key: Secret | str = API_KEY) -> Driver:
            return Driver("apixo", apixo, base_url, api_key, clients=clients[str(timeout)], outbound=outbound)

        yield connected
