"""Which vendors a process may send to: a key, and an address that is https or trusted by name."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import pytest

from onetake.core.errors import Refused
from onetake.media.outbound import Outbound
from providers.catalogue import load_catalogue
from providers.driver import Clients, Driver, configured_drivers
from tests.providers.parts import API_KEY, BASE_URL, VENDORS, settings

Configured = Callable[..., dict[str, Driver]]
OTHERS = {f"{name}_api_key": None for name in VENDORS if name != "apixo"}  # one vendor is enough to look at


@pytest.fixture
async def configured() -> AsyncGenerator[Configured]:
    http, outbound = httpx.AsyncClient(trust_env=False), Outbound()

    def made(**named: Any) -> dict[str, Driver]:
        return configured_drivers(
            settings(**{**OTHERS, **named}), load_catalogue(), clients=lambda: Clients(http, http), outbound=outbound
        )

    yield made
    await http.aclose()
    await outbound.aclose()


def _base_url(drivers: dict[str, Driver]) -> str:
    return drivers["apixo"]._base_url  # pyright: ignore[reportPrivateUsage]


async def test_a_vendor_without_a_key_has_no_driver(configured: Configured) -> None:
    assert configured(apixo_api_key=None) == {}
    assert configured(apixo_api_key="") == {}
    assert configured(apixo_api_key=None, apixo_base_url="http://not.looked.at") == {}


async def test_the_documented_address_is_the_default(configured: Configured) -> None:
    drivers = configured()
    assert list(drivers) == ["apixo"]
    assert drivers["apixo"].name == "apixo"
    assert _base_url(drivers) == BASE_URL
    assert _base_url(configured(apixo_base_url="")) == BASE_URL


@pytest.mark.parametrize(
    ("base_url", "trusted"),
    [
        ("https://proxy.example", ""),
        ("https://proxy.example:9443/apixo/v1/", ""),
        ("HTTPS://Proxy.Example/v1", ""),
        ("https://127.0.0.1:9443", ""),
        ("http://localhost:8700/api/v1", "localhost"),
        ("http://localhost:8700/api/v1", "localhost:8700"),
        ("http://LOCALHOST:8700", "other, localhost:8700"),
        ("http://127.0.0.1:8700", "127.0.0.1:8700"),
        ("http://[::1]:8700", "[::1]:8700"),
    ],
)
async def test_https_or_a_host_trusted_by_name_replaces_it_whole(
    configured: Configured, base_url: str, trusted: str
) -> None:
    assert _base_url(configured(apixo_base_url=base_url, trusted_hosts=trusted)) == base_url.rstrip("/")


@pytest.mark.parametrize(
    ("base_url", "trusted"),
    [
        ("http://api.apixo.ai/api/v1", ""),
        ("http://localhost:8700", ""),
        ("http://localhost:8700", "localhost:8701"),
        ("http://localhost:8700", "localhost.example"),
        ("ftp://localhost", "localhost"),
        ("localhost:8700", "localhost"),
        ("//localhost", "localhost"),
        ("https://", ""),
        ("https:///api", ""),
        ("https://host:port", ""),
        ("https://[::1", ""),
        ("https://a..b", ""),
        ("https://user:secret@api.apixo.ai", ""),
        ("https://api.apixo.ai/api?x=1", ""),
        ("https://api.apixo.ai/api#x", ""),
        ("https://api.apixo.ai/a b", ""),
    ],
)
async def test_any_other_address_is_refused_at_start(configured: Configured, base_url: str, trusted: str) -> None:
    with pytest.raises(Refused) as caught:
        configured(apixo_base_url=base_url, trusted_hosts=trusted)
    assert caught.value.code == "settings_invalid"
    assert "ONETAKE_APIXO_BASE_URL" in caught.value.detail
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["key with spaces", "kéy"])
async def test_a_key_that_cannot_be_a_header_is_refused_at_start_and_never_shown(
    configured: Configured, key: str
) -> None:
    with pytest.raises(Refused) as caught:
        configured(apixo_api_key=key)
    assert caught.value.code == "settings_invalid"
    assert "ONETAKE_APIXO_API_KEY" in caught.value.detail
    assert not key.strip() or key not in str(caught.value)


async def test_a_driver_shows_no_key(configured: Configured) -> None:
    assert API_KEY not in repr(configured()["apixo"])
