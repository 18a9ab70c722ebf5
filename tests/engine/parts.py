"""Two small workflows with the shape of ours, and the activities whose failures they record."""

import asyncio
from datetime import timedelta
from typing import TypedDict

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from onetake.core.contracts import ErrorInfo, GenerationRequest, GenerationResult, Message, WakeSignal
from onetake.core.errors import Failed, TryLater

QUEUE = "codec-tests"
CANARY = "canary-3f9c1a77"
ONCE = RetryPolicy(maximum_attempts=1)
LIMIT = timedelta(seconds=60)


class At(TypedDict):
    """Where the tests' engine is, as `connect` takes it."""

    address: str
    namespace: str


class Ask(Message):
    kind: str
    request: GenerationRequest


@activity.defn
async def fail(ask: Ask) -> None:
    match ask.kind:
        case "failed":
            raise Failed("vendor_failed", "Code 17.")
        case "later":
            raise TryLater("not_ready", "42 %.", after_s=0.0)
        case _:
            raise_with_cause(ask.request.prompt)


def raise_with_cause(prompt: str) -> None:
    try:
        int(prompt)
    except ValueError as error:
        raise LookupError(f"cannot look up {prompt}") from error


@activity.defn
async def echo(request: GenerationRequest) -> GenerationRequest:
    return request


ACTIVITIES = [fail, echo]


@workflow.defn
class Quoting:
    """Passes the prompt through an activity and returns it, so that it travels in every direction."""

    @workflow.run
    async def run(self, request: GenerationRequest) -> GenerationResult:
        workflow.set_current_details("phase: validating")
        if request.route.startswith("fail/"):
            await self._fail(request)
        echoed = await workflow.execute_activity(
            echo, request, start_to_close_timeout=LIMIT, retry_policy=ONCE, summary="validate the request"
        )
        info = ErrorInfo(code="canceled", message=echoed.prompt, hint="")
        workflow_id = workflow.info().workflow_id
        return GenerationResult(
            id="gen", status="completed", phase="done", route=echoed.route, error=info, workflow_id=workflow_id
        )

    async def _fail(self, request: GenerationRequest) -> None:
        ask = Ask(kind=request.route.removeprefix("fail/"), request=request)
        await workflow.execute_activity(fail, ask, start_to_close_timeout=LIMIT, retry_policy=ONCE)


@workflow.defn
class Waiting:
    """Waits for one signal and returns what it claimed."""

    def __init__(self) -> None:
        self._claimed: asyncio.Queue[str | None] = asyncio.Queue()

    @workflow.run
    async def run(self, request: GenerationRequest) -> str | None:
        return f"{request.route} {await self._claimed.get()}"

    @workflow.signal
    def vendor_callback(self, wake: WakeSignal) -> None:
        self._claimed.put_nowait(wake.claimed_task_id)
