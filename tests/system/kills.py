"""Processes killed with SIGKILL at each crash point, and the exact end that each generation must have.

A scenario is one line of a list below, and each list is played by one file, `test_kills_*.py`: the point, the end, what
the simulator is told, and the play that brings a process there. `Kill("phase.after_this", COMPLETED)` kills a worker
that has one generation and starts it again. A play raises unless a process really died at the point, as its parent saw
it.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import pytest

from onetake.client import BlockingOnetake, Onetake, Started, request_of
from onetake.core.contracts import GenerationRecord, GenerationResult
from onetake.core.crashpoints import CrashPoint
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import TERMINAL
from onetake.ledger.generations import PostgresGenerations
from tests.system.forked import command
from tests.system.harness import ROUTE, Stack, ended, event_names, in_phase, money, unique

SCALE = "0.008"  # an unknown outcome is given up after 14 s instead of half an hour
DEADLINE_S = 60  # however slow the machine: at this scale a vendor's own would be over within 15 s
END_LIMIT_S = 300.0
SIDE_BY_SIDE = 6  # in each of the processes that play such a batch at once
RECONCILER_TRIES = 20
PRICE = 200_000


@dataclass(frozen=True)
class End:
    """How a generation ended: micros are reserved, settled and in suspense; jobs are those of its prompt."""

    status: str
    code: str | None
    micros: tuple[int, int, int]
    jobs: int
    clips: int


COMPLETED = End("completed", None, (PRICE, PRICE, 0), 1, 1)
UNKNOWN = End("failed", "submission_outcome_unknown", (PRICE, 0, PRICE), 1, 0)
NEVER_SENT = replace(UNKNOWN, jobs=0)
NO_CLIP = End("failed", "asset_truncated", (PRICE, PRICE, 0), 1, 0)
FREE = End("canceled", "canceled", (0, 0, 0), 0, 0)
RENDERED_AGAIN = End("failed", "vendor_failed", (PRICE, 0, PRICE), 2, 0)


@dataclass(frozen=True)
class Kill:
    """`before`: where a first process dies, for what only a second one reaches."""

    point: CrashPoint
    end: End
    marker: str = ""
    play: "Play | None" = None
    before: CrashPoint | None = None

    @property
    def name(self) -> str:
        return f"{self.point}{self.marker}"


@runtime_checkable
class Parametrized(Protocol):
    """A test of pytest's with parameters."""

    @property
    def callspec(self) -> Any: ...


@dataclass(frozen=True)
class Scene:
    """One scenario's own task queue, client and prompt in the stack that all share."""

    stack: Stack
    kill: Kill
    queue: str
    prompt: str
    onetake: Onetake

    @property
    def environment(self) -> dict[str, str]:
        return {"ONETAKE_TASK_QUEUE": self.queue, "ONETAKE_TIME_SCALE": SCALE, "ONETAKE_DATABASE_POOL": "2"}

    @asynccontextmanager
    async def worker(self, crash: str = "", **env: str) -> AsyncGenerator[str]:
        async with self.stack.worker(crash=crash, task_queue=self.queue, **(self.environment | env)) as name:
            yield name

    async def start(self) -> Started:
        return await self.onetake.start(route=ROUTE, prompt=self.prompt, duration_s=2, deadline_s=DEADLINE_S)

    async def dies(self, part: str, point: CrashPoint | None = None) -> None:
        assert await self.stack.died(part) == (point or self.kill.point), self.stack.child(part).log.read_text()[-2000:]

    async def call_dies(self, call: Callable[[Sequence[str]], object], *words: str) -> None:
        child = await self.stack.in_process(call, *words, crash=self.kill.point, **self.environment)
        assert child.point() == self.kill.point, child.log.read_text()[-2000:]

    async def end_of(self, generation_id: str) -> End:
        """Wait until it has ended, and look at all that it left."""
        return await self.left_by(await ended(self.onetake, generation_id, limit_s=END_LIMIT_S))

    async def left_by(self, result: GenerationResult) -> End:
        if (clips := await self._clips_of(result)) > 1:  # two tries have stored one, on a busy machine
            await self.stack.swept()
            clips = await self._clips_of(result)
        jobs = len(await self.stack.jobs_of(self.prompt))
        return End(result.status, result.error.code if result.error else None, money(result), jobs, clips)

    async def _clips_of(self, result: GenerationResult) -> int:
        keys = await self.stack.objects_under(f"default/{result.id}/")
        return len([key for key in keys if key.endswith(".mp4")])


