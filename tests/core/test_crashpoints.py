"""Crash points: what is armed, and that a process forked for a test really dies there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from onetake.core import crashpoints
from onetake.core.crashpoints import CRASH_POINTS, crashpoint
from onetake.dev.devstack.processes import identity_of
from tests.system.forked import Child, spawn, spawn_call

LIMIT_S = 240.0
SESSION = """
import pathlib, sys, time
from tests.core.test_crashpoints import sleep_long
from tests.system.forked import spawn_call
log = pathlib.Path(sys.argv[1])
spawn_call(sleep_long, [], {}, log)
while not log.exists() or not log.read_text():
    time.sleep(0.05)
print(log.read_text(), flush=True)
time.sleep(600)
"""


def pass_points(points: Sequence[str]) -> None:
    for point in points:
        crashpoint(point)  # pyright: ignore[reportArgumentType]
        os.write(1, b"passed\n")


def sleep_long(_: Sequence[str]) -> None:
    print(os.getpid(), os.getppid(), flush=True)
    time.sleep(600)


def tell_of_threads(_: Sequence[str]) -> None:
    import temporalio.runtime  # noqa: PLC0415 - what the fork server has loaded

    held = [each for each in vars(temporalio.runtime).values() if isinstance(each, temporalio.runtime.Runtime)]
    loaded = {"onetake.worker", "onetake.gateway.serve"} <= sys.modules.keys()
    tasks = Path("/proc/self/task")
    print(threading.active_count(), len(list(tasks.iterdir())) if tasks.exists() else 1, held, loaded, flush=True)


async def life(tmp_path: Path, armed: str, *points: str) -> Child:
    """A process that passes these points and prints a line after each."""
    child = spawn_call(pass_points, points, {"ONETAKE_CRASH": armed}, tmp_path / "log")
    await child.wait(LIMIT_S)
    return child


async def test_a_process_dies_at_its_point_and_its_parent_sees_the_signal(tmp_path: Path) -> None:
    child = await life(tmp_path, "submit.after_send", "submit.before_intent", "submit.after_send")
    assert (child.ended(), child.point()) == (-signal.SIGKILL, "submit.after_send")
    assert child.log.read_text().count("passed") == 1


async def test_nothing_dies_where_nothing_is_armed(tmp_path: Path) -> None:
    child = await life(tmp_path, "", *CRASH_POINTS)
    assert (child.ended(), child.point()) == (0, None)


async def test_the_third_hit_and_the_first_of_several(tmp_path: Path) -> None:
    points = ("persist.during_put", "persist.during_put", "settle.after_commit", "persist.during_put")
    third = await life(tmp_path, "persist.during_put:3", *points)
    assert (third.point(), third.log.read_text().count("passed")) == ("persist.during_put", 3)
    (tmp_path / "log").unlink()
    several = await life(tmp_path, "persist.during_put:3,settle.after_commit", *points)
    assert (several.point(), several.log.read_text().count("passed")) == ("settle.after_commit", 2)


def test_a_misspelt_point_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no such crash point: submit\.after_sent"):
        crashpoints.arm("submit.after_sent")


@pytest.mark.parametrize(("armed", "why"), [("x", "no such crash point: x"), ("submit.after_send:no", "'no'")])
def test_a_misspelt_point_in_the_environment_is_one_wrong_setting(tmp_path: Path, armed: str, why: str) -> None:
    env = {**os.environ, "ONETAKE_CRASH": armed}
    words = [sys.executable, "-m", "onetake.cli", "list", "--json"]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "settings_invalid"
    assert "ONETAKE_CRASH: " in done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_child_is_forked_before_any_thread_or_runtime(tmp_path: Path) -> None:
    child = spawn_call(tell_of_threads, [], {}, tmp_path / "log")
    assert await child.wait(LIMIT_S) == 0
    assert child.log.read_text() == "1 1 [] True\n"


async def test_the_command_itself_runs_in_a_child(tmp_path: Path) -> None:
    child = spawn(["--version"], {}, tmp_path / "log")
    assert await child.wait(LIMIT_S) == 0
    assert child.log.read_text().startswith("onetake ")
    refused = spawn(["worker"], {}, tmp_path / "log")
    assert await refused.wait(LIMIT_S) == 2


async def test_a_stopped_child_goes_on_or_is_killed(tmp_path: Path) -> None:
    child = spawn_call(sleep_long, [], {}, tmp_path / "log")
    child.kill(signal.SIGSTOP)
    assert child.ended() is None
    child.kill(signal.SIGCONT)
    child.kill()
    assert await child.wait(LIMIT_S) == -signal.SIGKILL
    assert child.point() is None
    child.kill()  # it is gone: nothing happens


@pytest.mark.skipif(sys.platform != "linux", reason="children follow a killed session only where the kernel says so")
def test_children_die_with_the_session_that_made_them(tmp_path: Path) -> None:
    session = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SESSION,
            str(tmp_path / "log"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with session:
        assert session.stdout
        pids = [int(pid) for pid in session.stdout.readline().split()]
        assert all(identity_of(pid) for pid in pids)
        session.kill()
    deadline = time.monotonic() + LIMIT_S
    while any(identity_of(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
