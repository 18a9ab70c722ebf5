"""Which port each part gets."""

import socket
from collections.abc import Iterator

import pytest

from onetake.dev.devstack.ports import DEFAULT_PORTS, choose_ports, free_port, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_default_port_is_replaced_by_a_free_one_and_its_holder_named(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEFAULT_PORTS, "s3", taken)
    notes: dict[str, str] = {}
    ports = choose_ports("default", notes.__setitem__)
    assert ports["s3"] != taken
    assert is_free(ports["s3"])
    assert notes["s3"].startswith(f"port {taken} is taken by ")
    assert notes["s3"].endswith(f"; using {ports['s3']}")


def test_a_free_default_port_is_used_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    number = free_port(set())
    monkeypatch.setitem(DEFAULT_PORTS, "s3", number)
    notes: dict[str, str] = {}
    assert choose_ports("default", notes.__setitem__)["s3"] == number
    assert "s3" not in notes


def test_free_ports_are_all_different_and_none_is_a_default() -> None:
    ports = choose_ports("free", lambda _part, _text: None)
    assert len(set(ports.values())) == len(ports)
    assert not set(ports.values()) & set(DEFAULT_PORTS.values())


def test_a_port_with_a_listener_on_every_address_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not is_free(server.getsockname()[1])