Play = Callable[[Scene], Awaitable[End]]


async def play(stack: Stack, kill: Kill) -> End:
    """Play one scenario. Raises AssertionError unless a process died at its point."""
    prompt = unique(f"killed at {kill.point} {kill.marker}[[sim:delay=0.3]]")
    queue = unique("kill").replace(" ", "")
    async with stack.client(task_queue=queue, time_scale=SCALE, database_pool="1") as onetake:
        return await (kill.play or worker)(Scene(stack, kill, queue, prompt, onetake))


async def play_all(stack: Stack, kills: Sequence[Kill]) -> dict[Kill, End | BaseException]:
    """Play them side by side; each ends in its own way, or with what it raised."""
    room = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(kill: Kill) -> End:
        async with room:
            return await play(stack, kill)

    ends = await asyncio.gather(*(one(kill) for kill in kills), return_exceptions=True)
    return dict(zip(kills, ends, strict=True))


def selected(session: pytest.Session, kills: Sequence[Kill]) -> list[Kill]:
    """Those that this run of pytest asks for."""
    asked = {item.callspec.params.get("kill") for item in session.items if isinstance(item, Parametrized)}
    return [kill for kill in kills if kill in asked]


def ended_so(ends: dict[Kill, End | BaseException], kill: Kill) -> None:
    """Assert the one end that a kill must have."""
    end = ends[kill]
    if isinstance(end, BaseException):
        raise end
    assert end == kill.end


# -- Plays -------------------------------------------------------------------------------------------------------------


async def worker(scene: Scene) -> End:
    """A worker dies, twice when only a second one gets there, and is started again."""
    kill = scene.kill
    async with scene.worker(crash=kill.before or kill.point) as name:
        started = await scene.start()
        if kill.before:
            await scene.dies(name, kill.before)
            await scene.stack.restart(name, crash=kill.point)
        await scene.dies(name)
        await scene.stack.restart(name)
        return await scene.end_of(started.id)


async def late_worker(scene: Scene) -> End:
    """A worker dies while it recovers the job of a run that was terminated."""
    async with scene.worker(crash=scene.kill.point) as name:
        started = await scene.start()
        await in_phase(scene.onetake, started.id, "generating")
        await scene.stack.terminate(started.workflow_id)
        await scene.stack.make_old(started.id)
        await scene.stack.release(scene.prompt)
        await scene.dies(name)
        await scene.stack.restart(name)
        return await scene.left_by(await corrected(scene.onetake, started.id))


async def corrected(onetake: Onetake, generation_id: str) -> GenerationRecord:
    async with asyncio.timeout(END_LIMIT_S):
        while (record := await onetake.get(generation_id)).correction is None:
            await asyncio.sleep(0.2)
    return record


async def gateway(scene: Scene) -> End:
    """A gateway dies over a callback and is started again. The first read is 30 s away: what is stored wakes it."""
    async with (
        scene.stack.gateway(crash=scene.kill.point, ONETAKE_DATABASE_POOL="2") as (name, url),
        scene.worker(ONETAKE_TIME_SCALE="1", ONETAKE_CALLBACK_BASE_URL=url),
        scene.stack.client(task_queue=scene.queue, time_scale="1", database_pool="1") as patient,
    ):
        started = await patient.start(route=ROUTE, prompt=scene.prompt, duration_s=2)
        await scene.dies(name)
        await scene.stack.restart(name)
        end = await scene.end_of(started.id)
    if scene.kill.point in {"callback.after_store", "callback.before_answer", "callback.before_signal"}:
        assert "WORKFLOW_EXECUTION_SIGNALED" in event_names(await scene.stack.history(started.workflow_id))
    return end


