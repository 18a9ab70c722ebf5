"""What the history of a generation's run says, for a database that lost it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.exceptions import FailureError

from onetake.core import names
from onetake.core.contracts import GenerationRequest, GenerationResult, Reserved, Submission, Validated
from onetake.core.errors import Failed
from onetake.core.names import SubmissionState

T = TypeVar("T")

_LOCAL: Final = "core_local_activity"


@dataclass(frozen=True)
class Told:
    """What the steps of one run answered; None for those that did not. `submission` is ambiguous while one is under
    way, or did not tell."""

    request: GenerationRequest | None = None
    validated: Validated | None = None
    reserved: Reserved | None = None
    submission: SubmissionState = "not_sent"
    vendor_task_id: str | None = None
    result: GenerationResult | None = None


async def told_by(client: Client, workflow_id: str) -> Told:
    """Read the latest run of this id. Raises RPCError, Refused(`settings_invalid`) without its codec key, and
    Failed(`internal_error`) when today's program cannot read it."""
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    context = WorkflowSerializationContext(namespace=client.namespace, workflow_id=workflow_id)
    try:
        return await Reader(client.data_converter.with_context(context)).read(history.events)
    except (FailureError, ValueError, TypeError, LookupError, RuntimeError) as error:
        raise Failed("internal_error", f"Its history cannot be read ({type(error).__name__}).") from None


class Reader:
    """Reads the events of one run in their order."""

    def __init__(self, converter: DataConverter) -> None:
        self._converter = converter
        self._steps: dict[int, str] = {}

    async def read(self, events: Sequence[HistoryEvent]) -> Told:
        told = Told()
        for event in events:
            told = await self._after(told, event)
        return told

    async def _after(self, told: Told, event: HistoryEvent) -> Told:
        match event.WhichOneof("attributes"):
            case "workflow_execution_started_event_attributes":
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                return replace(told, request=await self._model(payloads, GenerationRequest))
            case "marker_recorded_event_attributes":
                marker = event.marker_recorded_event_attributes
                if marker.marker_name != _LOCAL or "result" not in marker.details:
                    return told
                step = json.loads(marker.details["data"].payloads[0].data)["activity_type"]
                return await self.answered(told, step, marker.details["result"].payloads)
            case "activity_task_scheduled_event_attributes":
                step = event.activity_task_scheduled_event_attributes.activity_type.name
                self._steps[event.event_id] = step
                return replace(told, submission="ambiguous") if step.endswith(".submit") else told
            case "activity_task_completed_event_attributes":
                completed = event.activity_task_completed_event_attributes
                step = self._steps.get(completed.scheduled_event_id, "")
                return await self.answered(told, step, completed.result.payloads)
            case _:
                return told

    async def answered(self, told: Told, step: str, payloads: Sequence[Payload]) -> Told:
        match step.rpartition(".")[2]:
            case names.VALIDATE:
                return replace(told, validated=await self._model(payloads, Validated))
            case names.RESERVE:
                return replace(told, reserved=await self._model(payloads, Reserved))
            case names.SETTLE:
                return replace(told, result=await self._model(payloads, GenerationResult))
            case "submit" | "resolve" | names.RECORD:
                submission = await self._model(payloads, Submission)
                if told.vendor_task_id and not submission.vendor_task_id:
                    return told  # a job that is known is not forgotten by a later look that did not find it
                state: SubmissionState = "ambiguous" if submission.unsure else submission.state
                return replace(told, submission=state, vendor_task_id=submission.vendor_task_id)
            case _:
                return told

    async def _model(self, payloads: Sequence[Payload], kind: type[T]) -> T:
        (value,) = await self._converter.decode(payloads, [kind])
        answer: Any = value
        return answer
