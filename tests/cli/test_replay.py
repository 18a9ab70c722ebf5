"""The verbs replay, suspense and reconcile, as real processes against a running stack."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from onetake.cli.answer import Stopped, problem_of
from onetake.cli.replays import answer_of_recovery
from onetake.client import Onetake
from onetake.core.contracts import ErrorInfo, GenerationRecord, Recovered
from onetake.core.errors import Refused
from tests.cli.processes import Finished, run
from tests.system.harness import ROUTE, Stack, unique

Cli = Callable[..., Finished]


@pytest.fixture
def cli(stack: Stack, tmp_path: Path) -> Cli:
    def call(*words: str, **env: str) -> Finished:
        return run(*words, env=stack.environment | env, cwd=tmp_path)

    return call


# At this scale copies that are no clip are fetched 8 times within a second.
HASTY = {"ONETAKE_TIME_SCALE": "0.0005"}


def failed(cli: Cli, text: str, tenant: str, **env: str) -> str:
    words = ("--duration", "2", "--deadline", "60", "--tenant", tenant, "--json")
    made = cli("generate", ROUTE, unique(text), *words, **env)
    assert made.document["status"] == "failed"
    return str(made.document["id"])


def test_one_is_rendered_again_after_its_price_was_said_and_agreed_to(cli: Cli) -> None:
    cli("budget", "set", "tenant", "poor-once", "total", "0.01")
    generation_id = failed(cli, "too poor", "poor-once")
    cli("budget", "set", "tenant", "poor-once", "total", "9")
    quoted = cli("replay", "regenerate", generation_id, "--dry-run", "--json")
    assert (quoted.code, quoted.document["quotes"][0]["cost_micros"], quoted.document["replayed"]) == (0, 200_000, [])
    unasked = cli("replay", "regenerate", generation_id, "--json")
    assert (unasked.code, unasked.error_code) == (2, "usage")
    assert "$0.20" in unasked.stderr
    made = cli("replay", "regenerate", generation_id, "--yes", "--json")
    assert (made.code, made.document["status"], made.document["parent_id"]) == (0, "completed", generation_id)
    assert f"it renders {generation_id} again" in cli("get", made.document["id"]).stdout


def test_many_are_replayed_by_what_they_have_in_common(cli: Cli) -> None:
    ids = {failed(cli, "not yet [[sim:asset-html=8]]", "many", **HASTY) for _ in range(2)}
    failed(cli, "not these [[sim:reject=400]]", "many")
    words = ("--tenant", "many", "--since", "1h", "--error-code", "asset_not_video", "--vendor", "apixo")
    quoted = cli("replay", "repersist", *words, "--dry-run", "--json")
    assert ({each["id"] for each in quoted.document["quotes"]}, quoted.document["dry_run"]) == (ids, True)
    done = cli("replay", "repersist", *words, "--pace", "20", "--json")
    assert {each["id"] for each in done.document["replayed"]} == ids
    waited = [cli("replay", "reattach", each, "--json") for each in sorted(ids)]
    assert all(each.code == 0 or each.error_code == "nothing_to_replay" for each in waited)
    assert {cli("get", each, "--json").document["status"] for each in ids} == {"completed"}
    assert "of 0 to replay" in cli("replay", "repersist", *words).stderr


def test_what_another_recovery_completed_first_is_answered_as_to_whoever_comes_later() -> None:
    record = GenerationRecord(
        id="gen_1",
        status="completed",
        phase="done",
        route="a/b/c",
        workflow_id="gen/t/gen_1",
        tenant="t",
        created_at=datetime.now(UTC),
    )
    late = ErrorInfo.of("nothing_to_replay", "It is completed.")
    with pytest.raises(Stopped) as stopped:
        answer_of_recovery(Recovered(changed=False, error=late), record)
    assert stopped.value.problem == problem_of(Refused("nothing_to_replay", "It is completed."), "gen_1")


def test_a_filter_that_is_used_again_pays_for_nothing_again(cli: Cli) -> None:
    generation_id = failed(cli, "not this [[sim:reject=400]]", "once-only")
    code = cli("get", generation_id, "--json").document["error"]["code"]
    words = ("replay", "regenerate", "--tenant", "once-only", "--error-code", code)
    first = cli(*words, "--yes", "--json")
    assert [each["id"] for each in first.document["replayed"]] == [generation_id]
    child = cli("replay", "regenerate", generation_id, "--json")  # joins the render, and waits for it
    assert (child.document["parent_id"], child.document["error"]["code"]) == (generation_id, code)
    again = cli(*words, "--dry-run", "--json").document["quotes"]
    assert [(each["id"], each["cost_micros"]) for each in again] == [(generation_id, 0)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay"], "say which"),
        (["replay", "retry", "gen_1"], "VERB is one of"),
        (["replay", "reattach"], "give either ids"),
        (["replay", "reattach", "gen_1", "--since", "2h"], "give either ids"),
        (["replay", "reattach", "--since", "yesterday"], "neither 90m"),
        (["replay", "regenerate", "--vendor", "nope"], "--vendor is one of apixo"),
        (["replay", "regenerate", "--since", "2h", "--vendor", ""], "--vendor is one of apixo"),
        (["replay", "reattach", "--error-code", "nonsense"], "is no code"),
        (["replay", "--history", "gen_1", "--json"], ""),
        (["suspense"], "resolve"),
        (["suspense", "resolve", "gen_1", "kept", "--why", "x"], "HOW is one of"),
        (["suspense", "resolve", "gen_1", "posted", "--why", " "], "what shows it"),
    ],
)
def test_a_replay_that_cannot_be_read_is_refused(cli: Cli, words: list[str], said: str) -> None:
    finished = cli(*words)
    assert finished.code in (2, 3)
    assert said in finished.stderr + finished.stdout


def test_an_unknown_generation_and_another_tenants_are_answered_alike(cli: Cli) -> None:
    generation_id = failed(cli, "mine [[sim:reject=400]]", "owner")
    for words in (("gen_0",), (generation_id, "--tenant", "stranger")):
        finished = cli("replay", "reattach", *words, "--json")
        assert (finished.code, finished.error_code) == (3, "generation_not_found")


def test_an_amount_in_suspense_is_listed_decided_once_and_by_name(cli: Cli) -> None:
    generation_id = failed(cli, "who pays [[sim:fail=Timeout]]", "doubt")
    listed = cli("suspense", "list", "--tenant", "doubt", "--json").document["suspense"]
    assert [(each["id"], each["amount_micros"]) for each in listed] == [(generation_id, 200_000)]
    decided = cli("suspense", "resolve", generation_id, "released", "--why", "refund on the invoice", "--json")
    assert (decided.code, decided.document["cost"]["suspense_micros"]) == (0, 0)
    entries = cli("ledger", generation_id, "--json").document["entries"]
    assert [each["kind"] for each in entries] == ["hold", "suspense", "suspense_resolved"]
    assert entries[-1]["detail"]["why"] == "refund on the invoice"
    again = cli("suspense", "resolve", generation_id, "posted", "--why", "another opinion", "--json")
    assert (again.code, again.error_code) == (2, "usage")
    assert cli("get", generation_id, "--json").document["cost"]["settled_micros"] == 0


def test_reconcile_says_what_it_found_and_finds_it_once(cli: Cli) -> None:
    first, second = cli("reconcile", "--json"), cli("reconcile", "--json")
    assert (first.code, second.code) == (0, 0)
    findings = [each.document["findings"] for each in (first, second)]
    # Between the two, a generation that another test has left may have come to its end.
    acted = [{each["generation_id"] for each in found if each["action"] != "none"} for found in findings]
    assert acted[0] & acted[1] == set()
    assert "Looked at" in cli("reconcile", "--dry-run").stdout


async def test_a_history_is_held_against_todays_code(stack: Stack, onetake: Onetake, cli: Cli, tmp_path: Path) -> None:
    started = await onetake.start(route=ROUTE, prompt=unique("history"), duration_s=2)
    await onetake.result(started.id)
    live = cli("replay", "--history", started.id, "--json")
    assert (live.code, live.document["replays"], live.document["replayed"]) == (0, True, 1)
    assert live.document["histories"][0]["workflow_id"] == started.workflow_id

    handle = (await stack.temporal()).get_workflow_handle(started.workflow_id)
    exported = (await handle.fetch_history()).to_json()
    (tmp_path / "run.json").write_text(exported)
    assert cli("replay", "--history", "run.json", "--json").document["replays"] is True
    forged = exported.replace('"apixo.submit"', '"something.else"')
    (tmp_path / "forged.json").write_text(forged)
    differs = cli("replay", "--history", "forged.json", "--json")
    assert (differs.code, differs.document["replays"]) == (1, False)
    (difference,) = differs.document["differ"]
    assert "something.else" in difference["difference"]
    events = json.loads(forged)["events"]
    assert difference["event"] == next(int(each["eventId"]) for each in events if "something.else" in str(each))
    (tmp_path / "junk.json").write_text(json.dumps({"events": []}))
    assert cli("replay", "--history", "junk.json", "--json").code == 2
