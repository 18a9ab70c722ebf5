"""Which port each part gets."""

import random
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from onetake.dev.devstack import ports
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
    def free_for_us(_port: int) -> bool:
        return True  # somebody may take any port at any time

    monkeypatch.setattr(ports, "is_free", free_for_us)
    notes: dict[str, str] = {}
    assert choose_ports("default", notes.__setitem__)["s3"] == DEFAULT_PORTS["s3"]
    assert "s3" not in notes


def test_free_ports_are_all_different_and_none_is_a_default() -> None:
    ports = choose_ports("free", lambda _part, _text: None)
    assert len(set(ports.values())) == len(ports)
    assert not set(ports.values()) & set(DEFAULT_PORTS.values())


def test_a_port_with_a_listener_on_every_address_is_not_free() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_a_port_that_a_process_has_chosen_is_chosen_by_no_other_before_its_server_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "from onetake.dev.devstack.ports import free_port; print(free_port(set()), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        theirs, ours = int(other.stdout.readline()), free_port(set())

        def only_these(*_: object) -> list[int]:
            return [theirs, ours]

        monkeypatch.setattr(random, "sample", only_these)
        with pytest.raises(OSError, match="no free port"):
            free_port(set())
        other.kill()
