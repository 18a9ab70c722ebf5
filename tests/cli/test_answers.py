"""What every verb owes scripts and people, with nothing running: one document, the exit code, a hint."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onetake.cli import execute
from tests.cli.processes import COMMAND, Finished, bare_environment, run, run_on_a_terminal

Answered = Callable[..., Finished]

ROUTE = "apixo/wan-2.6/text-to-video"
KEY = {"ONETAKE_APIXO_API_KEY": "canary-key"}
NOWHERE = "postgresql://nobody:canary-password@127.0.0.1:1/none"
VERBS = (
    *("generate", "get", "watch", "list", "cancel", "download", "routes", "ledger"),
    *("dev", "demo", "doctor", "worker", "gateway", "simulator", "migrate", "budget set", "budget show"),
)


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answered:
    """Run a command line in this process: for the many that only need words."""
    monkeypatch.chdir(tmp_path)
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)

    def call(*words: str) -> Finished:
        code = execute(words)
        said = capsys.readouterr()
        return Finished(code, said.out, said.err)

    return call


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["generate", ROUTE, "x"], "settings_invalid", 2),
        (["generate", "apixo/wan-2.6/text-to-vidoe", "x"], "route_unknown", 3),
        (["generate", ROUTE, "x", "--duration", "99"], "request_invalid", 3),
        (["generate", ROUTE, "x" * 1501], "request_invalid", 3),
        (["generate", "apixo/wan-2.6/image-to-video", "x"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--sound"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--tenant", "Not A Tenant"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--max-cost", "nan"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--max-cost", "0.49"], "max_cost_exceeded", 3),
        (["generate", ROUTE, "x", "--duration", "five"], "usage", 2),
        (["generate", ROUTE], "usage", 2),
        (["generate", ROUTE, "x", "--timeout", "-1"], "usage", 2),
        (["get", "gen_none"], "settings_invalid", 2),
        (["watch", "gen_none"], "settings_invalid", 2),
        (["list"], "settings_invalid", 2),
        (["list", "--status", "lost"], "usage", 2),
        (["cancel", "gen_none"], "settings_invalid", 2),
        (["download", "gen_none"], "settings_invalid", 2),
        (["ledger", "gen_none"], "settings_invalid", 2),
        (["routes", "apixo/none"], "route_unknown", 3),
        (["budget", "set", "galaxy", "x", "day", "1"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "1.0000001"], "usage", 2),
        (["budget", "show"], "settings_invalid", 2),
        (["migrate"], "settings_invalid", 2),
        (["no-such-verb"], "usage", 2),
        (["get"], "usage", 2),
        (["get", "gen_none", "--no-such-option"], "usage", 2),
    ],
)
def test_every_error_is_one_document_with_its_code_and_exit_code(
    tmp_path: Path, words: list[str], code: str, exit_code: int
) -> None:
    finished = run(*words, "--json", env=bare_environment(**KEY), cwd=tmp_path)
    error = finished.document["error"]
    assert (code, exit_code) == (error["code"], finished.code)
    assert error["message"]
    assert error["hint"]
    assert "\x1b" not in finished.stdout + finished.stderr


@pytest.mark.parametrize("verb", ["get gen_x", "list", "ledger gen_x", "budget show", "migrate"])
def test_a_database_that_is_away_is_one_error_that_keeps_its_password(tmp_path: Path, verb: str) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=NOWHERE)
    finished = run(*verb.split(), "--json", env=env, cwd=tmp_path)
    assert (finished.error_code, finished.code) == ("ledger_unavailable", 9)
    assert "canary" not in finished.stdout + finished.stderr


def test_all_broken_rules_come_at_once_with_the_nearest_legal_value(tmp_path: Path) -> None:
    words = ["generate", ROUTE, "x", "--duration", "99", "--resolution", "720", "--sound", "--json"]
    finished = run(*words, env=bare_environment(**KEY), cwd=tmp_path)
    found = {each["pointer"]: each["nearest"] for each in finished.document["error"]["violations"]}
    assert found == {"/duration_s": "15", "/resolution": "720p", "/sound": None}
    assert "/duration_s: given 99" in finished.stderr


def test_a_dry_run_shows_price_plan_and_rules_and_needs_no_part(tmp_path: Path) -> None:
    words = ["generate", ROUTE, "a harbour", "--duration", "4", "--dry-run", "--json"]
    finished = run(*words, env=bare_environment(**KEY), cwd=tmp_path)
    document = finished.document
    assert finished.code == 0
    assert 400_000 == document["price"]["amount_micros"] == document["plan"]["price"]["amount_micros"]
    assert document["rules_checked"]["duration_s"] == "2 to 15"


def test_a_prompt_can_come_from_stdin(tmp_path: Path) -> None:
    words = ["generate", ROUTE, "-", "--dry-run", "--json"]
    finished = run(*words, env=bare_environment(**KEY), cwd=tmp_path, stdin="from a pipe\n")
    assert finished.document["request"]["prompt"] == "from a pipe"


def test_routes_need_nothing_and_name_their_sources(tmp_path: Path) -> None:
    listed = run("routes", "--json", env=bare_environment(), cwd=tmp_path).document["routes"]
    assert len(listed) >= 5
    one = run("routes", ROUTE, "--json", env=bare_environment(), cwd=tmp_path).document
    assert one["route"] == ROUTE
    assert one["sources"]
    assert one in listed


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("genrate", "generate"),
        ("generat", "generate"),
        ("wach", "watch"),
        ("lst", "list"),
        ("cancle", "cancel"),
        ("donwload", "download"),
        ("route", "routes"),
        ("bugdet", "budget"),
        ("leger", "ledger"),
        ("docter", "doctor"),
        ("deom", "demo"),
        ("workr", "worker"),
        ("gatway", "gateway"),
        ("simulater", "simulator"),
        ("migrat", "migrate"),
    ],
)
def test_a_misspelt_verb_is_answered_with_the_right_one(answered: Answered, typed: str, meant: str) -> None:
    assert f"Did you mean '{meant}'" in answered(typed, "--json").document["error"]["message"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["routes", "apixo/wan-2.6/txt-to-video"], ROUTE),
        (["routes", "apixo/wan2.6/text-to-video"], ROUTE),
        (["generate", "apixo/wan-2.6/image-to-vide", "x"], "apixo/wan-2.6/image-to-video"),
        (["generate", ROUTE, "x", "--duratoin", "5"], "--duration"),
        (["generate", ROUTE, "x", "--resolutoin", "720p"], "--resolution"),
        (["list", "--stats", "failed"], "--status"),
        (["list", "--status", "fail"], "failed"),
        (["budget", "set", "tenat", "x", "day", "1"], "tenant"),
        (["budget", "set", "tenant", "x", "dya", "1"], "day"),
        (["budget", "shwo"], "show"),
        (["worker", "--role", "vendor"], "vendors"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(answered: Answered, words: list[str], meant: str) -> None:
    finished = answered(*words)
    assert meant in finished.stderr
    assert finished.stdout == ""


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_two_examples(answered: Answered, verb: str) -> None:
    finished = answered(*verb.split(), "--help")
    assert finished.code == 0
    assert finished.stdout.count(f"    onetake {verb}") >= 2


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom onetake.cli import execute\nexecute(['--help'])\n"
        "heavy = {'temporalio', 'asyncpg', 'pydantic', 'rich', 'minio', 'httpx', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_without_colour_gets_no_escape_sequence(tmp_path: Path) -> None:
    for env, words in (({"NO_COLOR": "1"}, ["routes"]), ({"TERM": "dumb"}, ["routes", "apixo/none"])):
        shown = run_on_a_terminal(*words, env=bare_environment(**env), cwd=tmp_path).stdout
        assert "route" in shown
        assert "\x1b" not in shown


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "routes", "--json"],
        env=bare_environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""


def test_doctor_names_every_part_and_what_to_do(tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=NOWHERE, TEMPORAL_ADDRESS="127.0.0.1:1", **KEY)
    env |= {"ONETAKE_INSECURE_PLAINTEXT_HISTORY": "true", "ONETAKE_APIXO_BASE_URL": "http://127.0.0.1:1/api"}
    finished = run("doctor", "--json", env=env, cwd=tmp_path)
    findings = {finding["part"]: finding for finding in finished.document["findings"]}
    broken = {part for part, finding in findings.items() if finding["verdict"] == "broken"}
    assert {"temporal", "workers", "database", "bucket", "apixo"} == broken
    assert all(findings[part]["fix"] for part in broken)
    assert finished.code == 9
    assert "canary" not in finished.stdout + finished.stderr
