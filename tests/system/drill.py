"""A restore, rehearsed: `python -m tests.system.drill --generations N`, or `make drill`.

A real PostgreSQL with an archive of its log, a real Temporal with its runs in a file, and simulated vendors. First the
ledger is put back to a second, by the scripts that operators use, while Temporal stays as it is; then Temporal is put
back to an older copy while the ledger stays. Each time the work goes on, and what counts stands in the vendors' own
journal: no second submission, every paid job with its row and its hold, and the money right.
"""

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.service import RPCError

from onetake.client import Onetake, Started
from onetake.core.leaving import leave
from onetake.core.settings import Settings, load_settings
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from onetake.dev.stack import vendor_environment
from onetake.engine.temporal import connect
from onetake.ledger import Database
from onetake.ledger.invariants import violations
from onetake.ledger.migrate import upgrade
from onetake.operations.failover import AfterFailover
from onetake.operations.reconciler import LEAST_STALE_S, Reconciler
from tests.chaos.run import Say, say_on_stderr
from tests.servers import Run, Servers, shared
from tests.system.backed import Backed
from tests.system.forked import Child, spawn
from tests.system.harness import bare_environ, settings_in
from tests.system.own_temporal import OwnTemporal

ROUTES: Final = ("apixo/wan-2.6/text-to-video", "gmi/wan-2.6/text-to-video", "wan26ai/wan-2.6/text-to-video")
SCALE: Final = 0.05
LONG_S: Final = 12  # a render that is under way while the servers are put back
WAIT_S: Final = 300.0
LAST_WORDS: Final = 4000
END_S: Final = 300.0
PASSES: Final = 90
JOBS_OF_PROMPT: Final = """
select g.id, g.status, g.error ->> 'code' as code, h.state as hold, s.state as sent,
       exists (select from onetake.correction c where c.generation_id = g.id) as is_corrected,
       encode(sha256(convert_to(g.request ->> 'prompt', 'UTF8')), 'hex') as prompt
from onetake.generation g left join onetake.hold h on h.generation_id = g.id
left join onetake.submission s on s.generation_id = g.id
"""


@dataclass(frozen=True)
class Half:
    """What one restore ended in. `forgotten`: generations that the older side did not know; `mended`: what the passes
    did about them; `was_paid`: jobs that the vendors charge."""

    title: str
    generations: int
    forgotten: int
    mended: Counter[str]
    was_paid: int
    ends: Counter[str]
    broken: tuple[str, ...]
    took_s: float