def start_with_key(words: Sequence[str]) -> None:
    """In a process: start the generation of a prompt under a key."""
    prompt, key = words
    with BlockingOnetake.connect() as onetake:
        onetake.start(route=ROUTE, prompt=prompt, duration_s=2, idempotency_key=key)


async def service(scene: Scene) -> End:
    """A service dies while it starts a generation, and repeats its key when it is back."""
    await scene.call_dies(start_with_key, scene.prompt, scene.queue)
    async with scene.worker():
        started = await scene.onetake.start(route=ROUTE, prompt=scene.prompt, duration_s=2, idempotency_key=scene.queue)
        assert started.replayed == (scene.kill.point not in {"start.before_row", "accept.before_commit"})
        return await scene.end_of(started.id)


def cancel(words: Sequence[str]) -> None:
    """In a process: cancel a generation."""
    with BlockingOnetake.connect() as onetake:
        onetake.cancel(words[0])


async def canceler(scene: Scene) -> End:
    """A service dies while it cancels a generation that no worker has begun, and cancels it again."""
    started = await scene.start()
    await scene.call_dies(cancel, started.id)
    await scene.onetake.cancel(started.id)
    async with scene.worker():
        return await scene.end_of(started.id)


def render_again(words: Sequence[str]) -> None:
    """In a process: replay a generation that failed."""

    async def call() -> None:
        async with Onetake.connect() as onetake:
            await onetake.replays().replay("regenerate", words[0], who="a test", accept_cost=True)

    asyncio.run(call())


async def replayer(scene: Scene) -> End:
    """An operator's command dies while it has a failed generation rendered again, and is repeated."""
    async with scene.worker():
        started = await scene.start()
        await ended(scene.onetake, started.id)
        await scene.call_dies(render_again, started.id)
        again = await scene.onetake.replays().replay("regenerate", started.id, who="a test", accept_cost=True)
        assert again.repeated
        assert again.new_id
        return await scene.end_of(again.new_id)


async def reconciler(scene: Scene) -> End:
    """`onetake reconcile` dies over a row that a service left; a later pass finds what there is to do.

    The stack's own schedule may be faster: then there is nothing to die over, and another row is left.
    """
    async with scene.worker():
        for _ in range(RECONCILER_TRIES):
            trial = replace(scene, prompt=unique(scene.prompt))
            row = await stale_row(trial)
            child = await scene.stack.in_process(command, "reconcile", crash=scene.kill.point, **scene.environment)
            if child.point() == scene.kill.point:
                async with asyncio.timeout(END_LIMIT_S):
                    while (record := await scene.onetake.get(row)).status not in TERMINAL:
                        await asyncio.sleep(0.2)
                return await trial.left_by(record)
            assert child.ended() == 0, child.log.read_text()[-2000:]
    raise AssertionError("the stack's schedule was always faster")


async def stale_row(scene: Scene) -> str:
    """What a service leaves that was killed an hour ago between the row and the run."""
    request = request_of(
        {"route": ROUTE, "prompt": scene.prompt, "duration_s": 2, "idempotency_key": unique("stale").replace(" ", "")}
    )
    async with scene.stack.database() as database:
        row = await PostgresGenerations(database).accept_once(
            request, workflow_id=workflow_id_of("default", new_generation_id()), plan=await scene.onetake.plan(request)
        )
    await scene.stack.make_old(row.id)
    return row.id


# -- Scenarios ---------------------------------------------------------------------------------------------------------

QUIET = "[[sim:no-callback]]"
HELD = "[[sim:held]]"  # until its play releases it

BEFORE_THE_POST = [
    Kill("validate.before_pin", COMPLETED),
    Kill("validate.after_pin", COMPLETED),
    Kill("accept.before_commit", COMPLETED),
    Kill("accept.after_commit", COMPLETED),
    Kill("reserve.before_admit", COMPLETED),
    Kill("reserve.before_commit", COMPLETED),
    Kill("reserve.after_commit", COMPLETED),
    Kill("submit.before_intent", COMPLETED),
    Kill("submit.after_intent", NEVER_SENT),
    Kill("submit.before_body", NEVER_SENT),
]

