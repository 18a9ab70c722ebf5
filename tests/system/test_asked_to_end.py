"""A process that is asked to end while it starts ends at once, in good order, whatever it waits for."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onetake.dev.devstack.ports import LOOPBACK, free_port
from tests.system.started import readiness

LIMIT_S = 240.0  # of a hang: a server that does not answer is given up within 15 s, with words and another code
START_LIMIT_S = 240.0
SILENT_DATABASE = "postgresql://u:p@{}/onetake"

Moment = Callable[[], None]


@contextmanager
def silent() -> Generator[tuple[str, Moment]]:
    """A server that accepts and never answers: its address, and a wait until somebody has come."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        listening.settimeout(START_LIMIT_S)
        kept = list[socket.socket]()
        yield f"{LOOPBACK}:{listening.getsockname()[1]}", lambda: kept.append(listening.accept()[0])
        for each in kept:
            each.close()


@contextmanager
def started(folder: Path, *words: str, **env: str) -> Generator[subprocess.Popen[str]]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_"))}
    own = {"ONETAKE_INSECURE_PLAINTEXT_HISTORY": "true", **env}
    command = [sys.executable, "-m", "onetake.cli", *words]
    with subprocess.Popen(command, cwd=folder, env=bare | own, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    """Ask it to end: its exit code, and what it said."""
    process.send_signal(number)
    _, said = process.communicate(timeout=LIMIT_S)
    return process.returncode, said


def test_before_the_event_loop(tmp_path: Path) -> None:
    """It reads a file of prices that never comes. As process 1 without a handler it would not hear the signal."""
    prices = tmp_path / "prices.toml"
    os.mkfifo(prices)
    env = {"ONETAKE_PRICES": str(prices), "ONETAKE_DATABASE_URL": SILENT_DATABASE.format(LOOPBACK)}
    with started(tmp_path, "gateway", **env) as process, prices.open("w"):
        assert ended(process) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_temporal_does_not_answer(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port(set())
    with silent() as (address, asked):
        env = {"TEMPORAL_ADDRESS": address, "ONETAKE_DATABASE_URL": SILENT_DATABASE.format(LOOPBACK)}
        with started(tmp_path, "worker", "--health-port", str(port), **env) as process:
            asked()
            assert readiness(port) == (503, ["starting"])
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/healthz", timeout=30) as alive:
                assert alive.status == 200
            assert ended(process, number) == (0, "")


def test_while_the_database_does_not_answer(tmp_path: Path) -> None:
    with silent() as (address, asked):
        url = SILENT_DATABASE.format(address)
        with started(tmp_path, "gateway", "--port", str(free_port(set())), ONETAKE_DATABASE_URL=url) as process:
            asked()
            assert ended(process) == (0, "")


def test_a_simulator_that_starts_or_serves(tmp_path: Path) -> None:
    port = free_port(set())
    with started(tmp_path, "simulator", "--port", str(port)) as process:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection((LOOPBACK, port)).close()
                break
            except OSError:
                time.sleep(0.01)
        assert ended(process) == (0, "")
