"""What the workflow told the engine to do, in order: the part of a history that its code decides."""

import json

from temporalio.api.history.v1 import HistoryEvent

Command = str


def commands_of(events: list[HistoryEvent]) -> list[Command]:
    """One line a command: the kind, and the id or names that the code chose. Times and values are left out."""
    return [line for event in events if (line := _command(event))]


def local_step(event: HistoryEvent) -> str:
    """The name of the step that was done in the workflow's own task; empty for any other event."""
    marker = event.marker_recorded_event_attributes
    if marker.marker_name != "core_local_activity":
        return ""
    (data,) = marker.details["data"].payloads
    return str(json.loads(data.data)["activity_type"])


def _command(event: HistoryEvent) -> Command | None:  # noqa: PLR0911 - one line a kind
    match event.WhichOneof("attributes"):
        case "activity_task_scheduled_event_attributes":
            scheduled = event.activity_task_scheduled_event_attributes
            return f"activity {scheduled.activity_id}: {scheduled.activity_type.name}"
        case "activity_task_cancel_requested_event_attributes":
            return "cancel activity"
        case "timer_started_event_attributes":
            return f"timer {event.timer_started_event_attributes.timer_id}"
        case "upsert_workflow_search_attributes_event_attributes":
            upserted = event.upsert_workflow_search_attributes_event_attributes.search_attributes
            return f"search attributes {', '.join(sorted(upserted.indexed_fields))}"
        case "marker_recorded_event_attributes":
            return f"marker {local_step(event) or event.marker_recorded_event_attributes.marker_name}"
        case "workflow_execution_completed_event_attributes":
            return "complete"
        case "workflow_execution_failed_event_attributes":
            return "fail"
        case "workflow_execution_canceled_event_attributes":
            return "cancel"
        case _:
            return None
