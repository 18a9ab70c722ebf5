"""The verbs against a running stack, as real processes."""

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onetake.core.names import SearchAttribute
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
    (tmp_path / "clips").mkdir()
    fetched = cli("download", generation_id, "-o", "clips/one.mp4", "--json")
    assert (fetched.code, fetched.document["path"]) == (0, "clips/one.mp4")
    clip = (tmp_path / "clips" / "one.mp4").read_bytes()
    assert asset["sha256"] == hashlib.sha256(clip).hexdigest()
    watched = cli("watch", generation_id, "--json")
    assert (watched.code, watched.document["status"]) == (0, "completed")
    canceled = cli("cancel", generation_id, "--json")
    assert (canceled.code, canceled.document["status"]) == (0, "completed")


def test_the_search_attributes_can_be_made_again(cli: Cli) -> None:
    made = cli("attributes", "--json")
    assert (made.code, made.document["search_attributes"]) == (0, list(SearchAttribute.ALL))
    assert cli("attributes", TEMPORAL_ADDRESS="127.0.0.1:1").code == 9


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
    if words:
        assert cli("budget", "set", "feature", "exits/poor", "total", "0.01", "--json").code == 0
    finished = cli("generate", ROUTE, unique(prompt), "--tenant", "exits", *words, "--json")
    assert ("failed", code, exit_code) == (
        finished.document["status"],
        finished.document["error"]["code"],
        finished.code,
    )
    assert finished.document["error"]["hint"]


def test_a_repeated_key_of_what_has_failed_says_that_it_starts_nothing_new(cli: Cli) -> None:
    assert cli("budget", "set", "feature", "exits/poor", "total", "0.01", "--json").code == 0
    key = unique("key").replace(" ", "-")
    words = ("generate", ROUTE, "no money again", "--tenant", "exits", "--feature", "poor", "--idempotency-key", key)
    first, again = cli(*words, "--json"), cli(*words, "--json")
    assert (first.document["replayed"], again.document["replayed"]) == (False, True)
    assert first.document["id"] == again.document["id"]
    assert (first.code, again.code) == (4, 4)
    assert "It had ended as failed (budget_exceeded): this key starts nothing new" in again.stderr
    assert "starts nothing new" not in first.stderr


def test_a_budget_is_set_and_shown_to_the_micro(cli: Cli) -> None:
    assert cli("budget", "set", "tenant", "thrifty", "month", "12.345678").code == 0
    budgets = cli("budget", "show", "--json").document["budgets"]
    assert [each["limit_micros"] for each in budgets if each["key"] == "thrifty"] == [12_345_678]
    assert "$12.345678" in cli("budget", "show").stdout


def test_a_wait_that_is_over_leaves_the_generation_alone(cli: Cli, stack: Stack) -> None:
    with stack.no_clip_stored():
        finished = cli("generate", ROUTE, unique("slow"), "--duration", "2", "--timeout", "0.5", "--json")
    assert (finished.error_code, finished.code) == ("wait_timed_out", 6)
    generation_id = finished.document["id"]
    assert generation_id in finished.document["error"]["hint"]
    assert cli("watch", generation_id, "--json").code == 0


def test_ctrl_c_ends_the_wait_at_once_and_not_the_generation(cli: Cli, stack: Stack, tmp_path: Path) -> None:
    words = [*COMMAND, "generate", ROUTE, unique("slow"), "--duration", "2", "--json"]
    with (
        stack.no_clip_stored(),
        subprocess.Popen(
            words, env=stack.environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stderr
        line = process.stderr.readline()
        while "generating" not in line and "persisting" not in line:
            assert line, "it ends before its generation renders"
            line = process.stderr.readline()
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


def test_a_cancel_is_answered_with_how_it_stands(cli: Cli, stack: Stack) -> None:
    with stack.no_clip_stored():
        started = cli("generate", ROUTE, unique("not wanted"), "--duration", "2", "--detach", "--json")
        asked = cli("cancel", started.document["id"], "--json")
    assert asked.code == 0
    assert asked.document["cancel_requested"] or asked.document["status"] == "canceled"
    ended = cli("watch", started.document["id"], "--json")
    assert (ended.code, ended.document["status"]) == (1, "canceled")


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


def test_a_vendor_whose_callback_came_is_shown_to_send_them(cli: Cli) -> None:
    assert cli("generate", ROUTE, unique("announced"), "--duration", "2", "--json").code == 0
    deadline, callbacks = time.monotonic() + LIMIT_S, dict[str, Any]()
    # It may come after our own read, and so may another one's, of which another test has left the job.
    while (callbacks.get("state"), callbacks.get("unannounced")) != ("arriving", 0) and time.monotonic() < deadline:
        rows = cli("vendors", "list", "--json").document["vendors"]
        callbacks = {row["vendor"]: row["callbacks"] for row in rows}[ROUTE.split("/")[0]]
    assert (callbacks["state"], callbacks["unannounced"]) == ("arriving", 0)


# Another test of this process may have made a vendor silent, dear or paused, or left a run that nobody serves any more.
OF_OTHER_TESTS = ("announced", "prices", "pauses", "runs")


def test_doctor_finds_a_healthy_stack_healthy(cli: Cli) -> None:
    finished = cli("doctor", "--json")
    findings = {finding["part"]: finding for finding in finished.document["findings"]}
    left = [findings.pop(part) for part in OF_OTHER_TESTS]
    assert findings.pop("durability")["verdict"] == "warning", "the tests' server does not flush"
    assert findings.pop("backups")["code"] == "backup_not_noted", "nobody backs the tests' server up"
    # On a busy machine a part may be slow, which is said and is no fault; the first pass may be still to come.
    others = {
        part: each for part, each in findings.items() if each["verdict"] != "fine" and "slow: " not in each["found"]
    }
    assert finished.code in {0, *(each["exit_code"] for each in left)}
    assert others.keys() <= {"passes", "schedule"}, others
    assert all("none yet" in each["found"] or "goes on" in each["found"] for each in others.values())


def test_a_terminal_sees_one_moving_line(stack: Stack, tmp_path: Path) -> None:
    words = ["generate", ROUTE, unique("[[sim:delay=1]]"), "--duration", "2"]
    finished = run_on_a_terminal(*words, env=stack.environment | {"TERM": "xterm"}, cwd=tmp_path)
    assert finished.code == 0
    assert "\r\x1b[K" in finished.stdout
    plain = run_on_a_terminal("list", env=stack.environment | {"NO_COLOR": "1"}, cwd=tmp_path)
    assert "\x1b" not in plain.stdout
