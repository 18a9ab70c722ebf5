"""The verbs against a running stack, as real processes."""

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import COMMAND, LIMIT_S, Finished, run, run_on_a_terminal
from tests.system.harness import ROUTE, Stack, unique

Cli = Callable[..., Finished]


@pytest.fixture
def cli(stack: Stack, tmp_path: Path) -> Cli:
    """Run a verb in the stack's environment; keywords replace variables."""

    def call(*words: str, **env: str) -> Finished:
        return run(*words, env=stack.environment | env, cwd=tmp_path)

    return call


def test_a_clip_from_start_to_file(cli: Cli, tmp_path: Path) -> None:
    made = cli("generate", ROUTE, unique("a harbour"), "--duration", "2", "--tenant", "cli", "--json")
    assert (made.code, made.document["status"]) == (0, "completed")
    assert "generating" in made.stderr
    assert "\x1b" not in made.stderr
    generation_id, asset = made.document["id"], made.document["assets"][0]
    assert asset["url"].startswith("http://")

    shown = cli("get", generation_id, "--json")
    assert (0, asset["sha256"]) == (shown.code, shown.document["assets"][0]["sha256"])
    assert generation_id in [each["id"] for each in cli("list", "--tenant", "cli", "--json").document["generations"]]
    entries = cli("ledger", generation_id, "--json").document["entries"]
    assert [(each["kind"], each["amount_micros"]) for each in entries] == [("hold", 200_000), ("post", 200_000)]
    fetched = cli("download", generation_id, "-o", "clips/one.mp4", "--json")
    assert (fetched.code, fetched.document["path"]) == (0, "clips/one.mp4")
    clip = (tmp_path / "clips" / "one.mp4").read_bytes()
    assert asset["sha256"] == hashlib.sha256(clip).hexdigest()
    watched = cli("watch", generation_id, "--json")
    assert (watched.code, watched.document["status"]) == (0, "completed")
    canceled = cli("cancel", generation_id, "--json")
    assert (canceled.code, canceled.document["status"]) == (0, "completed")


@pytest.mark.parametrize(
    ("prompt", "words", "code", "exit_code"),
    [
        ("[[sim:reject=400]]", [], "vendor_rejected", 5),
        ("[[sim:reject=402]]", [], "vendor_account_empty", 5),
        ("[[sim:fail=ModelError]]", [], "vendor_failed", 1),
        ("no money", ["--feature", "poor"], "budget_exceeded", 4),
    ],
)
def test_a_generation_that_failed_is_an_answer_with_its_own_exit_code(
    cli: Cli, prompt: str, words: list[str], code: str, exit_code: int
) -> None:
    assert cli("budget", "set", "feature", "exits/poor", "total", "0.01", "--json").code == 0
    finished = cli("generate", ROUTE, unique(prompt), "--tenant", "exits", *words, "--json")
    assert ("failed", code, exit_code) == (
        finished.document["status"],
        finished.document["error"]["code"],
        finished.code,
    )
    assert finished.document["error"]["hint"]


def test_a_budget_is_set_and_shown_to_the_micro(cli: Cli) -> None:
    assert cli("budget", "set", "tenant", "thrifty", "month", "12.345678").code == 0
    budgets = cli("budget", "show", "--json").document["budgets"]
    assert [each["limit_micros"] for each in budgets if each["key"] == "thrifty"] == [12_345_678]
    assert "$12.345678" in cli("budget", "show").stdout


def test_a_wait_that_is_over_leaves_the_generation_alone(cli: Cli) -> None:
    prompt = unique("[[sim:delay=4]] slow")
    finished = cli("generate", ROUTE, prompt, "--timeout", "0.5", "--json")
    assert (finished.error_code, finished.code) == ("wait_timed_out", 6)
    generation_id = finished.document["id"]
    assert generation_id in finished.document["error"]["hint"]
    assert cli("watch", generation_id, "--json").code == 0


