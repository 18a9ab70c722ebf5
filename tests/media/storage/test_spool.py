"""What passes through the spool is removed: at once as a rule, by the next process when its own was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onetake.core.errors import TryLater
from onetake.media.spool import PREFIX, YOUNG_S, Spool

HOLDER = """
import sys, time
from pathlib import Path
from onetake.media.spool import Spool
with Spool(Path(sys.argv[1])).new_file() as path:
    path.write_bytes(b"half a clip")
    print(path, flush=True)
    time.sleep(600)
"""


def grown_old(folder: Path) -> None:
    then = time.time() - 2 * YOUNG_S
    os.utime(folder, (then, then))


def test_a_file_is_gone_with_its_block(tmp_path: Path) -> None:
    with Spool(tmp_path).new_file() as path:
        assert not path.exists()
        path.write_bytes(b"bytes")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_holds_is_not(tmp_path: Path) -> None:
    """However long ago it began: a large clip at the least rate takes hours."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process, Spool(tmp_path).new_file() as ours:
        try:
            assert process.stdout is not None
            theirs = Path(process.stdout.readline().strip()).parent
            grown_old(theirs)
            grown_old(ours.parent)
            held = Spool(tmp_path).sweep()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert held == 0
        assert Spool(tmp_path).sweep() == 1
        assert list(tmp_path.iterdir()) == [ours.parent]


def test_what_is_not_ours_or_may_have_begun_just_now_is_left_alone(tmp_path: Path) -> None:
    begun, foreign = tmp_path / f"{PREFIX}1", tmp_path / "onetake-home"
    for folder in (begun, foreign):
        folder.mkdir()
        (folder / "lock").touch()
    grown_old(foreign)
    assert Spool(tmp_path).sweep() == 0
    assert sorted(tmp_path.iterdir()) == sorted([begun, foreign])


def test_a_spool_without_room_begins_nothing(tmp_path: Path) -> None:
    full = Spool(tmp_path, reserve_bytes=2**60)
    assert full.free_bytes == 0
    with pytest.raises(TryLater) as failure, full.new_file():
        pass
    assert failure.value.code == "spool_full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_a_spool_that_cannot_be_used_is_one_without_room(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    spool = Spool(tmp_path / place)
    with pytest.raises(TryLater) as failure, spool.new_file():
        pass
    assert failure.value.code == "spool_full"
    assert spool.sweep() == 0
