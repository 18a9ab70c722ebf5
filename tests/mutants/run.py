"""Run the tests of each mutant in a copy of the tree from which one safety is gone, and say which of them none noticed.

A mutant is killed when a test that passed on the whole tree fails in its own call. Trouble of the surroundings (a test
that cannot be collected or set up, a time limit, a socket) is no verdict: it is told, and counts as a failure.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.plugin import REPORT, Entry
from tests.mutants.table import ROOT, Mutant

LIMIT_S: Final = 600.0
WHOLE_LIMIT_S: Final = 1800.0
SURROUNDINGS: Final = {"TimeoutError", "OSError", "TransportError", "RPCError"}
_LEFT_OUT: Final = shutil.ignore_patterns(".*", "__pycache__", "docs")


@dataclass(frozen=True)
class Verdict:
    """How the tests of a mutant went; `text` names the test that failed, or says why there is no verdict."""

    mutant: Mutant
    killed: bool
    text: str
    seconds: float


@dataclass(frozen=True)
class Told:
    """What one run of pytest said. `failures` are tests that failed in their own call, by no fault of others."""

    code: int
    failures: tuple[str, ...]
    passed: int
    troubles: tuple[str, ...]
    output: str


async def run(mutants: Sequence[Mutant], jobs: int) -> bool:
    """Run the tests on the whole tree, then each mutant. Prints as it goes; whether all were killed."""
    with tempfile.TemporaryDirectory(prefix="onetake-mutants-") as folder:
        whole = Path(folder) / "whole"
        shutil.copytree(ROOT, whole, ignore=_LEFT_OUT)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        print(f"{len(mutants)} mutants; first their tests on the whole tree", flush=True)
        base = await _tests(whole, tests, WHOLE_LIMIT_S)
        if base.code or not base.passed:
            print(base.output, *base.troubles, sep="\n")
            print("The tests fail on the whole tree: nothing can be said about mutants.")
            return False
        room = asyncio.Semaphore(jobs)
        verdicts = await asyncio.gather(*(_judge(mutant, whole, Path(folder), room) for mutant in mutants))
    left = [verdict for verdict in verdicts if not verdict.killed]
    print(f"{len(verdicts) - len(left)} of {len(verdicts)} killed")
    for verdict in left:
        print(f"NOT KILLED  {verdict.mutant.name}: {verdict.text}")
    return not left


async def _judge(mutant: Mutant, whole: Path, folder: Path, room: asyncio.Semaphore) -> Verdict:
    async with room:
        began, copy = time.monotonic(), Path(tempfile.mkdtemp(dir=folder)) / "copy"
        shutil.copytree(whole, copy)
        (copy / mutant.file).write_text(mutant.source(whole))
        told = await _tests(copy, mutant.tests)
        shutil.rmtree(copy)
        seconds = time.monotonic() - began
        why = f"no verdict: {'; '.join(told.troubles)}" if told.troubles else "its tests stay green"
        verdict = Verdict(mutant, bool(told.failures), next(iter(told.failures), why), seconds)
        print(
            f"{'killed' if verdict.killed else 'NOT':<7} {seconds:5.0f} s  {mutant.name:<58} {verdict.text}", flush=True
        )
        return verdict


async def _tests(copy: Path, tests: Sequence[str], limit_s: float = LIMIT_S) -> Told:
    report = copy.with_suffix(".json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin", *tests),
        cwd=copy,
        env=environment | {"PYTHONPATH": str(copy), REPORT: str(report)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return Told(1, (), 0, (f"not ended after {limit_s:.0f} s",), "")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return _told(process.returncode or 0, report, output.decode(errors="replace"))


def _told(code: int, report: Path, output: str) -> Told:
    if not report.exists():
        return Told(code or 1, (), 0, (f"pytest ended with {code}: {output.strip()[-300:]}",), output)
    entries = [Entry(*each) for each in json.loads(report.read_text())]
    failures, troubles = list[str](), list[str]()
    for entry in (each for each in entries if each.outcome == "failed"):
        clear = entry.when == "call" and not SURROUNDINGS & set(entry.kinds)
        what = f"{entry.test.rpartition('::')[2]} ({entry.when}: {entry.said})"
        (failures if clear else troubles).append(what)
    if code and not entries:
        troubles.append(f"pytest ended with {code}: {output.strip()[-300:]}")
    passed = sum(entry.outcome == "passed" for entry in entries)
    return Told(code, tuple(failures), passed, tuple(troubles), output)
