"""The real servers: what they keep, what a killed supervisor leaves, what is used as it is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from minio import Minio
from temporalio.client import Client

from onetake.dev.devstack import DevStack, DevStackError, SilentProgress, StackAddresses
from onetake.dev.devstack.postgres import wheel_binaries
from onetake.dev.devstack.processes import identity_of

LIMIT_S = 240.0  # of a hang
SUPERVISOR = """
import json, sys, time
from pathlib import Path
from onetake.dev.devstack import DevStack, SilentProgress

with DevStack(
    Path(sys.argv[1]), progress=SilentProgress(), ports="free", ephemeral="ephemeral" in sys.argv
) as stack:
    at = stack.start_servers()
    pids = {running.command.name: running.popen.pid for running in stack._supervisor.running}
    print(json.dumps({"pids": pids, "addresses": at.model_dump()}), flush=True)
    time.sleep(600)
"""


def stack_in(home: Path, environ: dict[str, str] | None = None) -> DevStack:
    return DevStack(home, progress=SilentProgress(), ports="free", environ={**os.environ, **(environ or {})})


def only(stack: DevStack, *settings: str, value: str = "") -> dict[str, str]:
    """The servers of `stack` for all but those, so that a test waits for no server it does not need."""
    return {**stack.environment(), **dict.fromkeys(settings, value)}


async def test_the_engine_answers_and_has_the_search_attributes(stack: DevStack) -> None:
    at = stack.addresses
    client = await Client.connect(at.temporal_address, namespace=at.temporal_namespace)
    assert (await client.count_workflows("TestTenant = 'x' AND TestPhase = 'y'")).count == 0


def test_database_and_objects_survive_a_restart(stack: DevStack, home: Path) -> None:
    environ = only(stack, "ONETAKE_DATABASE_URL", "ONETAKE_S3_ENDPOINT", "ONETAKE_CODEC_KEY")
    with stack_in(home, environ) as first:
        at = first.start_servers()
        sql(at, "create table kept (word text); insert into kept values ('still here')")
        store(at).fput_object(bucket_name=at.s3_bucket, object_name="clip", file_path=__file__)
        key = first.environment()["ONETAKE_CODEC_KEY"]
    with stack_in(home, environ) as second:
        at = second.start_servers()
        assert sql(at, "select word from kept") == "still here"
        assert store(at).stat_object(bucket_name=at.s3_bucket, object_name="clip").size == Path(__file__).stat().st_size
        assert key == second.environment()["ONETAKE_CODEC_KEY"]
    assert not (home / "run.json").exists()


def test_a_killed_supervisor_leaves_no_server_and_the_next_start_works(home: Path) -> None:
    with supervisor(home) as (process, pids, at):
        sql(at, "create table kept (word text); insert into kept values ('still here')")
        process.kill()
        assert all_gone(pids, within_s=LIMIT_S)
    with stack_in(home) as again:
        assert sql(again.start_servers(), "select word from kept") == "still here"


def test_the_next_start_ends_servers_that_outlived_supervisor_and_reaper(stack: DevStack, home: Path) -> None:
    environ = only(stack, "ONETAKE_DATABASE_URL", "ONETAKE_S3_ENDPOINT")
    with supervisor(home, environ=environ) as (process, pids, _):
        os.kill(reaper_of(process.pid), signal.SIGKILL)
        process.kill()
        process.wait()
        assert not all_gone(pids, within_s=0.5)
        with stack_in(home, environ) as again:
            assert all_gone(pids, within_s=0)
            again.start_servers()


def test_a_process_id_that_belongs_to_another_program_now_is_let_alone(home: Path) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        home.mkdir()
        entry = {"pid": bystander.pid, "identity": "another boot/1", "signal": int(signal.SIGTERM)}
        (home / "run.json").write_text(json.dumps({"supervisor": 1, "processes": [entry]}))
        with stack_in(home):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_lock_of_postgres_whose_process_id_went_to_another_program_does_not_stop_the_start(
    stack: DevStack, home: Path
) -> None:
    environ = only(stack, "ONETAKE_DATABASE_URL")
    with stack_in(home, environ) as first:
        first.start_servers()
    lock = home.joinpath("postgres").resolve() / "data" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n/somewhere/else\n1700000000\n5432\n\n127.0.0.1\n")
    lock.chmod(0o600)
    with stack_in(home, environ) as second:
        assert sql(second.start_servers(), "select 1") == "1"


def test_what_the_environment_names_is_used_as_it_is(stack: DevStack, home: Path) -> None:
    at = stack.addresses
    given = {**stack.environment(), "ONETAKE_TRUSTED_HOSTS": "example.test"}
    with DevStack(
        home, progress=SilentProgress(), ports="free", search_attributes=["TestLate"], environ={**os.environ, **given}
    ) as second:
        used = second.start_servers()
        assert (at.temporal_address, at.database_url, at.s3_endpoint, at.s3_secret_key) == (
            used.temporal_address,
            used.database_url,
            used.s3_endpoint,
            used.s3_secret_key,
        )
        assert second.environment()["ONETAKE_TRUSTED_HOSTS"].endswith(",example.test")
        with pytest.raises(DevStackError, match="does not run"):
            second.pid_of("postgres")


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("TEMPORAL_ADDRESS", "127.0.0.1:1", "temporal: no Temporal server answers at 127.0.0.1:1"),
        ("ONETAKE_DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/a", "postgres: nothing answers at 127.0.0.1:1"),
        ("ONETAKE_S3_ENDPOINT", "127.0.0.1:1", "s3: nothing answers at 127.0.0.1:1"),
    ],
)
def test_an_address_where_nothing_answers_is_one_clear_error(
    stack: DevStack, home: Path, setting: str, value: str, sentence: str
) -> None:
    with (
        stack_in(home, only(stack, setting, value=value)) as refused,
        pytest.raises(DevStackError, match=sentence) as failure,
    ):
        refused.start_servers()
    assert setting in failure.value.hint
    assert "secret" not in str(failure.value)


def test_an_ephemeral_home_is_gone_after_a_kill_too(stack: DevStack, home: Path) -> None:
    with supervisor(home, "ephemeral", environ=only(stack, "ONETAKE_S3_ENDPOINT")) as (process, _, _):
        process.kill()
        deadline = time.monotonic() + LIMIT_S
        while home.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not home.exists()


def test_an_ephemeral_home_is_gone_at_the_end(stack: DevStack, home: Path) -> None:
    environ = {**os.environ, **only(stack, "ONETAKE_DATABASE_URL")}
    with DevStack(home, progress=SilentProgress(), ports="free", environ=environ, ephemeral=True) as short:
        short.start_servers()
        cluster = (home / "postgres").resolve()
        assert cluster.exists()
    assert not home.exists()
    assert not cluster.exists()


def sql(at: StackAddresses, statement: str) -> str:
    psql = [wheel_binaries() / "psql", at.database_url, "-tAc", statement]
    return subprocess.run(psql, capture_output=True, text=True, check=True).stdout.strip()


def store(at: StackAddresses) -> Minio:
    return Minio(endpoint=at.s3_endpoint, access_key=at.s3_access_key, secret_key=at.s3_secret_key, secure=at.s3_secure)


@contextmanager
def supervisor(
    home: Path, *arguments: str, environ: dict[str, str] | None = None
) -> Generator[tuple[subprocess.Popen[str], list[int], StackAddresses]]:
    """A stack whose supervisor is another process, so that it can be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(home), *arguments],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield process, list(told["pids"].values()), StackAddresses.model_validate(told["addresses"])
        finally:
            process.kill()


def reaper_of(supervisor: int) -> int:
    shown = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    return next(
        int(line.split()[0])
        for line in shown.splitlines()
        if "reaper.py" in line and line.split()[1] == str(supervisor)
    )


def all_gone(pids: list[int], *, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(identity_of(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(identity_of(pid) for pid in pids)