@dataclass
class Stage:
    """The servers of a drill and its worker, which is a process of its own."""

    backed: Backed
    temporal: OwnTemporal
    environ: dict[str, str] = field(repr=False)
    simulator_url: str
    log: Path
    started: list[Started] = field(default_factory=list[Started])
    worker: Child | None = None

    @property
    def settings(self) -> Settings:
        return load_settings(**settings_in(self.environ))

    def work(self) -> None:
        self.worker = spawn(["worker"], self.environ, self.log)

    async def stop_work(self) -> None:
        """As its machine dies: nothing is finished."""
        if self.worker:
            self.worker.kill()
            await self.worker.wait(WAIT_S)
            self.worker = None

    async def order(self, name: str, number: int, marker: str = "") -> list[Started]:
        """Start so many generations at several vendors."""
        async with Onetake.connect(self.settings) as onetake:
            new = [
                await onetake.start(
                    route=ROUTES[turn % len(ROUTES)],
                    prompt=f"drill {name}.{turn} {marker}",
                    duration_s=5,
                    resolution="720p",
                )
                for turn in range(number)
            ]
        self.started += new
        return new

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[Database]:
        database = await Database.connect(self.settings.database_url.get_secret_value())
        try:
            yield database
        finally:
            await database.close()

    async def jobs(self) -> Counter[str]:
        """How many jobs the vendors have of each prompt."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            journal = (await http.get(f"{self.simulator_url}/journal")).json()
        return Counter(job["prompt_sha256"] for job in journal["jobs"])

    async def until_paid(self, number: int) -> None:
        """Return when the vendors have so many jobs."""
        await self._until(lambda: self._has_jobs(number), f"{number} jobs at the vendors")

    async def _has_jobs(self, number: int) -> bool:
        return sum((await self.jobs()).values()) >= number

    async def until_done(self, started: Sequence[Started]) -> None:
        """Return when these have ended."""
        await self._until(lambda: self._are_done(started), "the end of what was started")

    async def _are_done(self, started: Sequence[Started]) -> bool:
        async with self.database() as database:
            row = await database.answer(
                "select count(*) as number from onetake.generation where id = any($1) and phase = 'done'",
                [each.id for each in started],
            )
        return row["number"] == len(started)

    async def _until(self, is_so: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not await is_so():
            code = self.worker.ended() if self.worker else None
            if code is not None or time.monotonic() > deadline:
                why = f"{WAIT_S:.0f} s passed" if code is None else f"The worker ended with {code}"
                said = self.log.read_text(errors="replace")[-LAST_WORDS:]
                raise AssertionError(f"{why} before {what} came.\n{await self._open()}\n{said}")
            await asyncio.sleep(0.2)

    async def _open(self) -> str:
        """What each run that is open waits for, in the server's own words."""
        engine, waits = await connect(self.settings), list[str]()
        for each in self.started:
            with suppress(RPCError):
                run = await engine.get_workflow_handle(each.workflow_id).describe()
                if run.status is WorkflowExecutionStatus.RUNNING:
                    known = run.raw_description
                    waits.append(f"{each.id}: {known.pending_workflow_task} {list(known.pending_activities)}")
        return "\n".join(waits)


async def older_ledger(stage: Stage, number: int, say: Say) -> Half:
    """The ledger goes back to a second; Temporal knows all that came after it."""
    began = time.monotonic()
    stage.work()
    ended = await stage.order("before", number)
    await stage.until_done(ended)
    await stage.backed.base()
    under_way = await stage.order("under way", number, f"[[sim:delay={LONG_S}]]")
    await stage.backed.incremental()
    await stage.until_paid(2 * number)
    moment = await stage.backed.now()
    say(f"backed up; the ledger will go back to {moment:%H:%M:%S.%f} UTC")
    quick = await stage.order("forgotten", number)
    slow = await stage.order("forgotten under way", number, f"[[sim:delay={LONG_S}]]")
    await stage.until_paid(4 * number)
    await stage.until_done(quick)
    await stage.backed.archived()
    await stage.stop_work()
    say(await stage.backed.restore(moment))
    async with stage.database() as database:
        known = {row["id"] for row in await database.rows("select id from onetake.generation")}
    forgotten = [each for each in (*ended, *under_way, *quick, *slow) if each.id not in known]
    mended = await _after_failover(stage)
    stage.work()
    return await _half(stage, "the ledger was older than Temporal", forgotten, mended, began)


async def older_temporal(stage: Stage, number: int, say: Say) -> Half:
    """Temporal goes back to an older copy; the ledger knows all that came after it."""
    began = time.monotonic()
    if stage.worker is None:
        stage.work()
    before = sum((await stage.jobs()).values())
    await stage.stop_work()
    kept = await stage.order("again", number)  # Temporal's copy holds them before their first step
    await stage.temporal.copy()
    stage.work()
    await stage.until_done(kept)
    quick = await stage.order("unknown", number)
    slow = await stage.order("unknown under way", number, f"[[sim:delay={LONG_S}]]")
    await stage.until_paid(before + 3 * number)
    await stage.until_done(quick)
    await stage.stop_work()
    say("Temporal goes back to a copy that is older than the ledger")
    stage.temporal.put_back()
    await stage.temporal.start()
    engine = await connect(stage.settings)
    forgotten = [each for each in (*kept, *quick, *slow) if await _is_absent(engine, each)]
    mended = await _after_failover(stage)
    stage.work()
    return await _half(stage, "Temporal was older than the ledger", forgotten, mended, began)


