"""A process that leaves at once keeps what it said, and its exit code."""

import subprocess
import sys


def test_leaving_flushes_and_gives_the_exit_code() -> None:
    program = "from onetake.core.leaving import leave; print('said'); leave(6)"
    left = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240)
    assert (left.returncode, left.stdout) == (6, "said\n")


def test_a_process_without_stdout_leaves_with_its_exit_code() -> None:
    program = "import sys; sys.stdout = None; from onetake.core.leaving import leave; leave(6)"
    left = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240)
    assert (left.returncode, left.stderr) == (6, "")
