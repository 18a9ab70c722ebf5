"""What every verb owes scripts and people, with nothing running: one document, the exit code, a hint."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from onetake.cli import execute, routes
from onetake.dev.stack import vendor_environment
from tests.cli.processes import Finished, bare_environment, run, run_on_a_terminal
from tests.cli.tree import verbs

Answered = Callable[..., Finished]

ROUTE = "apixo/wan-2.6/text-to-video"
KEY = {"ONETAKE_APIXO_API_KEY": "canary-key"}
NOWHERE = "postgresql://nobody:canary-password@127.0.0.1:1/none"


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answered:
    """Run a command line in this process: for the many that only need words."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ.keys() - bare_environment().keys():
        monkeypatch.delenv(name)
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)

    def call(*words: str) -> Finished:
        code = execute(words)
        said = capsys.readouterr()
        return Finished(code, said.out, said.err)

    return call


def _is_told(finished: Finished, code: str, exit_code: int) -> None:
    error = finished.document["error"]
    assert (code, exit_code) == (error["code"], finished.code)
    assert error["message"]
    assert error["hint"]
    assert "\x1b" not in finished.stdout + finished.stderr


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["generate", "apixo/wan-2.6/text-to-vidoe", "x"], "route_unknown", 3),
        (["generate", ROUTE, "x", "--duration", "99"], "request_invalid", 3),
        (["generate", ROUTE, "x" * 1501], "request_invalid", 3),
        (["generate", "apixo/wan-2.6/image-to-video", "x"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--sound"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--tenant", "Not A Tenant"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--max-cost", "nan"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--quote", "quo_none"], "request_invalid", 3),
        (["generate", ROUTE, "x", "--duration", "five"], "usage", 2),
        (["generate", ROUTE], "usage", 2),
        (["generate", ROUTE, "x", "--timeout", "-1"], "usage", 2),
        (["list", "--status", "lost"], "usage", 2),
        (["replay", "regenerate", "--vendor", "gmi", "--since", ""], "usage", 2),
        (["replay", "regenerate", "--vendor", "gmi", "--tenant", ""], "usage", 2),
        (["replay", "regenerate", "--since", "0001-01-01T00:00+14:00"], "usage", 2),
        (["prune", "--days", "3000000000"], "usage", 2),
        (["list", "--vendor", "nope"], "usage", 2),
        (["routes", "apixo/none"], "route_unknown", 3),
        (["budget", "set", "galaxy", "x", "day", "1"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "1.0000001"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "much"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "$-1"], "usage", 2),
        (["budget", "set", "tenant", "x", "week", "1"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "1", "--thresholds", "50,101"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "1", "--thresholds", "half"], "usage", 2),
        (["budget", "set", "tenant", "x", "day", "1", "--thresholds", "1_0"], "usage", 2),
        (["budget", "set", "tenant", os.fsdecode(b"\xff"), "day", "1"], "usage", 2),
        (["budget", "remove", "galaxy", "x", "day"], "usage", 2),
        (["budget", "remove", "tenant", "x", "week"], "usage", 2),
        (["generate", ROUTE, "x", "--label", "no-value"], "usage", 2),
        (["generate", ROUTE, "x", "--label", "a=b", "--label", "a=c"], "usage", 2),
        (["vendors", "reopen", "nobody"], "usage", 2),
        (["vendors", "check", "nobody"], "usage", 2),
        (["vendors", "check", "apixo", "--against", "http://127.0.0.1:1"], "usage", 2),
        (["no-such-verb"], "usage", 2),
        (["get"], "usage", 2),
        (["get", "gen_none", "--no-such-option"], "usage", 2),
    ],
)
def test_every_error_is_one_document_with_its_code_and_exit_code(
    answered: Answered, words: list[str], code: str, exit_code: int
) -> None:
    _is_told(answered(*words, "--json"), code, exit_code)


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["generate", ROUTE, "x"], "settings_invalid", 2),
        (["generate", ROUTE, "x", "--dry-run"], "settings_invalid", 2),
        (["get", "gen_none"], "settings_invalid", 2),
        (["watch", "gen_none"], "settings_invalid", 2),
        (["list"], "settings_invalid", 2),
        (["cancel", "gen_none"], "settings_invalid", 2),
        (["download", "gen_none"], "settings_invalid", 2),
        (["ledger", "gen_none"], "settings_invalid", 2),
        (["budget", "remove", "tenant", "x", "day"], "settings_invalid", 2),
        (["budget", "show"], "settings_invalid", 2),
        (["vendors", "list"], "settings_invalid", 2),
        (["migrate"], "settings_invalid", 2),
    ],
)
def test_so_is_one_of_a_command_that_has_begun_its_work(
    tmp_path: Path, words: list[str], code: str, exit_code: int
) -> None:
    _is_told(run(*words, "--json", env=bare_environment(**KEY), cwd=tmp_path), code, exit_code)


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
        (["vendors", "chek"], "check"),
        (["vendors", "check", "apxio"], "apixo"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(answered: Answered, words: list[str], meant: str) -> None:
    finished = answered(*words)
    assert meant in finished.stderr
    assert finished.stdout == ""


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_explains_itself_with_two_examples(answered: Answered, verb: str) -> None:
    finished = answered(*verb.split(), "--help")
    assert finished.code == 0
    assert finished.stdout.count(f"    onetake {verb}") >= 2


@pytest.mark.parametrize("verb", ["worker --health-port", "gateway --port", "gateway --codec-port", "simulator --port"])
@pytest.mark.parametrize("port", ["99999", "65536"])
def test_a_port_that_there_cannot_be_is_a_usage_error(answered: Answered, verb: str, port: str) -> None:
    finished = answered(*verb.split(), port)
    assert finished.code == 2
    assert finished.stderr.startswith("usage: ")
    assert "65535" in finished.stderr


@pytest.mark.parametrize(("words", "code"), [([], 0), (["budget"], 2), (["vendors"], 2)])
def test_a_group_without_a_verb_shows_its_help_as_it_is(answered: Answered, words: list[str], code: int) -> None:
    finished = answered(*words)
    shown = finished.stdout if code == 0 else finished.stderr
    assert finished.code == code
    assert shown.startswith("Usage: onetake")
    assert "cannot be read" not in shown


def test_the_version_is_one_line(answered: Answered) -> None:
    finished = answered("--version")
    assert (finished.code, finished.stdout) == (0, f"onetake {version('onetake')}\n")


def _unshowable(*_: object) -> dict[str, object]:
    return {"route": object()}


def test_an_answer_that_cannot_be_shown_is_one_error(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_document", _unshowable)
    finished = answered("routes", "--json")
    assert (finished.error_code, finished.code) == ("internal_error", 1)


def test_prices_are_shown_with_their_first_day_and_what_is_to_come(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = f'[[price]]\nroute = "{ROUTE}"\nvalid_from = 2999-01-01\nusd_per_second = {{ 720p = "1" }}\n'
    (tmp_path / "prices.toml").write_text(f'{prices}source = "contract 12"\n')
    monkeypatch.setenv("ONETAKE_PRICES", str(tmp_path / "prices.toml"))
    document = answered("routes", ROUTE, "--prices", "--json").document
    now, other = document["prices"]
    assert (now["amount_micros"], now["valid_from"], now["source"]) == (200_000, "2026-11-20", "M, Billing")
    assert now["version"] == f"{document['version']}/2026-11-20"
    (change,) = now["changes"]
    assert (change["amount_micros"], change["valid_from"], change["source"]) == (2_000_000, "2999-01-01", "contract 12")
    assert (other["resolution"], other["changes"]) == ("1080p", [])
    assert len(answered("routes", "--prices", "--json").document["prices"]) > len(document["prices"])
    assert "2999-01-01" in answered("routes", ROUTE, "--prices").stdout
    monkeypatch.setenv("ONETAKE_PRICES", str(tmp_path / "none.toml"))
    assert answered("routes", "--prices", "--json").error_code == "settings_invalid"


def test_one_route_shows_every_rule_with_its_source(answered: Answered) -> None:
    shown = answered("routes", "apixo/wan-2.6/reference-to-video-flash").stdout
    for text in (
        "duration_s       2 to 10; 2 when not given [",
        "references       1 to 5 (images up to 5, videos up to 3) [M: as reference-to-video]",
        "image file       jpeg, png, bmp, webp; up to 20 MB; 240 to 8000 pixels a side; no transparency [",
        "sound            true or false; false when not given [",
        "one clip         2 s, 1080p, sound: $0.32 (",
        "callbacks        yes",
        "status reads     the first after 45 s, then every 10 s, growing to 15 s",
        "a result lives   not documented",
    ):
        assert text in shown
    assert "not known (Set [usd_per_second" in answered("routes", "gmi/wan-2.6/text-to-video").stdout


def test_a_price_that_is_configured_is_not_asked_for(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_credit, undocumented = "wan26ai/wan-2.6/text-to-video", "gmi/wan-2.6/text-to-video"
    assert "set [credits]" in answered("routes", by_credit).stdout
    prices = f'[credits]\nwan26ai = "0.01"\n[usd_per_second."{undocumented}"]\n720p = "0.1"\n1080p = "0.2"\n'
    (tmp_path / "prices.toml").write_text(prices)
    monkeypatch.setenv("ONETAKE_PRICES", str(tmp_path / "prices.toml"))
    assert "1 credit is $0.01 (ONETAKE_PRICES)" in answered("routes", by_credit).stdout
    shown = [answered("routes", each).stdout for each in (by_credit, undocumented)]
    assert not [each for each in shown if "in the file ONETAKE_PRICES names" in each]


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


def test_doctor_names_every_part_and_what_to_do(tmp_path: Path) -> None:
    env = bare_environment(ONETAKE_DATABASE_URL=NOWHERE, TEMPORAL_ADDRESS="127.0.0.1:1", **KEY)
    env |= {"ONETAKE_INSECURE_PLAINTEXT_HISTORY": "true", "ONETAKE_APIXO_BASE_URL": "http://127.0.0.1:1/api"}
    finished = run("doctor", "--json", env=env, cwd=tmp_path)
    findings = {finding["part"]: finding for finding in finished.document["findings"]}
    broken = {part for part, finding in findings.items() if finding["verdict"] == "broken"}
    of_temporal, of_the_database = (
        {"temporal", "codec", "workers", "versions", "schedule"},
        {"database", "connections", "durability", "passes", "money", "prices", "backups", "pauses"},
    )
    assert {*of_temporal, *of_the_database, "runs", "bucket", "apixo"} == broken
    assert {"aivideoapi", "gmi", "gptimage2", "wan26ai"} <= findings.keys() - broken
    assert all(findings[part]["fix"] for part in broken)
    assert findings["announced"]["verdict"] == "absent"
    assert "ONETAKE_CALLBACK_BASE_URL" in findings["announced"]["fix"]
    assert finished.code == 9
    assert "canary" not in finished.stdout + finished.stderr


def test_doctor_shows_the_same_to_people(tmp_path: Path) -> None:
    keys = {"ONETAKE_GMI_API_KEY": "canary-key", "ONETAKE_GMI_BASE_URL": "http://192.0.2.1/api"}
    finished = run("doctor", env=bare_environment(**keys), cwd=tmp_path)
    lines = {line[4:].split()[0]: line for line in finished.stdout.splitlines() if not line.startswith("    ")}
    assert lines["packages"].startswith("ok")
    assert lines["apixo"].startswith("--  apixo       no key for https://api.apixo.ai")
    assert lines["gmi"].startswith("!!")
    assert "ONETAKE_GMI_BASE_URL must be https" in lines["gmi"]
    assert "canary" not in finished.stdout + finished.stderr


def test_doctor_says_which_routes_have_no_price(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        host = f"127.0.0.1:{somebody.getsockname()[1]}"
        env = bare_environment(
            ONETAKE_GMI_API_KEY="key", ONETAKE_GMI_BASE_URL=f"http://{host}", ONETAKE_TRUSTED_HOSTS=host
        )
        finished = run("doctor", "--json", env=env, cwd=tmp_path)
    (gmi,) = [finding for finding in finished.document["findings"] if finding["part"] == "gmi"]
    assert (gmi["verdict"], gmi["code"]) == ("warning", "route_without_price")
    assert "no price for text-to-video, image-to-video, reference-to-video" in gmi["found"]
    assert "ONETAKE_PRICES" in gmi["fix"]


SIMULATOR = "http://127.0.0.1:8090"


@pytest.mark.parametrize(
    ("given", "callbacks"),
    [
        ({}, None),
        ({"ONETAKE_GMI_BASE_URL": "http://127.0.0.1:9000/gmi"}, None),
        ({"ONETAKE_GMI_BASE_URL": "https://console.gmicloud.ai"}, ""),
        ({"ONETAKE_GMI_BASE_URL": "https://x.example", "ONETAKE_CALLBACK_BASE_URL": "https://us.example"}, None),
    ],
)
def test_a_vendor_elsewhere_is_never_given_a_loopback_callback(given: dict[str, str], callbacks: str | None) -> None:
    vendors, simulate = vendor_environment(given, SIMULATOR)
    assert simulate
    assert vendors.get("ONETAKE_CALLBACK_BASE_URL") == callbacks
    assert vendors["ONETAKE_APIXO_BASE_URL"].startswith(SIMULATOR)
    assert ("ONETAKE_GMI_BASE_URL" in vendors) == ("ONETAKE_GMI_BASE_URL" not in given)
