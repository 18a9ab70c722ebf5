"""One run: the plan is carried out, the faults stop, everything ends, and the evidence is gathered."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final, cast

import httpx

from onetake.client import Started
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.ledger.generations import PostgresGenerations
from tests.chaos import vendor
from tests.chaos.evidence import Answer, Evidence, Repeat
from tests.chaos.fleet import names_of
from tests.chaos.invariants import broken
from tests.chaos.plan import CALM, SECONDS, VENDORS, Blow, Order, Plan, part_of, plan, undisturbed
from tests.chaos.world import GATEWAYS, TIME_SCALE, WORKERS, World, world
from tests.hogs import hogs

START_LIMIT_S: Final = 240.0
LOADED_TIME_SCALE: Final = 0.1  # so that a scaled deadline is not what a busy machine misses
END_LIMIT_S: Final = 240.0  # for everything to end once the faults have stopped
RECOVERY_LIMIT_S: Final = 300.0
CALM_LIMIT_S: Final = 240.0
MOST_PASSES: Final = 10
REOPEN_EVERY_S: Final = 1.0
FORGED: Final = {
    "unknown token": b'{"taskId": "task_forged", "state": "success"}',
    "deep json": b"[" * 60_000,
    "too large": b"x" * 200_000,
    "not json": b"\xff\xfe not json \x00",
}

Say = Callable[[str], None]


@dataclass
class Report:
    """How a run went. `violations` by invariant; empty when all is well."""

    seed: int
    generations: int
    violations: dict[str, list[str]]
    facts: dict[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class Size:
    """How many processes of ours a run has."""

    workers: int = WORKERS
    gateways: int = GATEWAYS


def repro(seed: int, generations: int, size: Size = Size()) -> str:
    """The one line that carries out the same plan again."""
    line = f"make chaos SEED={seed} GENERATIONS={generations}"
    return line if size == Size() else f"{line} WORKERS={size.workers} GATEWAYS={size.gateways}"


async def run_under_load(
    seed: int, generations: int, busy: int, *, time_scale: float = LOADED_TIME_SCALE, say: Say = lambda _: None
) -> Report:
    """Generations that nothing disturbs but so many processes that burn the processor: each must complete."""
    report = await _carried_out(undisturbed(seed, generations), Size(), time_scale, say, busy)
    ends = cast("dict[str, int]", report.facts["ends"])
    if missing := {end: number for end, number in ends.items() if end != "completed"}:
        report.violations["load"] = [f"{number} ended as {end}" for end, number in missing.items()]
    return report


async def run(
    seed: int,
    generations: int,
    size: Size = Size(),
    *,
    time_scale: float = TIME_SCALE,
    say: Say = lambda _: None,
) -> Report:
    """Carry out the plan of a seed in a world of its own, and check everything."""
    return await _carried_out(plan(seed, generations), size, time_scale, say)


async def _carried_out(made: Plan, size: Size, time_scale: float, say: Say, busy: int = 0) -> Report:
    seed, generations, began = made.seed, len(made.orders), time.monotonic()
    prompt = f"canary-of-the-sunken-lighthouse-{seed}"
    async with world(prompt, workers=names_of(size.workers), gateways=size.gateways, time_scale=time_scale) as at:
        act = _Act(at, made, say)
        with hogs(busy):
            await act.play()
        evidence = await act.evidence()
    report = Report(seed, generations, broken(evidence))
    report.facts = facts_of(evidence, at, time.monotonic() - began)
    return report


def facts_of(evidence: Evidence, at: World, took_s: float) -> dict[str, object]:
    """What the run was made of, for people."""
    ends: dict[str, int] = {}
    for each in evidence.generations:
        end = f"{each.status}/{each.error_code}" if each.error_code else each.status
        ends[end] = ends.get(end, 0) + 1
    return {
        "took_s": round(took_s),
        "ends": dict(sorted(ends.items())),
        "jobs": len(evidence.jobs),
        "submissions": len(evidence.submits),
        "histories": len(evidence.runs),
        "corrections": len(evidence.corrections),
        "in_suspense": sum(hold.state == "suspended" for hold in evidence.holds),
        "callbacks": at.callbacks,
        "kills": at.fleet.kills,
        "stops": at.fleet.stops,
        "readers_hurt": at.fleet.readers_hurt,
        "died_at": dict(sorted(at.fleet.deaths.items())),
    }


class _Act:
    """The plan on its way."""

    def __init__(self, at: World, made: Plan, say: Say) -> None:
        self._at = at
        self._plan = made
        self._say = say
        self._started: dict[int, Started] = {}
        self._passes: tuple[list[str], list[str]] = ([], [])

    async def play(self) -> None:
        """Everything up to the moment at which nothing moves any more."""
        async with _beside(self._at.watch()), _beside(self._reopen()):
            async with _beside(self._show("under fire")), asyncio.TaskGroup() as group:
                for order in self._plan.orders:
                    group.create_task(self._order(order))
                for blow in self._plan.blows:
                    group.create_task(self._blow(blow))
            await self._calm_down()
            async with _beside(self._show("ending")):
                await self._all_ended()
                await self._calm()
                await self._all_found()
        await self._reconcile()

    async def evidence(self) -> Evidence:
        gathered = await self._at.gather()
        before, after = self._passes
        return replace(gathered, before_second_pass=before, after_second_pass=after)

    # -- Orders --------------------------------------------------------------------------------------------------------

    async def _order(self, order: Order) -> None:
        await asyncio.sleep(order.at_s)
        request = self._request(order)
        if order.abandoned:
            await self._abandon(request)
            return
        await asyncio.gather(*(self._start(order.number, request) for _ in range(1 + order.repeats)))
        cancel = self._later(order.cancel_after_s, lambda: self._at.onetake.cancel(self._started[order.number].id))
        await asyncio.gather(cancel, self._later(order.terminate_after_s, lambda: self._terminate(order.number)))

    def _request(self, order: Order) -> GenerationRequest:
        prompt = f"{self._at.prompt} number {order.number} {order.markers}"
        return GenerationRequest(
            route=f"{order.vendor}/wan-2.6/text-to-video",
            prompt=prompt,
            duration_s=SECONDS.get(order.vendor, 2),
            resolution="720p",
            tenant=order.tenant,
            idempotency_key=f"chaos-{self._plan.seed}-{order.number}",
        )

    async def _start(self, number: int, request: GenerationRequest) -> None:
        """Start as a service does: with one key, again and again until it is told something."""
        started = await _until_told(lambda: self._at.onetake.start(request))
        self._started[number] = started
        told = json.dumps([started.id, started.workflow_id, started.price_micros])
        self._at.seen.repeats.append(Repeat(request.tenant, request.idempotency_key or "", told))

    async def _abandon(self, request: GenerationRequest) -> None:
        """A client that died between the database and Temporal, and never came back."""
        made = await self._at.onetake.plan(request)
        workflow_id = workflow_id_of(request.tenant, new_generation_id())
        async with self._at.stack.database() as database:
            await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=made)

    async def _later(self, after_s: float | None, act: Callable[[], Awaitable[object]]) -> None:
        if after_s is not None:
            await asyncio.sleep(after_s)
            with suppress(OnetakeError):  # a part is away just now; nobody asks again
                await act()

    async def _terminate(self, number: int) -> None:
        """An operator ends the run by force: nothing of it is settled."""
        with suppress(Exception):  # it has ended already, or the server is stopped
            await self._at.stack.terminate(self._started[number].workflow_id)

    # -- Blows ---------------------------------------------------------------------------------------------------------

    async def _blow(self, blow: Blow) -> None:
        await asyncio.sleep(blow.at_s)
        match blow.kind:
            case "kill" | "stop" | "crash" | "reader":
                await self._hurt(blow)
            case "hogs":
                with hogs(int(blow.target)):
                    await asyncio.sleep(blow.for_s)
            case "freeze":
                await self._at.freeze(blow.target, blow.for_s)
            case "outage":
                await self._outage(blow, 503)
            case "storm":
                await self._outage(blow, 429)
            case "silence":
                await _quietly(self._at.stack.control("callbacks", enabled=False))
                await asyncio.sleep(blow.for_s)
                await _quietly(self._at.stack.control("callbacks", enabled=True))
            case "forge":
                await self._forge(blow.target)

    async def _hurt(self, blow: Blow) -> None:
        """One of our processes. When all of the kind are down already nothing is done: never to let any work would be
        no test."""
        fleet = self._at.fleet
        kind = {"crash": part_of(blow.target), "reader": "media"}.get(blow.kind, blow.target)
        if (part := fleet.idle(kind)) is None:
            return
        match blow.kind:
            case "kill":
                await fleet.down(part, blow.for_s)
            case "stop":
                await fleet.stop(part, blow.for_s)
            case "crash":
                await fleet.arm(part, blow.target, blow.for_s)
            case _:
                await fleet.hurt_readers(part, blow.target, blow.for_s)

    async def _outage(self, blow: Blow, status: int) -> None:
        await _quietly(self._at.stack.control("outage", vendor=blow.target, seconds=blow.for_s, status=status))

    async def _forge(self, what: str) -> None:
        """A callback that nobody asked for. What the gateway answers, when it answers, is kept."""
        url = f"{self._at.stack.gateway_url}/callbacks/apixo/{'forged-token-0123456789'}"
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            with suppress(httpx.HTTPError):
                answer = await client.post(url, content=FORGED[what], headers={"Content-Type": "application/json"})
                self._at.seen.answers.append(Answer(what, answer.status_code, answer.content))

    # -- Afterwards ----------------------------------------------------------------------------------------------------

    async def _calm_down(self) -> None:
        """The faults stop, and everything that was hurt is well again."""
        for name in VENDORS:
            await self._at.stack.control("outage", vendor=name, seconds=0)
        await self._at.stack.control("callbacks", enabled=True)
        await self._at.fleet.mend()
        await self._at.fleet.ready()

    async def _calm(self) -> None:
        """A few generations that nothing disturbs: others that are under way may pause their vendor, or fill it."""
        number = len(self._plan.orders)
        for each in range(number, number + CALM):
            order = Order(each, 0, VENDORS[each % len(VENDORS)], "acme", ())
            await self._start(each, self._request(order))
            self._at.seen.calm.add(self._started[each].id)
        await asyncio.gather(
            *(self._at.onetake.result(started, CALM_LIMIT_S) for started in self._at.seen.calm), return_exceptions=True
        )

    async def _all_ended(self) -> None:
        """Wait for every end. What does not come within the limit is the checker's to name."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_LIMIT_S):
                while await self._at.open():
                    await asyncio.sleep(0.5)

    async def _all_found(self) -> None:
        """Wait until the recoveries have found what there is to find."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECOVERY_LIMIT_S):
                while vendor.found(await self._at.ledger_evidence()):
                    await asyncio.sleep(1)

    async def _reconcile(self) -> None:
        """By hand, with the schedule paused: until a pass does nothing, and then one pass more.

        A recovery may end beside that one: then what changed is not the pass's, and another one is looked at."""
        await self._at.pause_schedule()
        for _ in range(MOST_PASSES):
            if not await self._at.reconcile():
                break
            await asyncio.sleep(1)
        await self._all_found()
        for _ in range(MOST_PASSES):
            before = await self._at.journal()
            acted = await self._at.reconcile()
            self._passes = before, await self._at.journal()
            if acted or before == self._passes[1]:
                break

    async def _reopen(self) -> None:
        """An empty account pauses its vendor for everybody; here somebody tops it up within a second."""
        while True:
            for name in VENDORS:
                with suppress(OnetakeError):
                    await self._at.stack.reopen(name)
            await asyncio.sleep(REOPEN_EVERY_S)

    async def _show(self, what: str) -> None:
        began = time.monotonic()
        while True:
            with suppress(OnetakeError):
                self._say(
                    f"seed {self._plan.seed}, {what} for {time.monotonic() - began:3.0f} s: {await self._state()}"
                )
            await asyncio.sleep(2)

    async def _state(self) -> str:
        fleet, orders = self._at.fleet, len(self._plan.orders)
        blows = f"{fleet.kills} killed, {fleet.stops} stopped, {sum(fleet.deaths.values())} died at a point"
        return f"{min(len(self._started), orders)} of {orders} started, {await self._at.open()} open; {blows}"


async def _until_told(start: Callable[[], Awaitable[Started]]) -> Started:
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            try:
                return await start()
            except (TryLater, Failed):  # nothing was started, or nobody knows: the key makes it safe to ask again
                await asyncio.sleep(0.5)


async def _quietly(control: Awaitable[None]) -> None:
    with suppress(OSError):  # the simulator is stopped just now
        await control


@asynccontextmanager
async def _beside(work: Awaitable[None]) -> AsyncGenerator[None]:
    """Do this while the block runs."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def say_on_stderr(line: str) -> None:
    """One line that replaces the one before on a terminal, and a new line each time elsewhere."""
    sys.stderr.write(f"\r\x1b[K{line}" if sys.stderr.isatty() else f"{line}\n")
    sys.stderr.flush()
