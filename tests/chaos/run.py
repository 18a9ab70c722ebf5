"""One run: the plan is carried out, the faults stop, everything ends, and the evidence is gathered."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

import httpx

from onetake.client import Started
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.ledger.generations import PostgresGenerations
from tests.chaos import vendor
from tests.chaos.evidence import Answer, Evidence, Repeat
from tests.chaos.invariants import broken
from tests.chaos.plan import CALM, SECONDS, VENDORS, Blow, Order, Plan, part_of, plan
from tests.chaos.world import TIME_SCALE, World, world

START_LIMIT_S: Final = 90.0
END_LIMIT_S: Final = 240.0  # for everything to end once the faults have stopped
RECOVERY_LIMIT_S: Final = 120.0
CALM_LIMIT_S: Final = 60.0
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


def repro(seed: int, generations: int) -> str:
    """The one line that carries out the same plan again."""
    return f"make chaos SEED={seed} GENERATIONS={generations}"


async def run(seed: int, generations: int, *, time_scale: float = TIME_SCALE, say: Say = lambda _: None) -> Report:
    """Carry out the plan of a seed in a world of its own, and check everything."""
    made, began = plan(seed, generations), time.monotonic()
    async with world(prompt=f"canary-of-the-sunken-lighthouse-{seed}", time_scale=time_scale) as at:
        act = _Act(at, made, say)
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
        "kills": at.fleet.kills,
        "stops": at.fleet.stops,
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
                await asyncio.gather(self._calm(), self._all_ended())
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
        made = self._at.onetake.plan(request)
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
        fleet, stack = self._at.fleet, self._at.stack
        match blow.kind:
            case "kill" if part := fleet.idle(blow.target):
                await fleet.down(part, blow.for_s)
            case "stop" if part := fleet.idle(blow.target):
                await fleet.stop(part, blow.for_s)
            case "crash" if part := fleet.idle(part_of(blow.target)):
                await fleet.arm(part, blow.target, blow.for_s)
            case "kill" | "stop" | "crash":
                pass  # all of this kind are down already: never to let any work would be no test
            case "freeze":
                await self._at.freeze(blow.target, blow.for_s)
            case "outage":
                await _quietly(stack.control("outage", vendor=blow.target, seconds=blow.for_s))
            case "silence":
                await _quietly(stack.control("callbacks", enabled=False))
                await asyncio.sleep(blow.for_s)
                await _quietly(stack.control("callbacks", enabled=True))
            case "forge":
                await self._forge(blow.target)

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
        """A few generations that nothing disturbs."""
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
        """By hand, with the schedule paused: until a pass does nothing, and then one pass more."""
        await self._at.pause_schedule()
        for _ in range(MOST_PASSES):
            if not await self._at.reconcile():
                break
            await asyncio.sleep(1)
        before = await self._at.journal()
        await self._at.reconcile()
        self._passes = before, await self._at.journal()

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
