"""The command line as people and scripts meet it: a real process, its streams, its exit code."""

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "onetake.cli")
LIMIT_S = 90.0


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
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=dict(env),
        cwd=cwd,
        input=stdin,
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
