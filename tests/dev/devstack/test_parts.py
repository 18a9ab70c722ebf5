"""Our own processes beside the servers: started, watched, ended."""

import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from onetake.dev.devstack import DevStack, DevStackError, Part, SilentProgress
from onetake.dev.devstack.processes import Command, Supervisor, identity_of

FOREVER = "import time; time.sleep(600)"
NOBODY = "tcp://127.0.0.1:1"  # a health check that a part never passes
LIMIT_S = 240.0  # of a hang


def python(name: str, code: str, *arguments: str, health: str | None = None) -> Part:
    return Part(name=name, argv=(sys.executable, "-c", code, *arguments), health=health, limit_s=LIMIT_S)


@contextmanager
def started(stack: DevStack, part: Part) -> Generator[int]:
    stack.start_part(part)
    try:
        yield stack.pid_of(part.name)
    finally:
        with suppress(DevStackError):
            stack.stop_part(part.name)


def test_a_part_gets_the_addresses_of_the_servers_and_a_health_check(stack: DevStack) -> None:
    code = (
        "import http.server, os, sys; print(os.environ['ONETAKE_S3_ENDPOINT'], flush=True);"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
    )
    at = stack.addresses
    with started(stack, python("codec", code, str(at.codec_port), health=f"{at.codec_url}/")):
        assert at.s3_endpoint in stack.log_of("codec").read_text()


def test_a_part_that_never_becomes_healthy_fails_in_its_limit_with_the_end_of_its_log(stack: DevStack) -> None:
    argv = ("/bin/sh", "-c", "echo I hear nothing; exec sleep 600")  # it has said so long before its limit
    with pytest.raises(DevStackError) as failure:
        stack.start_part(Part(name="deaf", argv=argv, health=NOBODY, limit_s=1))
    assert "deaf: was not ready within 1 s" in str(failure.value)
    assert "I hear nothing" in str(failure.value)
    with pytest.raises(DevStackError, match="does not run"):
        stack.pid_of("deaf")


def test_a_part_that_ends_at_once_fails_at_once_with_the_end_of_its_log(stack: DevStack) -> None:
    with pytest.raises(DevStackError, match="broken: ended with exit code 3 before it was ready") as failure:
        stack.start_part(python("broken", "import sys; print('no such setting'); sys.exit(3)", health=NOBODY))
    assert "no such setting" in str(failure.value)


def test_a_program_that_does_not_exist_is_named(stack: DevStack) -> None:
    with pytest.raises(DevStackError, match="missing: ended with exit code 127") as failure:
        stack.start_part(Part(name="missing", argv=("/nowhere/worker",), health=NOBODY, limit_s=LIMIT_S))
    assert "/nowhere/worker" in str(failure.value)


def test_a_killed_part_can_be_restarted(stack: DevStack) -> None:
    with started(stack, python("worker", FOREVER)) as pid:
        stack.kill_part("worker")
        assert identity_of(pid) is None
        stack.restart("worker")
        assert stack.pid_of("worker") != pid


def test_a_part_that_ends_by_itself_is_reported_by_wait(stack: DevStack, tmp_path: Path) -> None:
    may_end = tmp_path / "may-end"
    code = (
        "import pathlib, sys, time; print('out of luck', flush=True)\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)\n"
        "sys.exit(7)"
    )
    with started(stack, python("mortal", code, str(may_end))):
        may_end.touch()
        with pytest.raises(DevStackError, match="mortal: ended with exit code 7") as failure:
            stack.wait()
    assert "out of luck" in str(failure.value)


def test_ctrl_c_ends_the_wait(stack: DevStack) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press() -> None:
        while signal.getsignal(signal.SIGINT) is before:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    stack.wait()


def test_a_process_that_ignores_the_polite_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True);"
        "time.sleep(600)"
    )
    with Supervisor(tmp_path) as supervisor:
        running = supervisor.start(Command("stubborn", (sys.executable, "-c", code), dict(os.environ)))
        child = int(_first_line(running.log))
        supervisor.stop("stubborn", limit_s=0.5)
        assert identity_of(running.popen.pid) is None
        assert _gone(child)


def test_a_second_stack_in_the_same_home_is_refused(stack: DevStack) -> None:
    with pytest.raises(DevStackError, match=rf"stack: another stack \(pid {os.getpid()}\) uses .*home"):
        DevStack(stack.home, progress=SilentProgress(), ports="free").__enter__()
    assert stack.pid_of("postgres")


def _first_line(log: Path) -> str:
    deadline = time.monotonic() + LIMIT_S
    while "\n" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return log.read_text().splitlines()[0]


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + LIMIT_S
    while identity_of(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return identity_of(pid) is None
