"""What passes through the spool is removed: at once as a rule, an hour later when its process was killed."""

import os
import time
from pathlib import Path

from onetake.media.spool import PREFIX, STALE_S, Spool


def test_a_file_is_gone_with_its_block(tmp_path: Path) -> None:
    with Spool(tmp_path).new_file() as path:
        assert not path.exists()
        path.write_bytes(b"bytes")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_may_be_in_use_is_not(tmp_path: Path) -> None:
    left, in_use, somebodys = (tmp_path / name for name in (f"{PREFIX}1", f"{PREFIX}2", "onetake-home"))
    for folder in (left, in_use, somebodys):
        folder.mkdir()
        (folder / "clip").write_bytes(b"bytes")
    then = time.time() - 2 * STALE_S
    for folder in (left, somebodys):
        os.utime(folder, (then, then))
    assert Spool(tmp_path).sweep() == 1
    assert sorted(tmp_path.iterdir()) == sorted([in_use, somebodys])
    assert Spool(tmp_path).sweep() == 0
