"""Faults of deploys: the codec's key is rotated, or taken away too early."""

import asyncio
import base64
import secrets
import signal

from onetake.core.errors import CATALOGUE
from tests.faults.table import shows
from tests.system.harness import LIMIT_S, ROUTE, Stack, ended, event_names, in_phase, unique


async def test_a_rotated_key_loses_nothing_and_a_missing_one_only_stops_the_run(stack: Stack) -> None:
    queue, old = "rotated", stack.environment["ONETAKE_CODEC_KEY"]
    new = base64.b64encode(secrets.token_bytes(32)).decode()
    prompt, kept_prompt = unique("an old key [[sim:held]]"), unique("a new key")
    async with stack.client(task_queue=queue) as onetake:
        async with stack.worker(queue) as first:
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=3600)
            await in_phase(onetake, started.id, "generating")
            await _end(stack, first)
        async with stack.worker(queue, ONETAKE_CODEC_KEY=new) as second:
            await stack.release(prompt)  # its callback asks for a workflow task
            await _fails(stack, started.workflow_id)
            stuck = await onetake.get(started.id)
            await _end(stack, second)
        await shows("F113", stack, stuck, prompt, end="missing")
        async with stack.worker(queue, ONETAKE_CODEC_KEY=new, ONETAKE_CODEC_OLD_KEYS=old):
            await shows("F113", stack, await ended(onetake, started.id), prompt, end="back")
            async with stack.client(task_queue=queue, codec_key=new, codec_old_keys=old) as rotated:
                kept = await rotated.start(route=ROUTE, prompt=kept_prompt, duration_s=2)
                await shows("F113", stack, await ended(rotated, kept.id), kept_prompt, end="kept")
    assert await stack.ledger_violations() == []


async def _end(stack: Stack, worker: str) -> None:
    """Ask a worker to end: Temporal waits ten seconds for the tasks of one that was killed."""
    stack.kill(worker, signal.SIGTERM)
    await stack.died(worker)


async def _fails(stack: Stack, workflow_id: str) -> None:
    """Wait until a workflow task has failed, for the reason that an operator can mend."""
    async with asyncio.timeout(LIMIT_S):
        while "WORKFLOW_TASK_FAILED" not in event_names(events := await stack.history(workflow_id)):
            await asyncio.sleep(0.1)
    failed = next(each for each in events if each.HasField("workflow_task_failed_event_attributes"))
    message = failed.workflow_task_failed_event_attributes.failure.message
    assert CATALOGUE["settings_invalid"].sentence in message
    assert "lack the key" in message
