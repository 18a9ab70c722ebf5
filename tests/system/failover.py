"""A database that fails over while generations are submitted: `python -m tests.system.failover --kills N --seed S`.

A real primary and a real asynchronous standby. At one drawn place the standby is cut off. At the same or a later one
the primary is killed and the standby promoted, without what was committed in between: the intent, the record, the hold,
or the generation's row. The worker that reached the place dies with it, or goes on. What counts stands in the vendors'
own journal: no second submission, and no hold of a paid job released.
"""

import argparse
import asyncio
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast

import httpx
from temporalio.client import Client, WorkflowFailureError

from onetake.client import Onetake, Started
from onetake.core.errors import TryLater
from onetake.core.leaving import leave
from onetake.core.settings import Settings, load_settings
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from onetake.dev.stack import vendor_environment
from onetake.engine.temporal import connect
from onetake.ledger import Database
from onetake.ledger.invariants import violations
from onetake.operations.failover import AfterFailover
from onetake.operations.reconciler import Reconciler
from onetake.operations.runs import RUNNING
from onetake.worker import run_worker
from tests.chaos.run import Say, say_on_stderr
from tests.servers import Run, Servers, shared
from tests.system.harness import patiently, settings_in
from tests.system.standby import Pair

T = TypeVar("T")

# In the order in which a generation reaches them: before and after the hold, its intent, its POST, its record.
PLACES: Final = ("hold", "held", "intent", "intended", "sent", "recorded", "settlement")
_AROUND: Final[dict[tuple[str, str], tuple[str, str]]] = {
    ("reserve", "reserve"): ("hold", "held"),
    ("submit", "begin"): ("intent", "intended"),
    ("submit", "submit"): ("", "sent"),
    ("submit", "record"): ("", "recorded"),
    ("settle", "settle"): ("settlement", ""),
}
ROUTES: Final = ("apixo/wan-2.6/text-to-video", "gmi/wan-2.6/text-to-video", "wan26ai/wan-2.6/text-to-video")
SCALE: Final = 0.01
IN_FLIGHT: Final = 3
KILL_LIMIT_S: Final = 300.0
END_LIMIT_S: Final = 900.0
PASSES: Final = 240


@dataclass(frozen=True)
class Kill:
    """Where the standby is cut off, where the primary dies, and whether the worker dies with it."""

    cut: str
    death: str
    worker_dies: bool


@dataclass(frozen=True)
class Outcome:
    """`restored`: what an operator's pass wrote again; `missed`: kills whose place nobody reached."""

    generations: int
    kills: int
    missed: int
    jobs: int
    second_submissions: int
    released_paid: int
    lost: int
    open_holds: int
    ambiguous: int
    hidden: int
    restored: int
    ends: Counter[str]
    violations: list[str]
    took_s: float

    @property
    def broken(self) -> list[str]:
        """What must not be, in words."""
        wrong = {
            f"{self.second_submissions} second submissions": self.second_submissions,
            f"{self.released_paid} released holds of paid jobs": self.released_paid,
            f"{self.lost} paid jobs without a row and a hold": self.lost,
            f"{self.open_holds} holds of ended runs": self.open_holds,
            f"{self.hidden} unknown outcomes that do not say so": self.hidden,
            f"{self.missed} kills that killed nobody": self.missed,
        }
        return [words for words, number in wrong.items() if number] + self.violations


def kills_of(seed: int, number: int) -> list[Kill]:
    """So many kills around the intent and the record, as the seed decides."""
    chance = random.Random(seed)
    kills: list[Kill] = []
    for _ in range(number):
        cut = chance.choices(range(6), weights=(1, 2, 3, 2, 3, 1))[0]
        death = chance.randint(max(cut, 2), min(cut + 3, len(PLACES) - 1))
        dies = PLACES[death] in {"intended", "sent", "recorded"} and chance.random() < 0.5
        kills.append(Kill(PLACES[cut], PLACES[death], dies))
    return kills