async def _is_absent(engine: Any, started: Started) -> bool:
    try:
        await engine.get_workflow_handle(started.workflow_id).describe()
    except RPCError:
        return True
    return False


async def _after_failover(stage: Stage) -> Counter[str]:
    """What `onetake reconcile --after-failover` writes again, before anybody works."""
    engine = await connect(stage.settings)
    async with stage.database() as database:
        found = (await AfterFailover(engine, database).run_once()).findings
        again = (await AfterFailover(engine, database).run_once()).findings
    lacks = [each.found for each in found if each.action == "none"] + [f"again: {each.found}" for each in again]
    return Counter(each.action for each in found) + Counter(f"UNSETTLED {each}" for each in lacks)


async def _half(stage: Stage, title: str, forgotten: Sequence[Started], mended: Counter[str], began: float) -> Half:
    mended += await _reconciled(stage)
    async with stage.database() as database:
        rows = await database.rows(JOBS_OF_PROMPT)
        wrong = [*await violations(database), *await _untrue(stage, {row["id"]: row for row in rows})]
    jobs = await stage.jobs()
    return Half(
        title,
        generations=len(stage.started),
        forgotten=len(forgotten),
        mended=mended,
        was_paid=sum(jobs.values()),
        ends=Counter(f"{row['status']}/{row['code']}" if row["code"] else row["status"] for row in rows),
        broken=(*broken(rows, jobs, stage.started), *_unsettled(mended), *wrong),
        took_s=time.monotonic() - began,
    )


async def _reconciled(stage: Stage) -> Counter[str]:
    """Passes until nothing is left to do and nothing runs; what they did."""
    engine, acted = await connect(stage.settings), Counter[str]()
    open_runs = "WorkflowType IN ('Generation', 'Recovery') AND ExecutionStatus = 'Running'"
    deadline, since = time.monotonic() + END_S, time.monotonic()
    async with stage.database() as database:
        reconciler = Reconciler(engine, database, time_scale=SCALE)
        while time.monotonic() < deadline:
            found = [each for each in (await reconciler.run_once()).findings if each.action != "none"]
            acted += Counter(each.action for each in found)
            await _results(engine, stage.started)
            left = await database.answer("select count(*) as number from onetake.generation where phase <> 'done'")
            busy = found or left["number"] or (await engine.count_workflows(open_runs)).count
            if not busy and time.monotonic() - since > LEAST_STALE_S:
                return acted
            await asyncio.sleep(1)
    acted["UNSETTLED passes that never came to rest"] += 1
    return acted


