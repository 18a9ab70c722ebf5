"""The authorities that vouch for foreign servers."""

import pytest

from onetake.media.authorities import tls_context


def test_they_are_read_once_and_again_where_the_environment_names_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    usual = tls_context()
    assert tls_context() is usual
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert tls_context() is not usual
