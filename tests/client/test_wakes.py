"""How the demo reads from a history that the callback, and not a poll, woke the run."""

from typing import Any

from temporalio.api.common.v1 import ActivityType
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import (
    ActivityTaskScheduledEventAttributes,
    ActivityTaskStartedEventAttributes,
    HistoryEvent,
)

from onetake.dev.demo import Wake, wake_of


def scheduled(number: int, activity_id: str) -> HistoryEvent:
    kind = ActivityType(name="apixo.read_status")
    attributes = ActivityTaskScheduledEventAttributes(activity_id=activity_id, activity_type=kind)
    return _event(number, "ACTIVITY_TASK_SCHEDULED", activity_task_scheduled_event_attributes=attributes)


def started(number: int, of: int) -> HistoryEvent:
    attributes = ActivityTaskStartedEventAttributes(scheduled_event_id=of)
    return _event(number, "ACTIVITY_TASK_STARTED", activity_task_started_event_attributes=attributes)


def signalled(number: int) -> HistoryEvent:
    return _event(number, "WORKFLOW_EXECUTION_SIGNALED")


def _event(number: int, name: str, **attributes: Any) -> HistoryEvent:
    return HistoryEvent(event_id=number, event_type=EventType.Value(f"EVENT_TYPE_{name}"), **attributes)


def test_a_signal_during_the_back_off_woke_it() -> None:
    wake = wake_of([scheduled(10, "wait-1"), signalled(12), scheduled(15, "read-1"), started(16, of=15)])
    assert Wake(signal=12, waiting_poll=10, poll_attempt_ran=False, deciding_read=15) == wake
    assert wake.broken == []


def test_a_poll_that_decided_was_not_woken() -> None:
    assert wake_of([scheduled(10, "wait-1"), started(11, of=10)]).broken


def test_a_signal_while_an_attempt_ran_is_not_what_we_claim() -> None:
    events = [scheduled(10, "wait-1"), started(11, of=10), signalled(12), scheduled(15, "read-1")]
    assert wake_of(events).broken == ["a poll was running rather than waiting for its time"]
