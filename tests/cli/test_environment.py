"""How another terminal finds the stack of `onetake dev`: all of it or nothing, and only while it lives."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from onetake.cli.environment import FILE_NAME, adopt_dev_stack, offering

OFFERED = {"ONETAKE_DATABASE_URL": "postgresql://one", "TEMPORAL_ADDRESS": "127.0.0.1:7233", "ONETAKE_X": "it's $HOME"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.chdir(tmp_path)


def adopted(home: Path, **given: str) -> dict[str, str]:
    environ = dict(given)
    adopt_dev_stack(home, environ)
    return environ


def test_a_living_stack_is_adopted_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with offering(tmp_path, OFFERED):
        assert adopted(tmp_path) == OFFERED
    assert "Using the stack" in capsys.readouterr().err


def test_a_shell_reads_the_same_values(tmp_path: Path) -> None:
    with offering(tmp_path, OFFERED) as file:
        script = f'. {file}; printf %s "$ONETAKE_X"'
        said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert OFFERED["ONETAKE_X"] == said.stdout


def test_nothing_is_adopted_once_the_stack_has_ended(tmp_path: Path) -> None:
    with offering(tmp_path, OFFERED):
        pass
    assert adopted(tmp_path) == {}


def test_what_a_killed_stack_left_behind_is_not_adopted(tmp_path: Path) -> None:
    program = (
        "import time; from pathlib import Path; from onetake.cli.environment import offering\n"
        f"with offering(Path({str(tmp_path)!r}), {OFFERED!r}):\n print('ready', flush=True); time.sleep(3600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert adopted(tmp_path) == OFFERED
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / FILE_NAME).exists()
    assert adopted(tmp_path) == {}


def test_a_variable_with_another_value_keeps_the_whole_stack_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = {"ONETAKE_DATABASE_URL": "postgresql://production"}
    with offering(tmp_path, OFFERED):
        assert mine == adopted(tmp_path, **mine)
    said = capsys.readouterr().err
    assert "ONETAKE_DATABASE_URL" in said
    assert "production" not in said


def test_a_dotenv_with_another_value_keeps_the_whole_stack_out(tmp_path: Path) -> None:
    Path(".env").write_text("TEMPORAL_ADDRESS=elsewhere:7233\n")
    with offering(tmp_path, OFFERED):
        assert adopted(tmp_path) == {}


def test_equal_variables_do_not_keep_it_out(tmp_path: Path) -> None:
    with offering(tmp_path, OFFERED):
        assert adopted(tmp_path, TEMPORAL_ADDRESS=OFFERED["TEMPORAL_ADDRESS"]) == OFFERED


def test_the_file_is_for_its_owner_only_and_ignored_otherwise(tmp_path: Path) -> None:
    with offering(tmp_path, OFFERED) as file:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        file.chmod(0o644)
        assert adopted(tmp_path) == {}
