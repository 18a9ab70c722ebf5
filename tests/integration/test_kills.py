"""Workers killed with SIGKILL at each point of a generation, and the exact end that each must have.

All scenarios run side by side, each on a task queue of its own: a worker that will kill itself, then one that will not.
"""

import asyncio
from dataclasses import dataclass

import pytest
import pytest_asyncio

from onetake.contracts import GenerationResult
from tests.harness import ROUTE, Stack, ended, money, unique

SCALE = "0.008"  # an unknown outcome is given up after 14 s instead of half an hour


@dataclass(frozen=True)
class Kill:
    """Where the worker dies, what the simulator is told, and how it must end."""

    point: str
    jobs: int
    status: str
    code: str | None = None
    marker: str = ""

    @property
    def name(self) -> str:
        return f"{self.point}{self.marker}"


COMPLETES = [
    Kill("accept.after_commit", 1, "completed"),
    Kill("reserve.before_commit", 1, "completed"),
    Kill("reserve.after_commit", 1, "completed"),
    Kill("submit.before_intent", 1, "completed"),
    Kill("submit.after_send", 1, "completed"),
    Kill("submit.after_record", 1, "completed"),
    Kill("wait.before_read", 1, "completed", marker="[[sim:no-callback]]"),
    Kill("wait.after_read", 1, "completed", marker="[[sim:no-callback]]"),
    Kill("persist.before_put", 1, "completed"),
    Kill("persist.during_put", 1, "completed"),
    Kill("persist.after_put", 1, "completed"),
    Kill("persist.after_manifest", 1, "completed"),
    Kill("settle.before_commit", 1, "completed"),
    Kill("settle.after_commit", 1, "completed"),
]
UNKNOWN = [
    Kill("submit.after_intent", 0, "failed", "submission_outcome_unknown"),
    Kill("submit.after_send", 1, "failed", "submission_outcome_unknown", marker="[[sim:no-callback]]"),
]
KILLS = COMPLETES + UNKNOWN


@dataclass(frozen=True)
class End:
    result: GenerationResult
    jobs: int
    objects: int


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ends(stack: Stack) -> dict[str, End]:
    room = asyncio.Semaphore(6)

    async def one(kill: Kill) -> End:
        async with room:
            return await die_and_recover(stack, kill)

    ends = await asyncio.gather(*(one(kill) for kill in KILLS))
    return {kill.name: end for kill, end in zip(KILLS, ends, strict=True)}


async def die_and_recover(stack: Stack, kill: Kill) -> End:
    prompt = unique(f"killed at {kill.point} {kill.marker}[[sim:delay=0.3]]")
    queue = unique("kill").replace(" ", "")
    async with stack.client(task_queue=queue, time_scale=SCALE) as onetake:
        async with stack.worker(queue, crash=kill.point, ONETAKE_TIME_SCALE=SCALE) as name:
            started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
            await stack.died(name)
        async with stack.worker(queue, ONETAKE_TIME_SCALE=SCALE):
            result = await ended(onetake, started.id, limit_s=90)
    objects = await stack.objects_under(f"default/{started.id}/")
    return End(result, len(await stack.jobs_of(prompt)), len([key for key in objects if key.endswith(".mp4")]))


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.name)
async def test_a_worker_killed_here_ends_exactly_so(ends: dict[str, End], kill: Kill) -> None:
    end = ends[kill.name]
    assert end.jobs == kill.jobs
    assert end.result.status == kill.status
    assert (end.result.error.code if end.result.error else None) == kill.code
    if kill.status == "completed":
        assert (money(end.result), end.objects) == ((200_000, 200_000, 0), 1)
    else:
        assert (money(end.result), end.objects) == ((200_000, 0, 200_000), 0)


async def test_the_ledger_holds_together_after_all_kills(stack: Stack, ends: dict[str, End]) -> None:
    del ends
    assert await stack.ledger_violations() == []
