"""`config show` names each setting and its source, and shows no secret."""

import json
from pathlib import Path

import pytest

from onetake.cli import execute
from onetake.cli.environment import offering
from tests.cli.processes import run
from tests.cli.tree import options, verbs
from tests.faults.table import expect

SECRETS = {
    "ONETAKE_DATABASE_URL": "postgresql://u:canary-1@db.example/onetake",
    "ONETAKE_S3_SECRET_KEY": "canary-2",
    "ONETAKE_GMI_API_KEY": "canary-3",
    "ONETAKE_CODEC_OLD_KEYS": "canary-4,canary-5",
    "TEMPORAL_API_KEY": "canary-6",
    "TEMPORAL_TLS_CLIENT_KEY_DATA": "canary-7",
    "ONETAKE_S3_ENDPOINT": "http://someone:canary-8@store.example:9000",
    "TEMPORAL_GRPC_META_AUTHORIZATION": "canary-9",
    "TEMPORAL_CODEC_AUTH": "Bearer canary-10",
    "TEMPORAL_OF_A_LATER_RELEASE": "canary-11",
}


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, tuple[str | None, str]], str]:
    assert execute(["config", "show", "--json"]) == 0
    document = capsys.readouterr().out
    assert execute(["config", "show"]) == 0
    found = {each["name"]: (each["value"], each["source"]) for each in json.loads(document)}
    return found, document + capsys.readouterr().out


def test_every_setting_has_its_source_and_no_secret_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("ONETAKE_S3_BUCKET=dotted\n")
    (tmp_path / "secrets").mkdir()
    key = tmp_path / "secrets" / "onetake_apixo_api_key"
    key.write_text("canary-filed\n")
    monkeypatch.delenv("ONETAKE_APIXO_API_KEY", raising=False)
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", str(key.parent))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_PATH", "/etc/tls/key.pem")
    found, text = shown(capsys)
    assert found["ONETAKE_S3_BUCKET"] == ("dotted", ".env")
    assert found["ONETAKE_S3_REGION"] == ("us-east-1", "default")
    assert found["ONETAKE_CODEC_KEY"] == (None, "default")
    assert found["ONETAKE_APIXO_API_KEY"] == ("[masked]", str(key))
    assert found["ONETAKE_DATABASE_URL"] == ("[masked]", "environment")
    assert found["ONETAKE_S3_ENDPOINT"] == ("http://[masked]@store.example:9000", "environment")
    assert found["ONETAKE_CODEC_OLD_KEYS"] == ("[masked],[masked]", "environment")
    assert found["TEMPORAL_CODEC_AUTH"] == ("[masked]", "environment")
    assert found["TEMPORAL_TLS_CLIENT_KEY_PATH"] == ("/etc/tls/key.pem", "environment")
    leaks = "canary" in text
    expect("S70", sees="shown" if leaks else "masked, with the source of each", ledger=[], jobs=0)


def test_what_a_running_stack_offers_is_shown_as_its_files(tmp_path: Path) -> None:
    offered = {"ONETAKE_S3_BUCKET": "of the stack", "TEMPORAL_NAMESPACE": "dev"}
    (home := tmp_path / ".onetake").mkdir()
    with offering(home, offered):
        finished = run("config", "show", "--json", env={"ONETAKE_S3_REGION": "here"}, cwd=tmp_path)
    found = {each["name"]: (each["value"], each["source"]) for each in json.loads(finished.stdout)}
    assert found["ONETAKE_S3_BUCKET"] == ("of the stack", ".onetake/dev.env")
    assert found["TEMPORAL_NAMESPACE"] == ("dev", ".onetake/dev.env")
    assert found["ONETAKE_S3_REGION"] == ("here", "environment")


def test_no_verb_takes_a_secret_on_its_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Command lines are read by every user of a machine: a secret comes from the environment or a file only."""
    telling = ("api-key", "secret", "password", "database-url", "codec-key")
    offered = {flag for verb in verbs().values() for flag in options(verb) if any(word in flag for word in telling)}
    assert offered == set()
    code = execute(["worker", "--api-key", "canary-key"])
    said = capsys.readouterr()
    assert "canary" not in said.out + said.err
    expect("S69", sees=f"exit {code}, and the value is not repeated", ledger=[], jobs=0)
