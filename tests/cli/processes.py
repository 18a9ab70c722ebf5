"""The command line as people and scripts meet it: a real process, its streams, its exit code."""

import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.forked import LOOK_EVERY_S, Child, command, spawn_call

COMMAND = (sys.executable, "-m", "onetake.cli")
LIMIT_S = 300.0  # reaching it is a hang


@dataclass(frozen=True)
class Finished:
    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one document on stdout; fails when there is none, or more."""
        return json.loads(self.stdout)

    @property
    def error_code(self) -> str:
        return self.document["error"]["code"]


def bare_environment(**more: str) -> dict[str, str]:
    """What a shell has in which nothing of ours was set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_"))}
    return kept | more


def run(*arguments: str, env: Mapping[str, str], cwd: Path, stdin: str = "") -> Finished:
    """In a process of the fork server, which is the `onetake` command without the seconds of its imports."""
    with tempfile.TemporaryDirectory(prefix="onetake-cli-") as folder:
        streams = Path(folder)
        (streams / "stdin").write_text(stdin, encoding="utf-8")
        child = spawn_call(with_streams, [folder, str(cwd), *arguments], env, streams / "log")
        code = _end_of(child)
        said = [(streams / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return Finished(code, *said)


def with_streams(words: Sequence[str]) -> None:
    """In a child: run a command line in a folder, its standard streams on files."""
    folder, cwd, *arguments = words
    os.chdir(cwd)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(os.open(Path(folder, name), os.O_RDWR | os.O_CREAT, 0o600), number)
    command(arguments)


def _end_of(child: Child) -> int:
    deadline = time.monotonic() + LIMIT_S
    while (code := child.ended()) is None and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    child.kill()
    assert code is not None, "it does not end"
    return code


def run_fresh(*arguments: str, env: Mapping[str, str], cwd: Path) -> Finished:
    """In a process of its own from the start."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def run_on_a_terminal(*arguments: str, env: Mapping[str, str], cwd: Path) -> Finished:
    """With stdout and stderr on one terminal; all of it is in `stdout`."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        text = _read_all(ours)
        return Finished(process.wait(LIMIT_S), text, "")
    finally:
        os.close(ours)
        process.kill()
        process.wait()


def _read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    while select.select([terminal], [], [], LIMIT_S)[0]:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()
