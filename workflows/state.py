"""What a run knows, and where operators see it: current details and search attributes.

Each workflow has one state. Its phases read and change it; `details.py` draws it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from temporalio import workflow
from temporalio.common import SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        ErrorInfo,
        GenerationResult,
        Persisted,
        Plan,
        Reconciled,
        Recovered,
        StatusReading,
    )
    from onetake.core.names import Phase, SubmissionState


@dataclass
class GenerationState:
    """One generation so far. It begins without the request: a start with none, or with two, must fail in `run`."""

    phase: Phase = "accepted"
    since: datetime | None = None  # when the phase began
    generation_id: str = ""
    plan: Plan | None = None
    epoch: str | None = None  # of the database in which the hold was made
    sent: SubmissionState = "not_sent"  # ambiguous as soon as it may be sent, until its end is heard
    task_id: str | None = None
    other_task_id: str | None = None  # another job that a callback with our token named
    waits_for: ErrorInfo | None = None  # why the vendor has not been sent the job yet
    reading: StatusReading | None = None  # the vendor's last word
    next_read_at: datetime | None = None
    woken_at: datetime | None = None  # when the callback came after which the vendor is being asked
    refusal: ErrorInfo | None = None  # how the last try of a read, or of storing the clip, ended
    billed_micros: int | None = None  # what the vendor says that it charged, by its last word about it
    persisted: Persisted | None = None
    canceled: bool = False
    canceled_while_rendering: bool = False
    error: ErrorInfo | None = None
    result: GenerationResult | None = None

    def hear(self, reading: StatusReading) -> None:
        """Take the vendor's last word, which may leave out what it charged."""
        self.reading = reading
        if reading.reported_micros is not None:
            self.billed_micros = reading.reported_micros


@dataclass
class RecoveryState:
    """One recovery so far."""

    phase: Phase = "resolving"
    plan: Plan | None = None
    task_id: str | None = None
    recovered: Recovered | None = None


@dataclass
class PassesState:
    """What the reconciler's run knows of its passes: when the last good one ended and what it found, and how the last
    one failed, where that was later."""

    passes: int = 0
    every_s: float = 60.0  # the workers' setting, as the last good pass told it
    last: Reconciled | None = None
    good_at: datetime | None = None
    error: ErrorInfo | None = None
    failed_at: datetime | None = None

    def made(self, reconciled: Reconciled, now: datetime) -> None:
        """A pass was good."""
        self.passes += 1
        self.last, self.good_at, self.error, self.every_s = reconciled, now, None, reconciled.every_s

    def failed(self, error: ErrorInfo, now: datetime) -> None:
        """A pass failed; the next one may not."""
        self.passes += 1
        self.error, self.failed_at = error, now


def show(details: str, attributes: Mapping[str, str] | None = None) -> None:
    """Put this into the run's current details, and these values into its search attributes."""
    if attributes:
        updates = [SearchAttributeKey.for_keyword(name).value_set(value) for name, value in attributes.items()]
        workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]
    workflow.set_current_details(details)


def has_attribute(name: str) -> bool:
    """Whether the run has a search attribute of this name."""
    return SearchAttributeKey.for_keyword(name) in workflow.info().typed_search_attributes
