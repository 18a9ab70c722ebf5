"""Ways to lose money that a hostile reader found, each with the end it must have."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from onetake.client import Onetake
from tests.system.harness import LIMIT_S, ROUTE, Stack, ended, in_phase, money, unique


@asynccontextmanager
async def failing_once(stack: Stack, table: str, when: str, sqlstate: str, times: int = 1) -> AsyncGenerator[None]:
    """Make the database refuse some statements: a trigger, counted by a sequence, which no rollback undoes."""
    async with stack.database() as database:
        await database.row("create sequence if not exists onetake.faults minvalue 0 start 0")
        await database.row("select setval('onetake.faults', 0, false)")
        await database.row(
            "create or replace function onetake.fault() returns trigger language plpgsql as $$ begin"
            f" if nextval('onetake.faults') < {times} then raise exception 'on purpose' using errcode = '{sqlstate}';"
            " end if; return new; end $$"
        )
        await database.row(
            f"create trigger fault before {when} on onetake.{table} for each row execute function onetake.fault()"
        )
        try:
            yield
        finally:
            await database.row(f"drop trigger fault on onetake.{table}")


async def test_an_unexpected_refusal_at_settle_is_not_the_end_of_the_settlement(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("settle [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    async with failing_once(stack, "event", "insert", "XX000"):
        await stack.release(prompt)
        result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))


async def test_an_accepted_id_survives_an_unexpected_refusal_of_the_database(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("record [[sim:no-callback]]")
    async with failing_once(stack, "submission", "update", "P0001", times=3):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))
    assert len(await stack.jobs_of(prompt)) == 1


async def test_a_submission_that_cannot_begin_ends_once_with_a_short_history(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("cannot begin")
    async with failing_once(stack, "submission", "insert", "P0001", times=1000):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("failed", (200_000, 0, 0))
    assert await stack.submits_of(prompt) == []
    assert len(await stack.history(started.workflow_id)) < 60


async def test_a_vendor_that_echoes_the_prompt_is_not_quoted_in_the_history(stack: Stack, onetake: Onetake) -> None:
    canary = "canary-of-the-sunken-lighthouse"
    started = await onetake.start(route=ROUTE, prompt=unique(f"{canary} [[sim:fail={canary}]]"), duration_s=2)
    result = await ended(onetake, started.id)
    assert result.error is not None
    assert canary not in result.error.message
    raw = b"".join(event.SerializeToString() for event in await stack.history(started.workflow_id))
    assert canary.encode() not in raw


async def test_a_worker_that_is_told_to_stop_takes_nothing_new_and_finishes_its_post(stack: Stack) -> None:
    """A slow download of another queue must not keep the submit queue open."""
    queue = "stopping"
    async with stack.client(task_queue=queue) as onetake, stack.worker(queue) as first:
        slow = await onetake.start(route=ROUTE, prompt=unique("slow [[sim:asset-slow=1]]"), duration_s=2)
        await in_phase(onetake, slow.id, "persisting")
        prompt, late = unique("in flight [[sim:submit-hang=18]][[sim:no-callback]]"), unique("late")
        flying = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        async with asyncio.timeout(LIMIT_S):
            while not await stack.submits_of(prompt):
                await asyncio.sleep(0.05)
            stack.kill(first, signal.SIGTERM)
            while "worker_stopping" not in stack.log_of(first):
                await asyncio.sleep(0.05)
            await onetake.start(route=ROUTE, prompt=late, duration_s=2)
            await stack.release(prompt)
            while (await onetake.get(flying.id)).vendor_task_id is None:
                await asyncio.sleep(0.05)
        assert await stack.submits_of(late) == []
        stack.kill(first)
        async with stack.worker(queue):
            assert (await ended(onetake, flying.id)).status == "completed"
    assert len(await stack.jobs_of(prompt)) == 1