async def _results(engine: Any, started: Sequence[Started]) -> None:
    """Wait for the runs that Temporal knows: a list of them is late."""
    for each in started:
        with suppress(WorkflowFailureError, RPCError, TimeoutError):
            handle = engine.get_workflow_handle(each.workflow_id)
            if (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.wait_for(handle.result(), 5)


async def _untrue(stage: Stage, rows: Mapping[str, Any]) -> list[str]:
    """Runs that told their callers another end than the ledger has."""
    engine, wrong = await connect(stage.settings), list[str]()
    for each in stage.started:
        row = rows.get(each.id)
        if row is None or row["is_corrected"] or await _is_absent(engine, each):
            continue
        told = (await engine.get_workflow_handle(each.workflow_id).describe()).status
        if (told is WorkflowExecutionStatus.COMPLETED) != (row["status"] == "completed"):
            wrong.append(f"{each.id} is {row['status']}, and its run is {told.name if told else 'unknown'}")
    return wrong


def _unsettled(mended: Counter[str]) -> list[str]:
    """What a pass could not do, or did twice."""
    return [what.removeprefix("UNSETTLED ") for what in mended if what.startswith("UNSETTLED ")]


def broken(rows: Sequence[Any], jobs: Counter[str], started: Sequence[Started]) -> list[str]:
    """What must not be, in words."""
    by_prompt = {row["prompt"]: row for row in rows}
    paid = [by_prompt.get(prompt) for prompt in jobs]
    known = {row["id"] for row in rows}
    wrong = {
        "second submissions": sum(number - 1 for number in jobs.values()),
        "paid jobs without a row and a hold": sum(row is None or row["hold"] is None for row in paid),
        "paid jobs whose hold was released": sum(row is not None and row["hold"] == "released" for row in paid),
        "holds of ended generations that are open": sum(row["hold"] == "held" for row in rows),
        "generations that nobody knows any more": sum(each.id not in known for each in started),
        "paid jobs whose clip is lost although its id is known": sum(
            row is not None and row["status"] != "completed" and row["sent"] == "accepted" for row in paid
        ),
    }
    return [f"{number} {words}" for words, number in wrong.items() if number]


@asynccontextmanager
async def staged(servers: Servers) -> AsyncGenerator[Stage]:
    """Bring everything up. From then on the environment names its Temporal."""
    home = Path(tempfile.mkdtemp(prefix="onetake-drill-"))
    backed, temporal = Backed(home), OwnTemporal(home)
    stage: Stage | None = None
    try:
        await asyncio.gather(backed.start(), temporal.start())
        await upgrade(backed.url)
        with running(SimulatorConfig(render_s=0.5)) as url:
            stage = Stage(backed, temporal, _environ(servers, backed, temporal, url), url, home / "worker.log")
            yield stage
            await stage.stop_work()
    finally:
        if stage:
            await stage.stop_work()
        temporal.kill()
        backed.kill()
        shutil.rmtree(home, ignore_errors=True)


def _environ(servers: Servers, backed: Backed, temporal: OwnTemporal, url: str) -> dict[str, str]:
    where = {"TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_NAMESPACE": "default"}
    os.environ |= where
    vendors, _ = vendor_environment({}, url)
    endpoint = servers.addresses.s3_endpoint
    named = {f"ONETAKE_S3_{name}": value for name, value in (("ENDPOINT", endpoint), ("SECURE", "false"))}
    named |= {"ONETAKE_S3_ACCESS_KEY": servers.keys.access_key, "ONETAKE_S3_SECRET_KEY": servers.keys.secret_key}
    named |= {"ONETAKE_S3_BUCKET": servers.bucket(f"drill-{os.getpid()}"), "ONETAKE_DATABASE_URL": backed.url}
    named |= {"ONETAKE_INSECURE_PLAINTEXT_HISTORY": "true", "ONETAKE_RECONCILE_EVERY_S": "0", **vendors}
    named |= {"ONETAKE_TIME_SCALE": str(SCALE), "ONETAKE_TRUSTED_HOSTS": f"{endpoint},{url.removeprefix('http://')}"}
    return bare_environ() | where | named


async def drill(servers: Servers, number: int, *, say: Say = lambda _: None) -> list[Half]:
    """Both restores, one after the other, on servers of its own; `number` generations of each kind."""
    async with staged(servers) as stage:
        return [await older_ledger(stage, number, say), await older_temporal(stage, number, say)]


def show(halves: Sequence[Half]) -> None:
    """The report, for people."""
    for half in halves:
        lines = [f"When {half.title}:"]
        lines += [f"  {half.generations} generations in all, {half.was_paid} jobs at the vendors"]
        lines += [f"  {half.forgotten} generations were unknown to the older side"]
        lines += [f"  {number} {action}, by the passes" for action, number in sorted(half.mended.items())]
        lines += [f"  {number} ended {end}" for end, number in sorted(half.ends.items())]
        lines += [f"  BROKEN: {each}" for each in half.broken] or [
            "  nothing was submitted twice, and the money is right"
        ]
        sys.stdout.write("\n".join([*lines, f"  {half.took_s:.0f} s", ""]))
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run it; the exit code is 1 when anything is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.drill", description=__doc__)
    parser.add_argument("--generations", type=int, default=9, help="of each of seven kinds (default: 9)")
    options = parser.parse_args(arguments)
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    run = Run.begin()
    halves = asyncio.run(drill(shared(run.folder), options.generations, say=say_on_stderr))
    show(halves)
    run.end()
    leave(1 if any(half.broken for half in halves) else 0)


if __name__ == "__main__":
    main()
