"""A workflow with the shape of ours for the tests of traces: a local step, activities, a timer and a signal."""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from onetake.core.contracts import Message, WakeSignal
from onetake.core.errors import Failed, TryLater

LIMIT = timedelta(seconds=60)
TRIES = 3
PATIENT = timedelta(seconds=120)  # for a task of the workflow: one that is given up runs the local step again


class Step(Message):
    generation_id: str
    kind: str
    prompt: str


@activity.defn
async def step(order: Step) -> str:
    """Ends as it is told: well, at its third try, with our failure, or with an error that quotes the prompt."""
    match order.kind:
        case "open" if activity.info().attempt < TRIES:
            raise TryLater("not_ready", f"({order.prompt})", after_s=0.0)
        case "failed":
            raise Failed("vendor_failed", order.prompt)
        case "bug":
            raise LookupError(order.prompt)
        case _:
            return order.prompt


@workflow.defn
class Stepping:
    """Does the steps that it is given, then waits for a wake."""

    def __init__(self) -> None:
        self._woken = False

    @workflow.signal(name="wake")
    def wake(self, signal: WakeSignal) -> None:
        del signal
        self._woken = True

    @workflow.run
    async def run(self, order: Step) -> str:
        await workflow.execute_local_activity(step, order.model_copy(update={"kind": ""}), start_to_close_timeout=LIMIT)
        for kind in order.kind.split():
            await workflow.sleep(0.05)
            await workflow.execute_activity(
                step,
                order.model_copy(update={"kind": kind}),
                start_to_close_timeout=LIMIT,
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1), maximum_attempts=TRIES),
            )
        await workflow.wait_condition(lambda: self._woken)
        return order.prompt
