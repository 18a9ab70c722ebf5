"""The process that reads: what it may know, when it dies, and what its death means."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onetake.core.errors import TryLater
from onetake.media.reader import ClipProcess
from tests.media.reader.parts import LIMIT_S

CHILD = Path(sys.modules[ClipProcess.__module__].__file__ or "").with_name("reader_child.py")


def pid_of(reader: ClipProcess) -> int:
    assert reader.pid is not None
    return reader.pid


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_child_that_died_in_between_is_replaced(clips: Path) -> None:
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        first = pid_of(reader)
        os.kill(first, signal.SIGKILL)
        assert (await reader.read(clips / "silent.mp4")).width == 320
        assert pid_of(reader) != first


async def test_the_death_of_two_children_says_nothing_of_the_clip(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths, mortal = tmp_path / "deaths", tmp_path / "mortal.py"
    mortal.write_text(f"input()\nwith open({str(deaths)!r}, 'a') as file: file.write('x')\n")
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        with monkeypatch.context() as patch:
            patch.setattr("onetake.media.reader._CHILD", mortal)
            os.kill(pid_of(reader), signal.SIGKILL)
            with pytest.raises(TryLater, match="The reader died") as failure:
                await reader.read(clips / "silent.mp4")
        assert failure.value.code == "asset_unverified"
        assert deaths.read_text() in {"x", "xx"}
        assert (await reader.read(clips / "silent.mp4")).width == 320


async def test_a_child_that_hangs_is_killed_and_replaced(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        await reader.read(clips / "silent.mp4")
        hung = pid_of(reader)
        monkeypatch.setattr(reader, "_limit_s", 0.5)  # for the read that hangs, not for those of a busy machine
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(TryLater, match=r"longer than 0\.5 s") as failure:
            await reader.read(clips / "silent.mp4")
        assert failure.value.code == "asset_unverified"
        assert not alive(hung)
        monkeypatch.undo()
        await reader.start()
        assert (await reader.read(clips / "silent.mp4")).width == 320


LIMITED = """
import os, signal
input()
os.kill(os.getpid(), signal.SIGXCPU)
"""
NO_LIBRARY = "import onetake_has_no_such_library"
NONSENSE = "input()\nprint('nonsense')\ninput()"
NO_MEMORY = """
import json
input()
print(json.dumps({"code": "asset_unverified", "detail": "MemoryError"}))
input()
"""


@pytest.mark.parametrize("child", [LIMITED, NO_LIBRARY, NONSENSE, NO_MEMORY])
async def test_a_child_that_cannot_read_here_says_nothing_of_the_clip(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: str
) -> None:
    """It ran out of processor time or memory, lacks its library, or answers nonsense."""
    unable = tmp_path / "unable.py"
    unable.write_text(child)
    monkeypatch.setattr("onetake.media.reader._CHILD", unable)
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        with pytest.raises(TryLater) as failure:
            await reader.read(clips / "silent.mp4")
    assert failure.value.code == "asset_unverified"


def test_memory_that_the_child_lacks_is_ours(clips: Path) -> None:
    """The real child, when reading asks for more memory than there is."""
    question = json.dumps({"path": str(clips / "silent.mp4"), "form": "clip", "patience": 1})
    code = (
        f"import runpy\nanswer = runpy.run_path({str(CHILD)!r})['_answer']\n"
        "answer.__globals__['read_clip'] = lambda path: bytearray(1 << 45)\n"
        f"print(answer({question!r})['code'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "asset_unverified"


async def test_a_limit_that_is_too_short_is_no_verdict_and_patience_lengthens_it(clips: Path) -> None:
    async with ClipProcess(limit_s=1e-6) as reader:
        with pytest.raises(TryLater) as failure:
            await reader.read(clips / "silent.mp4")
        assert failure.value.code == "asset_unverified"
        assert (await reader.read(clips / "silent.mp4", patience=300_000_000)).width == 320


async def test_an_answer_that_nobody_waits_for_reaches_nobody_else(clips: Path) -> None:
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        await reader.read(clips / "silent.mp4")
        os.kill(pid_of(reader), signal.SIGSTOP)
        waiting = asyncio.create_task(reader.read(clips / "silent.mp4"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await reader.read(clips / "index-first.mp4")).has_audio


async def test_a_child_is_replaced_after_enough_clips(clips: Path) -> None:
    async with ClipProcess(limit_s=LIMIT_S, reads_per_child=2) as reader:
        pids: set[int] = set()
        for _ in range(4):
            await reader.start()
            pids.add(pid_of(reader))
            await reader.read(clips / "silent.mp4")
        assert len(pids) == 2


async def test_the_child_knows_no_secret_and_is_limited(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETAKE_S3_SECRET_KEY", "canary")
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        await reader.read(clips / "silent.mp4")  # it has begun, and loaded what it loads
        proc = Path(f"/proc/{pid_of(reader)}")
        assert set(_names(proc)) == {"PYTHONPATH"}
        maps = (proc / "maps").read_text()
        assert "temporalio" not in maps
        assert "asyncpg" not in maps


def _names(proc: Path) -> list[str]:
    return [entry.partition("=")[0] for entry in (proc / "environ").read_text().split("\0") if entry]


async def test_a_closed_reader_leaves_no_process(clips: Path) -> None:
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        await reader.read(clips / "silent.mp4")
        child = pid_of(reader)
    assert not alive(child)


PARENT = """
import asyncio, sys
from onetake.media.reader import ClipProcess
async def main():
    reader = ClipProcess()
    await reader.start()
    print(reader.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def test_the_child_dies_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert alive(child)
        process.kill()
    deadline = time.monotonic() + LIMIT_S
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)
