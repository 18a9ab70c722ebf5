"""How the demo reads from a history that the callback, and not a timer, ended the wait."""

from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent, TimerCanceledEventAttributes

from onetake.dev.demo import Wake, wake_of


def scheduled(number: int) -> HistoryEvent:
    return _event(number, "ACTIVITY_TASK_SCHEDULED")


def signalled(number: int) -> HistoryEvent:
    return _event(number, "WORKFLOW_EXECUTION_SIGNALED")


def canceled(number: int, timer: int) -> HistoryEvent:
    attributes = TimerCanceledEventAttributes(started_event_id=timer)
    return _event(number, "TIMER_CANCELED", timer_canceled_event_attributes=attributes)


def _event(number: int, name: str, **attributes: Any) -> HistoryEvent:
    return HistoryEvent(event_id=number, event_type=EventType.Value(f"EVENT_TYPE_{name}"), **attributes)


def test_a_signal_that_interrupts_the_timer_woke_it() -> None:
    wake = wake_of([scheduled(5), signalled(12), canceled(16, timer=10), scheduled(17)])
    assert Wake(signal=12, timer=10, asked=17) == wake
    assert wake.broken == []


def test_a_read_that_was_due_was_not_woken() -> None:
    assert wake_of([_event(10, "TIMER_STARTED"), _event(11, "TIMER_FIRED"), scheduled(15)]).broken


def test_a_signal_while_a_read_was_under_way_is_not_what_we_claim() -> None:
    events = [_event(10, "TIMER_FIRED"), scheduled(11), signalled(12), scheduled(15)]
    assert wake_of(events).broken == ["no timer was running that it could have interrupted"]
