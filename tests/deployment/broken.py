"""A worker that does what four alerts are about: `broken.py ADDRESS METRICS`.

Its workflow code is broken in three ways, and its only slot for activities is never free again. It has a queue and
workflows of its own on the stack's Temporal, and exports as our workers do.
"""

import asyncio
import itertools
import sys
from datetime import timedelta
from typing import Final
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE: Final = "broken"
TOO_LARGE: Final = 5 * 1024 * 1024

_lives = itertools.count()


@workflow.defn
class Raises:
    """Its code fails in every task."""

    @workflow.run
    async def run(self) -> None:
        raise RuntimeError


@workflow.defn
class Changes:
    """Each replay orders something else than the run before it."""

    @workflow.run
    async def run(self) -> None:
        if next(_lives):
            await workflow.execute_activity("other", start_to_close_timeout=timedelta(seconds=1))
        await asyncio.sleep(0.1)


@workflow.defn
class Answers:
    """Its answer is too large."""

    @workflow.run
    async def run(self) -> str:
        return "x" * TOO_LARGE


@workflow.defn
class Waits:
    """Its activity does not end."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("hold", start_to_close_timeout=timedelta(hours=1))


@activity.defn
async def hold() -> None:
    await asyncio.sleep(3600)


async def main(address: str, metrics: str) -> None:
    """Serve until killed."""
    bind = PrometheusConfig(
        bind_address=metrics, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    client = await Client.connect(address, runtime=Runtime(telemetry=TelemetryConfig(metrics=bind)))
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=[Raises, Changes, Answers, Waits],
        activities=[hold],
        max_concurrent_activities=1,
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=0,
    )
    for broken in (Raises, Changes, Answers, Waits):
        await client.start_workflow(broken.__name__, id=f"broken/{uuid4()}", task_queue=QUEUE)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
