"""The bench counts a run's events and Temporal Cloud actions as the documentation does."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from bench.actions import MOST_LOCAL_RETRIES, actions_of
from tests.replay.record import HISTORIES

NAMES = sorted(path.stem for path in HISTORIES.glob("*.json"))


def event(kind: str, **attributes: Any) -> HistoryEvent:
    """One event as a history's JSON has it: `timerStarted` for EVENT_TYPE_TIMER_STARTED."""
    return ParseDict({f"{kind}EventAttributes": attributes}, HistoryEvent())


def upsert(*names: str) -> HistoryEvent:
    return event("upsertWorkflowSearchAttributes", searchAttributes={"indexedFields": {name: {} for name in names}})


def marker(task: int) -> HistoryEvent:
    return event("markerRecorded", markerName="core_local_activity", workflowTaskCompletedEventId=str(task))


def task_completed(local_retries: int) -> HistoryEvent:
    return event("workflowTaskCompleted", meteringMetadata={"nonfirstLocalActivityExecutionAttempts": local_retries})


@pytest.mark.parametrize(
    ("events", "actions"),
    [
        ([event("workflowExecutionStarted", searchAttributes={"indexedFields": {"OnetakeTenant": {}}})], {"starts": 1}),
        ([event("workflowExecutionSignaled")] * 2, {"signals": 2}),
        ([event("timerStarted"), event("timerFired"), event("timerCanceled")], {"timers": 1}),
        ([event("workflowExecutionUpdateAccepted"), event("workflowExecutionUpdateCompleted")], {"updates": 1}),
        ([upsert("OnetakePhase", "OnetakeDay"), upsert("OnetakePhase")], {"search attributes": 2}),
        ([upsert("TemporalChangeVersion")], {}),
        (
            [event("startChildWorkflowExecutionInitiated"), event("childWorkflowExecutionStarted")],
            {"child workflows": 2},
        ),
        ([event("workflowTaskScheduled"), event("workflowTaskStarted"), event("workflowExecutionCompleted")], {}),
        ([event("activityTaskScheduled"), event("activityTaskCancelRequested")], {"activities": 1}),
        ([event("activityTaskScheduled"), event("activityTaskStarted", attempt=1)], {"activities": 1}),
        ([event("activityTaskScheduled"), event("activityTaskStarted", attempt=4)], {"activities": 1, "retries": 3}),
        ([marker(4), marker(4), marker(9)], {"local activities and markers": 2}),
        ([task_completed(0), task_completed(3)], {"local retries": 3}),
        ([task_completed(5_000)], {"local retries": MOST_LOCAL_RETRIES}),
    ],
)
def test_actions_by_the_documented_rules(events: list[HistoryEvent], actions: dict[str, int]) -> None:
    assert actions_of(events) == actions


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_run(name: str) -> None:
    """The counts are those of the file's own words."""
    recorded: list[dict[str, Any]] = json.loads((HISTORIES / f"{name}.json").read_text(encoding="utf-8"))["events"]
    found = actions_of(WorkflowHistory.from_json("recorded", {"events": recorded}).events)
    assert found["starts"] == number_of(recorded, "WORKFLOW_EXECUTION_STARTED") == 1
    assert found["signals"] == number_of(recorded, "WORKFLOW_EXECUTION_SIGNALED")
    assert found["timers"] == number_of(recorded, "TIMER_STARTED")
    assert found["activities"] == number_of(recorded, "ACTIVITY_TASK_SCHEDULED")
    assert found["search attributes"] == number_of(recorded, "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES")
    tries = [each["activityTaskStartedEventAttributes"]["attempt"] for each in named(recorded, "ACTIVITY_TASK_STARTED")]
    assert found["retries"] == sum(tries) - len(tries)
    markers = [each["markerRecordedEventAttributes"] for each in named(recorded, "MARKER_RECORDED")]
    assert found["local activities and markers"] == len({each["workflowTaskCompletedEventId"] for each in markers})


def test_a_recorded_run_by_callback_is_more_than_its_activities() -> None:
    recorded = json.loads((HISTORIES / "finished-by-callback.json").read_text(encoding="utf-8"))["events"]
    found = actions_of(WorkflowHistory.from_json("recorded", {"events": recorded}).events)
    assert found["signals"] == 1
    assert 1 < found.total() < len(recorded)


def named(recorded: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in recorded if each["eventType"] == f"EVENT_TYPE_{kind}"]


def number_of(recorded: list[dict[str, Any]], kind: str) -> int:
    return len(named(recorded, kind))
