"""What passes through the spool is removed: at once as a rule, an hour later when its process was killed."""

import os
import time
from pathlib import Path

from onetake import spool


def test_a_folder_is_gone_with_its_block(tmp_path: Path) -> None:
    with spool.new_folder(tmp_path) as folder:
        (Path(folder) / "clip").write_bytes(b"bytes")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_may_be_in_use_is_not(tmp_path: Path) -> None:
    left, in_use, somebodys = (tmp_path / name for name in (f"{spool.PREFIX}1", f"{spool.PREFIX}2", "onetake-home"))
    for folder in (left, in_use, somebodys):
        folder.mkdir()
        (folder / "clip").write_bytes(b"bytes")
    then = time.time() - 2 * spool.STALE_S
    for folder in (left, somebodys):
        os.utime(folder, (then, then))
    assert spool.sweep(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([in_use, somebodys])
    assert spool.sweep(tmp_path) == 0