def test_ctrl_c_ends_the_wait_at_once_and_not_the_generation(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    words = [*COMMAND, "generate", ROUTE, unique("[[sim:delay=4]] slow"), "--json"]
    with subprocess.Popen(
        words, env=stack.environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        while "generating" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert process.stdout
        document: dict[str, Any] = json.loads(process.stdout.read())
        said = process.stderr.read()
    assert document["error"]["code"] == "interrupted"
    assert f"onetake watch {document['id']}" in said
    assert cli("watch", document["id"], "--json").document["status"] == "completed"


def test_the_same_key_starts_one_generation(cli: Cli) -> None:
    key, prompt = unique("key").replace(" ", "-"), unique("once")
    first = cli("generate", ROUTE, prompt, "--idempotency-key", key, "--detach", "--json")
    again = cli("generate", ROUTE, prompt, "--idempotency-key", key, "--json")
    other = cli("generate", ROUTE, f"{prompt}!", "--idempotency-key", key, "--json")
    assert (first.code, again.code, other.code) == (0, 0, 3)
    assert first.document["id"] == again.document["id"]
    assert other.error_code == "idempotency_key_reused"


def test_a_start_that_died_after_its_row_is_finished_by_its_key(cli: Cli) -> None:
    words = ["generate", ROUTE, unique("cut"), "--idempotency-key", unique("cut").replace(" ", "-"), "--json"]
    died = cli(*words, ONETAKE_CRASH="accept.after_commit")
    assert (died.code, died.stdout) == (-signal.SIGKILL, "")
    finished = cli(*words)
    assert (finished.code, finished.document["status"]) == (0, "completed")
    assert "was started before with this key" in finished.stderr


def test_a_cancel_is_answered_with_how_it_stands(cli: Cli) -> None:
    started = cli("generate", ROUTE, unique("[[sim:never]]"), "--deadline", "20", "--detach", "--json")
    asked = cli("cancel", started.document["id"], "--json")
    assert asked.code == 0
    assert asked.document["cancel_requested"] or asked.document["status"] == "canceled"
    ended = cli("watch", started.document["id"], "--json")
    assert ended.document["status"] in ("canceled", "failed")
    assert ended.code == 1


@pytest.mark.parametrize("verb", ["get", "watch", "cancel", "download", "ledger"])
def test_an_unknown_id_is_one_clear_error(cli: Cli, verb: str) -> None:
    finished = cli(verb, "gen_01a1fd28-ae4e-7375-ae58-309ca055df54", "--json")
    assert (finished.error_code, finished.code) == ("generation_not_found", 3)


def test_another_tenants_generation_looks_like_none(cli: Cli) -> None:
    started = cli("generate", ROUTE, unique("x"), "--tenant", "owner", "--detach", "--json")
    finished = cli("get", started.document["id"], "--tenant", "stranger", "--json")
    assert (finished.error_code, finished.code) == ("generation_not_found", 3)


def test_without_temporal_nothing_is_accepted(cli: Cli) -> None:
    finished = cli("generate", ROUTE, "x", "--tenant", "unlucky", "--json", TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (finished.error_code, finished.code) == ("engine_unavailable", 9)
    assert cli("list", "--tenant", "unlucky", "--json").document["generations"] == []


def test_without_the_bucket_a_download_says_so(cli: Cli) -> None:
    made = cli("generate", ROUTE, unique("x"), "--duration", "2", "--json")
    finished = cli("download", made.document["id"], "--json", ONETAKE_S3_ENDPOINT="127.0.0.1:1")
    assert (finished.error_code, finished.code) == ("storage_unavailable", 9)


def test_doctor_finds_a_healthy_stack_healthy(cli: Cli) -> None:
    finished = cli("doctor", "--json")
    wrong = [finding for finding in finished.document["findings"] if finding["verdict"] != "fine"]
    assert (finished.code, wrong) == (0, [])


def test_a_terminal_sees_one_moving_line(stack: Stack, tmp_path: Path) -> None:
    words = ["generate", ROUTE, unique("[[sim:delay=1]]"), "--duration", "2"]
    finished = run_on_a_terminal(*words, env=stack.environment | {"TERM": "xterm"}, cwd=tmp_path)
    assert finished.code == 0
    assert "\r\x1b[K" in finished.stdout
    plain = run_on_a_terminal("list", env=stack.environment | {"NO_COLOR": "1"}, cwd=tmp_path)
    assert "\x1b" not in plain.stdout