@dataclass
class _Places:
    """Around the ports of the activities: cuts and kills where it is told to."""

    pair: Pair
    kill: Kill | None = None
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    _is_cut: bool = False
    _dying: asyncio.Task[None] | None = None

    def arm(self, kill: Kill | None) -> None:
        self.kill, self._is_cut = kill, False
        self.dead.clear()

    def decorate(self, activity: str, port: T) -> T:
        return cast("T", _Watched(self, activity, port))

    async def reached(self, place: str) -> None:
        kill = self.kill
        if kill is None or not place:
            return
        if place == kill.cut and not self._is_cut:
            self._is_cut = True
            self.pair.cut()
        if place == kill.death and self._is_cut:
            self.kill = None
            # A step in the workflow's own task is cut off after three seconds; a failover that has begun is not.
            self._dying = asyncio.create_task(self._fail_over())
            await asyncio.shield(self._dying)
            if kill.worker_dies:
                raise RuntimeError("the worker died here")

    async def _fail_over(self) -> None:
        await self.pair.fail_over()
        self.dead.set()


class _Watched:
    def __init__(self, places: _Places, activity: str, port: object) -> None:
        self._places = places
        self._activity = activity
        self._port = port

    def __getattr__(self, name: str) -> Any:
        method, around = getattr(self._port, name), _AROUND.get((self._activity, name))
        return method if around is None else _watched(self._places, method, *around)


def _watched(
    places: _Places, method: Callable[..., Awaitable[Any]], before: str, after: str
) -> Callable[..., Awaitable[Any]]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        await places.reached(before)
        answer = await method(*args, **kwargs)
        await places.reached(after)
        return answer

    return call


async def failover(
    servers: Servers, kills: Sequence[Kill], *, routes: Sequence[str] = ROUTES, say: Say = lambda _: None
) -> Outcome:
    """Carry them out on a pair of its own. From then on the environment names its namespace of Temporal."""
    began, missed, started = time.monotonic(), 0, list[Started]()
    async with _stage(servers) as (pair, places, settings, simulator_url), Onetake.connect(settings) as onetake:
        for number, kill in enumerate(kills):
            places.arm(kill)
            started += await _start(onetake, number, routes)
            killed = await _killed(places)
            missed += not killed
            say(f"kill {number + 1} of {len(kills)}: {kill}{'' if killed else ': nobody came there'}")
            places.arm(None)
            await pair.follow() if killed else pair.mend()
        await _ended(settings, started, say)
        return await _outcome(settings, simulator_url, started, len(kills), missed, began)


async def _start(onetake: Onetake, turn: int, routes: Sequence[str]) -> list[Started]:
    """Some generations at several vendors; every third one is turned away once before it is taken."""
    started: list[Started] = []
    for number in range(IN_FLIGHT):
        marker = "[[sim:throttle=1,0]]" if number == 0 else ""
        with suppress(TryLater):  # the database dies just now
            route = routes[number % len(routes)]
            prompt = f"failover {turn}.{number} {marker}"
            started.append(await onetake.start(route=route, prompt=prompt, duration_s=5, resolution="720p"))
    return started


async def _killed(places: _Places) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(KILL_LIMIT_S):
            return await places.dead.wait()
    return False


async def _ended(settings: Settings, started: Sequence[Started], say: Say) -> None:
    engine = await patiently(lambda: connect(settings))

    async def end(each: Started) -> None:
        with suppress(WorkflowFailureError):
            await engine.get_workflow_handle(each.workflow_id).result()

    say(f"{len(started)} generations are brought to their ends")
    async with asyncio.timeout(END_LIMIT_S):
        await asyncio.gather(*map(end, started))
        while (await engine.count_workflows(RUNNING)).count:  # the pass goes by Temporal's list, which is late
            await asyncio.sleep(0.1)


async def _outcome(
    settings: Settings, simulator_url: str, started: Sequence[Started], kills: int, missed: int, began: float
) -> Outcome:
    database = await patiently(lambda: Database.connect(settings.database_url.get_secret_value()))
    engine = await patiently(lambda: connect(settings))
    restored = (await AfterFailover(engine, database).run_once()).findings
    again = (await AfterFailover(engine, database).run_once()).findings
    assert again == (), "a second pass finds nothing more"
    await _reconciled(engine, database)
    rows = await database.rows(
        """select g.id, g.status, g.phase, g.error ->> 'code' as code, h.state as hold, s.state as sent,
                  encode(sha256(convert_to(g.request ->> 'prompt', 'UTF8')), 'hex') as prompt
        from onetake.generation g left join onetake.hold h on h.generation_id = g.id
        left join onetake.submission s on s.generation_id = g.id"""
    )
    broken = await violations(database)
    await database.close()
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        journal = (await http.get(f"{simulator_url}/journal")).json()
    jobs = Counter(job["prompt_sha256"] for job in journal["jobs"])
    unknown = [row for row in rows if row["sent"] in ("sending", "ambiguous")]
    by_prompt = {row["prompt"]: row for row in rows}
    paid = [by_prompt.get(prompt) for prompt in jobs]
    return Outcome(
        generations=len(started),
        kills=kills,
        missed=missed,
        jobs=sum(jobs.values()),
        second_submissions=sum(number - 1 for number in jobs.values()),
        released_paid=sum(row is not None and row["hold"] == "released" for row in paid),
        lost=sum(row is None or row["hold"] is None for row in paid),
        open_holds=sum(row["hold"] == "held" for row in rows),
        ambiguous=len(unknown),
        hidden=sum(row["code"] != "submission_outcome_unknown" or row["hold"] != "suspended" for row in unknown),
        restored=len(restored),
        ends=Counter(f"{row['status']}/{row['code']}" if row["code"] else row["status"] for row in rows),
        violations=broken,
        took_s=time.monotonic() - began,
    )


