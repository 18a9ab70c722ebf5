"""Record the histories of new stories: `python -m tests.replay.record NAME...`.

Those that are recorded stay, from version 0.1.0 on: changes of workflows are patched, and must go on with them.
The histories are encrypted with the key in `stories.py`, which protects nothing: their prompts are the stories'.
"""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.service import RPCError

from onetake.core.contracts import GenerationRequest
from onetake.core.ids import recovery_id_of
from onetake.core.names import GENERATION_WORKFLOW, RECONCILE_WORKFLOW
from onetake.dev.devstack.progress import PlainProgress
from onetake.dev.stack import running_stack
from tests.replay.stories import CODEC_KEY, PASSES, RECOVERIES, STORIES, Story
from tests.system.harness import RENDER_S, ROUTE, TIME_SCALE, Stack, event_names, in_phase

SOME_PASSES = 3
HISTORIES = Path(__file__).parent / "histories"


def main() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("ONETAKE_", "TEMPORAL_"))}
    environ |= {"ONETAKE_TIME_SCALE": str(TIME_SCALE), "ONETAKE_CODEC_KEY": CODEC_KEY}
    home = Path(tempfile.mkdtemp(prefix="onetake-record-"))
    with running_stack(
        home, progress=PlainProgress(), environ=environ, ports="free", render_s=RENDER_S, ephemeral=True
    ) as running:
        os.environ.update({name: running.environment[name] for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")})
        asyncio.run(record(Stack(running, environ | running.environment), sys.argv[1:]))


async def record(stack: Stack, names: Sequence[str]) -> None:
    HISTORIES.mkdir(exist_ok=True)
    for story in (story for story in STORIES if not names or story.name in names):
        write(story, await run(stack, story, f"replay/{story.name}"))
    for story in (story for story in RECOVERIES if not names or story.name in names):
        write(story, await run_recovery(stack, story, f"replay/{story.name}"))
    if not names or PASSES.name in names:
        write(PASSES, await run_of_passes(stack))


def write(story: Story, history: WorkflowHistory) -> None:
    (HISTORIES / f"{story.name}.json").write_text(anonymous(history.to_json()) + "\n", encoding="utf-8")


def anonymous(history: str) -> str:
    """Leave out which machine recorded it: process identities and the paths in stack traces."""
    history = re.sub(r'"identity": "[^"]*"', '"identity": "recorder"', history)
    return re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)


def request_of(story: Story) -> GenerationRequest:
    return GenerationRequest(route=ROUTE, prompt=f"{story.name} {story.marker}", duration_s=story.duration_s)


async def run(stack: Stack, story: Story, workflow_id: str) -> WorkflowHistory:
    """Play a story to its end, past the client, so that an invalid request reaches the workflow too.

    A history can only be decrypted under the workflow id it was written for.
    """
    engine = await stack.temporal()
    handle = await engine.start_workflow(GENERATION_WORKFLOW, request_of(story), id=workflow_id, task_queue="onetake")
    if story.cancel_in:
        await _reached(stack, workflow_id, story.cancel_in)
        await handle.cancel()
    try:
        await handle.result()
    except Exception:  # noqa: BLE001 - failed and canceled runs are stories too
        return await handle.fetch_history()
    return await handle.fetch_history()


async def run_recovery(stack: Stack, story: Story, workflow_id: str) -> WorkflowHistory:
    """Terminate a run while it waits, and return the history of the recovery that the reconciler starts for it."""
    engine, request = await stack.temporal(), request_of(story)
    await engine.start_workflow(GENERATION_WORKFLOW, request, id=workflow_id, task_queue="onetake")
    generation_id = await _reached(stack, workflow_id, "generating")
    await stack.terminate(workflow_id)
    recovery = engine.get_workflow_handle(recovery_id_of(request.tenant, generation_id))
    async with asyncio.timeout(60):
        while True:
            with suppress(RPCError):  # it has not begun
                if (await recovery.describe()).close_time is not None:
                    return await recovery.fetch_history()
            await asyncio.sleep(0.2)


async def run_of_passes(stack: Stack) -> WorkflowHistory:
    """The history of the reconciler's run, when it has made some passes."""
    engine = await stack.temporal()
    async with asyncio.timeout(60):
        while True:
            async for each in engine.list_workflows(f'WorkflowType = "{RECONCILE_WORKFLOW}"'):
                history = await engine.get_workflow_handle(each.id).fetch_history()
                if event_names(list(history.events)).count("ACTIVITY_TASK_COMPLETED") >= SOME_PASSES:
                    return history
            await asyncio.sleep(0.5)


async def _reached(stack: Stack, workflow_id: str, phase: str) -> str:
    """Wait until the run has reached the phase; the generation's id."""
    async with stack.client() as onetake, asyncio.timeout(30):
        while True:
            for record in await onetake.list(limit=50):
                if record.workflow_id == workflow_id:
                    await in_phase(onetake, record.id, phase)
                    if phase == "generating":
                        await _waits(stack, workflow_id)
                    return record.id
            await asyncio.sleep(0.05)


async def _waits(stack: Stack, workflow_id: str) -> None:
    """The phase is stored with the vendor's answer, a little before the workflow hears of it and begins to wait."""
    while "TIMER_STARTED" not in event_names(await stack.history(workflow_id)):
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
