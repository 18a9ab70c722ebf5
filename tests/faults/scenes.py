"""Generations that are played side by side: each prompt tells the proxy and the simulator what to do."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from temporalio.exceptions import ApplicationError

from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationResult
from tests.system.harness import ROUTE, Stack, ended, unique

SCALE: Final = "0.008"  # an unknown outcome is given up after 14 s, an unreachable vendor after 5 s
LIMIT_S: Final = 300.0

Ended = tuple[GenerationResult, str]
Ends = Mapping[str, Ended]


def route_of(vendor: str) -> str:
    return f"{vendor}/wan-2.6/text-to-video"


@asynccontextmanager
async def own_worker(stack: Stack, queue: str, scale: str = SCALE, **env: str) -> AsyncGenerator[tuple[Onetake, str]]:
    """A worker on a queue of its own: its client, and its part's name."""
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE=scale, **env) as name,
        stack.client(task_queue=queue, time_scale=scale) as onetake,
    ):
        yield onetake, name


async def together(*scenes: Coroutine[Any, Any, Ends]) -> dict[str, Ended]:
    """Play scenes at the same time; the first that breaks ends them all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(scene) for scene in scenes]
    return {name: end for task in tasks for name, end in task.result().items()}


async def begin(
    onetake: Onetake, told: str, route: str = ROUTE, *, deadline_s: int | None = 240
) -> tuple[Started, str]:
    prompt = unique(f"a fox [[sim:delay=0.3]]{told}")
    return await onetake.start(route=route, prompt=prompt, duration_s=5, deadline_s=deadline_s), prompt


async def play(onetake: Onetake, name: str, told: str, route: str = ROUTE, *, deadline_s: int | None = 240) -> Ends:
    return await ends_of(onetake, {name: await begin(onetake, told, route, deadline_s=deadline_s)})


async def ends_of(onetake: Onetake, begun: Mapping[str, tuple[Started, str]]) -> Ends:
    return {name: (await ended(onetake, started.id, LIMIT_S), prompt) for name, (started, prompt) in begun.items()}


async def why_again(stack: Stack, workflow_id: str, kind: type[BaseException] = ApplicationError) -> BaseException:
    """What an operator reads at the pending activity once an attempt has failed, by itself or in another way."""
    engine = await stack.temporal()
    handle = engine.get_workflow_handle(workflow_id)
    async with asyncio.timeout(LIMIT_S):
        while True:
            for pending in (await handle.describe()).raw_description.pending_activities:
                if pending.attempt > 1 and pending.HasField("last_failure"):
                    failure = await engine.data_converter.decode_failure(pending.last_failure)
                    if isinstance(failure, kind):
                        return failure
            await asyncio.sleep(0.1)