async def _reconciled(engine: Client, database: Database) -> None:
    """Passes until nothing is left to do and nothing is open. What nobody serves is looked at when it is old."""
    reconciler = Reconciler(engine, database, time_scale=SCALE)
    await database.row(
        "update onetake.generation set created_at = created_at - interval '1 hour' where phase <> 'done'"
    )
    for _ in range(PASSES):
        acted = any(each.action != "none" for each in (await reconciler.run_once()).findings)
        left = await database.answer("select count(*) as number from onetake.generation where phase <> 'done'")
        if not acted and not left["number"]:
            return
        await asyncio.sleep(1)


@asynccontextmanager
async def _stage(servers: Servers) -> AsyncGenerator[tuple[Pair, _Places, Settings, str]]:
    """A pair, a simulator and a worker in this process, in a namespace and a bucket of their own."""
    home = Path(tempfile.mkdtemp(prefix="onetake-failover-"))
    pair = Pair(home)
    await pair.start()
    places = _Places(pair)
    given = await asyncio.to_thread(servers.of_ones_own, "failover")
    with running(SimulatorConfig(render_s=0.5)) as url:
        vendors, _ = vendor_environment({}, url)
        os.environ.update({name: given[name] for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")})
        named = {**given, **vendors, "ONETAKE_DATABASE_URL": pair.url, "ONETAKE_TIME_SCALE": str(SCALE)}
        named |= {"ONETAKE_INSECURE_PLAINTEXT_HISTORY": "true", "ONETAKE_RECONCILE_EVERY_S": "0"}
        named["ONETAKE_TRUSTED_HOSTS"] = f"{given['ONETAKE_TRUSTED_HOSTS']},{url.removeprefix('http://')}"
        settings = load_settings(**settings_in(named))
        try:
            async with asyncio.TaskGroup() as beside:
                worker = beside.create_task(_work(settings, places))
                yield pair, places, settings, url
                worker.cancel()
        finally:
            await pair.stop()
            shutil.rmtree(home, ignore_errors=True)


async def _work(settings: Settings, places: _Places) -> NoReturn:
    """Its worker works to the end: whoever waits for what it does would else wait in vain."""
    await run_worker(settings, decorate=places.decorate)
    raise RuntimeError("the worker has ended")


def show(outcome: Outcome) -> None:
    """The figures, for people."""
    facts = {
        "generations": outcome.generations,
        "failovers": outcome.kills - outcome.missed,
        "jobs at the vendors": outcome.jobs,
        "second submissions": outcome.second_submissions,
        "released holds of paid jobs": outcome.released_paid,
        "paid jobs without records": outcome.lost,
        "ambiguous": outcome.ambiguous,
        "written again by the pass": outcome.restored,
        **{f"  {end}": number for end, number in sorted(outcome.ends.items())},
        "seconds": round(outcome.took_s),
    }
    sys.stdout.write("\n" + "".join(f"{name:<44} {value}\n" for name, value in facts.items()))
    sys.stdout.write("".join(f"BROKEN: {line}\n" for line in outcome.broken) or "the promise held\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run it; the exit code is 1 when anything is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="three generations each (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="decides the places")
    options = parser.parse_args(arguments)
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    run, kills = Run.begin(), kills_of(options.seed, options.kills)
    outcome = asyncio.run(failover(shared(run.folder), kills, say=say_on_stderr))
    show(outcome)
    run.end()
    leave(1 if outcome.broken else 0)


if __name__ == "__main__":
    main()
