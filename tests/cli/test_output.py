"""A stdout or stderr that is closed, full, or that nobody reads to its end."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.processes import COMMAND, LIMIT_S, bare_environment

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["routes", "--json"], 0),
        (["routes"], 0),
        (["--help"], 0),
        (["routes", "apixo/none", "--json"], 3),
        (["doctor"], 9),
    ],
)
def test_a_reader_that_stops_early_changes_no_exit_code(tmp_path: Path, words: list[str], code: int) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=NOWHERE, ONETAKE_INSECURE_PLAINTEXT_HISTORY="true")
    env |= {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
    with subprocess.Popen(
        [*COMMAND, *words], env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        said = process.stderr.read().decode()
        assert process.wait(LIMIT_S) == code
    assert said == "" if code != 3 else said.startswith("route_unknown")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["routes", "--json"], ["routes"], ["--help"], []])
def test_a_full_disk_is_one_error_with_an_exit_code_of_its_own(
    tmp_path: Path, words: list[str], unbuffered: str
) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*COMMAND, *words],
            env=bare_environment(PYTHONUNBUFFERED=unbuffered),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 10
    assert [line.partition(":")[0] for line in done.stderr.splitlines() if line[0] != " "] == ["answer_not_written"]
    assert "No space left on device" in done.stderr


def test_an_error_on_a_full_disk_is_told_all_the_same(tmp_path: Path) -> None:
    line = " ".join([*COMMAND, "routes", "apixo/none", "--json", ">/dev/full"])
    done = _in_a_shell(line, tmp_path)
    assert done.returncode == 10
    assert done.stderr.startswith("route_unknown")
    assert "answer_not_written" in done.stderr


@pytest.mark.parametrize(
    ("streams", "words", "code"),
    [
        (">&-", ["routes"], 0),
        (">&-", ["routes", "--json"], 0),
        (">&- 2>&-", ["routes", "apixo/none"], 3),
        ("2>/dev/full", ["routes", "apixo/none"], 3),
    ],
)
def test_a_closed_stream_is_no_crash(tmp_path: Path, streams: str, words: list[str], code: int) -> None:
    done = _in_a_shell(" ".join([*COMMAND, *words, streams]), tmp_path)
    assert (done.returncode, done.stderr) == (code, "")


def _in_a_shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line], env=bare_environment(), cwd=cwd, stderr=subprocess.PIPE, text=True, check=False
    )
