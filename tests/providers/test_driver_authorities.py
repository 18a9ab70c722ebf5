"""Vendors behind a private authority: the one that `SSL_CERT_FILE` names is trusted, and no other."""

from pathlib import Path

import httpx
import pytest

from providers.driver import Clients
from tests.providers.sockets import answer, answering, own_certificate, serving


async def test_a_private_authority_is_trusted_when_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = own_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with serving(answering(answer(200, b"{}")), tls=tls) as server, Clients.opened() as clients:
        assert (await clients.reads.get(server.url)).status_code == 200


async def test_it_is_not_trusted_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with (
        serving(answering(answer(200, b"{}")), tls=own_certificate(tmp_path)) as server,
        Clients.opened() as clients,
    ):
        with pytest.raises(httpx.ConnectError):
            await clients.reads.get(server.url)
