"""What a run knows, and where operators see it: current details and search attributes.

Each workflow has one state. Its phases read and change it; `details.py` draws it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from temporalio import workflow
from temporalio.common import SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        ErrorInfo,
        GenerationResult,
        Persisted,
        Plan,
        Recovered,
        StatusReading,
    )
    from onetake.core.names import Phase, SearchAttribute


@dataclass
class GenerationState:
    """One generation so far. It begins without the request: a start with none, or with two, must fail in `run`."""

    phase: Phase = "accepted"
    generation_id: str = ""
    plan: Plan | None = None
    task_id: str | None = None
    reading: StatusReading | None = None  # the vendor's last word
    refusal: ErrorInfo | None = None  # how the last try of a read ended
    reported_micros: int | None = None  # with the submission
    persisted: Persisted | None = None
    canceled: bool = False
    canceled_while_rendering: bool = False
    error: ErrorInfo | None = None
    result: GenerationResult | None = None

    @property
    def billed_micros(self) -> int | None:
        """What the vendor says that it charged, by its last word about it; None when it has said nothing."""
        read = self.reading.reported_micros if self.reading else None
        return self.reported_micros if read is None else read


@dataclass
class RecoveryState:
    """One recovery so far."""

    phase: Phase = "resolving"
    plan: Plan | None = None
    task_id: str | None = None
    recovered: Recovered | None = None


def show(details: str, attributes: Mapping[str, str] | None = None) -> None:
    """Put this into the run's current details, and these values into its search attributes."""
    if attributes:
        updates = [SearchAttributeKey.for_keyword(name).value_set(value) for name, value in attributes.items()]
        workflow.upsert_search_attributes(updates)  # pyright: ignore[reportUnknownMemberType]
    workflow.set_current_details(details)


def has_attribute(name: str) -> bool:
    """Whether the run has a search attribute of this name."""
    return SearchAttributeKey.for_keyword(name) in workflow.info().typed_search_attributes


def with_phase(phase: Phase, attributes: Mapping[str, str]) -> dict[str, str]:
    """Search attributes of a run that enters a phase."""
    return {SearchAttribute.PHASE: phase, **attributes}