AROUND_THE_POST = [
    Kill("submit.after_body", COMPLETED),
    Kill("submit.after_body", UNKNOWN, QUIET),
    Kill("submit.after_send", COMPLETED),
    Kill("submit.after_send", UNKNOWN, QUIET),
    Kill("submit.before_record", COMPLETED),
    Kill("submit.after_record", COMPLETED, QUIET),
    Kill("submit.before_doubt", COMPLETED, before="submit.after_send"),
    Kill("submit.after_doubt", COMPLETED, before="submit.after_send"),
    Kill("submit.before_slow_down", COMPLETED, "[[sim:throttle=1]]"),
    Kill("submit.after_slow_down", COMPLETED, "[[sim:throttle=1]]"),
    Kill("resolve.before_look", COMPLETED, "[[sim:submit-reset]]"),
    Kill("resolve.after_look", COMPLETED, "[[sim:submit-reset]]"),
    Kill("resolve.after_record", COMPLETED, "[[sim:submit-reset]]"),
]

AFTER_THE_POST = [
    Kill("wait.before_read", COMPLETED, QUIET),
    Kill("wait.after_read", COMPLETED, QUIET),
    Kill("wait.after_missing", COMPLETED, f"{QUIET}[[sim:status-404=1]]"),
    Kill("wait.before_slow_down", COMPLETED, f"{QUIET}[[sim:status-429=1]]"),
    Kill("persist.before_links", COMPLETED),
    Kill("persist.after_links", COMPLETED),
    Kill("persist.after_end", COMPLETED),
    Kill("persist.before_put", COMPLETED),
    Kill("persist.during_put", COMPLETED),
    Kill("persist.before_complete", COMPLETED),
    Kill("persist.after_put", COMPLETED),
    Kill("persist.before_read", COMPLETED),
    Kill("persist.after_read", COMPLETED),
    Kill("persist.before_manifest", COMPLETED),
    Kill("persist.after_manifest", COMPLETED),
    Kill("settle.before_commit", COMPLETED),
    Kill("settle.after_commit", COMPLETED),
]

OTHERS = [
    Kill("correct.before_commit", COMPLETED, HELD, play=late_worker),
    Kill("correct.after_commit", COMPLETED, HELD, play=late_worker),
    Kill("start.before_row", COMPLETED, play=service),
    Kill("accept.before_commit", COMPLETED, play=service),
    Kill("accept.after_commit", COMPLETED, play=service),
    Kill("start.after_row", COMPLETED, play=service),
    Kill("start.after_run", COMPLETED, play=service),
    Kill("cancel.before_mark", FREE, play=canceler),
    Kill("cancel.after_mark", FREE, play=canceler),
    Kill("cancel.after_request", FREE, play=canceler),
    Kill("callback.before_store", COMPLETED, play=gateway),
    Kill("callback.after_store", COMPLETED, play=gateway),
    Kill("callback.before_answer", COMPLETED, play=gateway),
    Kill("callback.before_signal", COMPLETED, play=gateway),
    Kill("callback.after_signal", COMPLETED, play=gateway),
    Kill("callback.after_note", COMPLETED, play=gateway),
    Kill("sweep.before_read", COMPLETED, play=gateway),
    Kill("sweep.after_wake", COMPLETED, play=gateway),
    Kill("reconcile.before_act", COMPLETED, play=reconciler),
    Kill("reconcile.after_act", COMPLETED, play=reconciler),
    Kill("replay.after_row", RENDERED_AGAIN, "[[sim:fail=NO]]", play=replayer),
    Kill("replay.after_start", RENDERED_AGAIN, "[[sim:fail=NO]]", play=replayer),
]

ALL = [*BEFORE_THE_POST, *AROUND_THE_POST, *AFTER_THE_POST, *OTHERS]
