"""Temporal Cloud actions of one run, counted from its history.

The rules are those of https://docs.temporal.io/cloud/actions (read 2026-11-29), which names the events that stand for
an action:

- the run's start (what came with it, search attributes for example, is part of it), each signal, each accepted update;
- each timer started, and each command to change search attributes (not the SDK's own attribute for versions);
- each activity scheduled, and each of its tries after the first. The event of its start tells the number of tries; an
  activity that was canceled between two tries has no such event, so its retries are missing here;
- all markers of one workflow task together: local activities, side effects and versions. Retries of a local activity
  in a later workflow task count again; the server notes them in the event of that task's completion, at most 100;
- a child workflow counts twice, a Nexus operation and a request to cancel one once each.

Three kinds leave no event and are not counted here: queries, which a generation does without; workflow tasks that only
give a long local activity more time, which no generation of the bench needs; and heartbeats of activities that reach
the server (the first at once, then one for each 80 % of the timeout). `bench.history` adds the heartbeats from the
server's own counter, so they are counted where they arrive and not where the worker makes them.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from temporalio.api.history.v1 import HistoryEvent

MOST_LOCAL_RETRIES: Final = 100
_VERSIONS: Final = {"TemporalChangeVersion"}
_BY_EVENT: Final = {
    "workflow_execution_started_event_attributes": ("starts", 1),
    "workflow_execution_signaled_event_attributes": ("signals", 1),
    "workflow_execution_update_accepted_event_attributes": ("updates", 1),
    "workflow_execution_options_updated_event_attributes": ("options updated", 1),
    "timer_started_event_attributes": ("timers", 1),
    "activity_task_scheduled_event_attributes": ("activities", 1),
    "start_child_workflow_execution_initiated_event_attributes": ("child workflows", 2),
    "nexus_operation_scheduled_event_attributes": ("Nexus operations", 1),
    "nexus_operation_cancel_requested_event_attributes": ("Nexus operations", 1),
}


def actions_of(events: Iterable[HistoryEvent]) -> Counter[str]:
    """How many actions of each kind a history shows."""
    found, marked = Counter[str](), set[int]()
    for event in events:
        attributes = event.WhichOneof("attributes")
        if attributes in _BY_EVENT:
            kind, number = _BY_EVENT[attributes]
            found[kind] += number
        if event.HasField("marker_recorded_event_attributes"):
            marked.add(event.marker_recorded_event_attributes.workflow_task_completed_event_id)
        found["retries"] += _retries(event)
        found["search attributes"] += _changes_search_attributes(event)
        found["local retries"] += _local_retries(event)
    found["local activities and markers"] = len(marked)
    return +found


def _retries(event: HistoryEvent) -> int:
    if not event.HasField("activity_task_started_event_attributes"):
        return 0
    return max(0, event.activity_task_started_event_attributes.attempt - 1)


def _changes_search_attributes(event: HistoryEvent) -> bool:
    if not event.HasField("upsert_workflow_search_attributes_event_attributes"):
        return False
    upserted = event.upsert_workflow_search_attributes_event_attributes.search_attributes
    return not set(upserted.indexed_fields) <= _VERSIONS


def _local_retries(event: HistoryEvent) -> int:
    if not event.HasField("workflow_task_completed_event_attributes"):
        return 0
    metering = event.workflow_task_completed_event_attributes.metering_metadata
    return min(metering.nonfirst_local_activity_execution_attempts, MOST_LOCAL_RETRIES)
