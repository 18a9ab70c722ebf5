"""What the verbs about builds say before they ask any server."""

import json

import pytest

from onetake.cli import execute
from onetake.engine.versioning import build_id


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONETAKE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("ONETAKE_INSECURE_PLAINTEXT_HISTORY", "true")


def test_a_worker_prints_the_build_of_its_code_and_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["worker", "--print-build-id"]) == 0
    assert capsys.readouterr().out == f"{build_id()}\n"


@pytest.mark.parametrize("variable", ["TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID"])
def test_a_worker_with_half_a_version_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "w1")
    assert execute(["worker", "--role", "orchestrate"]) == 2
    assert f"{variable} is set without" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["status"], ["current", "w1"], ["current", "--none"], ["ramp", "w1", "--percent", "5"], ["drain", "w1"]]
)
def test_without_a_deployment_each_verb_says_what_to_name(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert execute(["deploy", *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "settings_invalid"
    assert "--deployment" in error["message"]


@pytest.mark.parametrize(
    "words",
    [["current"], ["current", ""], ["current", "w1", "--none"], ["ramp", " ", "--percent", "5"], ["drain", ""]],
)
def test_a_build_is_named_or_said_to_be_none(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert execute(["deploy", *words, "--deployment", "onetake", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "usage"
    assert "build" in error["message"]


def test_a_share_is_between_0_and_100(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["deploy", "ramp", "w1", "--percent", "101", "--deployment", "onetake", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"
