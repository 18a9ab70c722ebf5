"""The replay gate is a command that stops a pipeline: it names the runs that a build cannot go on with."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onetake.cli.replays import refuse_a_gate_without_runs
from onetake.core.errors import CATALOGUE, Refused
from tests.faults.table import expect
from tests.replay.builds import GUARDED, UNGUARDED, Change, build, environment
from tests.replay.record import HISTORIES
from tests.replay.stories import CODEC_KEY, PASSES, RECOVERIES, STORIES

OTHER_KEY = "b3RoZXIga2V5OiBpdCBvcGVucyBub3RoaW5nIGhlcmU="
ROOT = Path(__file__).parents[2]
PAST_THE_CHANGE = {story.name for story in STORIES if story.name != "request-invalid"}


def gate(folder: Path, *changes: Change, key: str = CODEC_KEY, **settings: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, the document and what was said, by the command line of a build."""
    settings |= {"ONETAKE_CODEC_KEY": key, "TEMPORAL_NAMESPACE": "other"}
    ours = environment(os.environ, build(folder, *changes), settings)
    words = [sys.executable, "-m", "onetake.cli", "replay", "--history", str(HISTORIES), "--json"]
    done = subprocess.run(words, env=ours, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_changed_order_of_commands_is_stopped_and_named(tmp_path: Path) -> None:
    code, document, _ = gate(tmp_path, UNGUARDED)
    assert code == CATALOGUE["history_differs"].exit_code == 1
    assert document["replays"] is False
    differ = {each["workflow_id"].removeprefix("replay/"): each for each in document["differ"]}
    assert differ.keys() == PAST_THE_CHANGE
    first = differ["finished-by-callback"]
    assert "Nondeterminism" in first["difference"]
    assert first["event"] == _first_submit(HISTORIES / "finished-by-callback.json")
    expect("F111", sees="history_differs", ledger=[], jobs=0, end="stopped")


def test_a_guarded_change_passes_also_in_another_namespace(tmp_path: Path) -> None:
    code, document, said = gate(tmp_path, GUARDED)
    assert (code, document["differ"]) == (0, []), said
    assert document["replayed"] == len(STORIES) + len(RECOVERIES) + len([PASSES])


@pytest.mark.parametrize("page", ["docs/upgrading.md", "docs/runbooks/deploy.md"])
def test_the_gate_as_a_page_writes_it_reads_the_recorded_histories(tmp_path: Path, page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    given = re.findall(r'export (\w+)="(.*)"\n *onetake replay --history tests/replay/histories --open-runs', text)
    code, document, said = gate(tmp_path, key=OTHER_KEY, **dict(given))
    assert (code, document.get("differ")) == (0, []), said


def test_a_key_that_is_missing_is_no_difference(tmp_path: Path) -> None:
    code, document, _ = gate(tmp_path, key=OTHER_KEY)
    assert (code, document["error"]["code"]) == (2, "settings_invalid")
    assert "lack the key" in document["error"]["message"]


def test_a_gate_that_found_no_open_run_is_no_green_light() -> None:
    with pytest.raises(Refused, match="ONETAKE_TASK_QUEUE") as refusal:
        refuse_a_gate_without_runs(0, allow_none=False)
    assert refusal.value.code == "settings_invalid"
    refuse_a_gate_without_runs(0, allow_none=True)
    refuse_a_gate_without_runs(1, allow_none=False)
    refuse_a_gate_without_runs(None, allow_none=False)  # only files were named


def _first_submit(path: Path) -> int:
    events = json.loads(path.read_text(encoding="utf-8"))["events"]
    return next(int(each["eventId"]) for each in events if "activityTaskScheduledEventAttributes" in each)
