"""A burst of starts, and what many generations cost while they wait for their vendor, with and without callbacks.

The long run has 1,000 in flight, the short one 200. Their jobs never end, so nothing is measured but the waiting.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Final

from bench import processes
from bench.journal import Journal
from bench.report import Goal, Row, quantile
from bench.stack import Bench, BenchError, request
from bench.steps import Accepted, Steps, steps
from onetake.client import Onetake
from onetake.core.ports import SubmitOrder
from onetake.worker import MOST_SUBMISSIONS

CALLERS: Final = 40
CONTROLS: Final = 20
IDLE_S: Final = 10.0
REST_S: Final = 5.0
SECONDS_EACH: Final = 5.0  # for one submission, before the bench gives up
WOKEN: Final = 10  # before, so that the deployment has seen callbacks come
ENDLESS: Final = "a harbour in winter [[sim:never]]"
_QUEUES: Final = ("bench-waiting", "bench-silent")


@dataclass(frozen=True)
class Scale:
    """How many wait, and how long they are watched with callbacks and without."""

    number: int
    window_s: float
    watched_s: float


# With callbacks for as long as the longest gap between two reads to be safe; without them for some reads of a job by
# the documented cadence of the route.
SHORT: Final = Scale(200, 120.0, 75.0)
LONG: Final = Scale(1_000, 120.0, 150.0)


async def measure(bench: Bench) -> list[Row]:
    """What the submissions take alone, then a burst of them that waits, then one that no callback will ever wake."""
    scale = LONG if bench.long else SHORT
    await asyncio.gather(*(bench.generate("woken [[sim:delay=2]]") for _ in range(WOKEN)))
    alone = await _alone(bench, scale.number)
    async with bench.deployment(_QUEUES[0]) as onetake:
        rows = await _with_callbacks(bench, onetake, scale, alone)
    async with bench.deployment(_QUEUES[1], callback_base_url="") as onetake:
        return [*rows, *await _without_callbacks(bench, onetake, scale)]


# -- The burst ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alone:
    """Seconds until the last submission of as many, straight to the vendor, and with all that the ledger needs."""

    posts_s: float
    steps_s: float


async def _alone(bench: Bench, number: int) -> Alone:
    async with steps(bench.settings, None) as built:
        posts_s = await _timed(number, MOST_SUBMISSIONS, partial(_post, built))
        submitted: list[tuple[Accepted, str]] = []
        steps_s = await _timed(number, CALLERS, partial(_submit, built, submitted))
        for accepted, task_id in submitted:
            await built.abandon(accepted, task_id)
        return Alone(posts_s, steps_s)


async def _post(built: Steps) -> None:
    """One POST by the driver that a worker uses."""
    asked = request(ENDLESS)
    plan = built.admitted(asked)
    outcome = await built.driver.submit(SubmitOrder(plan, asked, None, built.driver.chosen_seed(plan, asked)))
    if outcome.outcome != "accepted":
        raise BenchError(f"a submission was {outcome.outcome}")


async def _submit(built: Steps, submitted: list[tuple[Accepted, str]]) -> None:
    """One submission with all that makes it safe, and no engine."""
    accepted = await built.accept(request(ENDLESS))
    await built.reserve(accepted)
    submitted.append((accepted, await built.submit(accepted)))


async def _timed(number: int, callers: int, run: Callable[[], Awaitable[object]]) -> float:
    left, began = repeat(None, number), time.perf_counter()

    async def caller() -> None:
        for _ in left:
            await run()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - began


@dataclass(frozen=True)
class Burst:
    """Seconds since its first start."""

    accepted_s: float
    first_post_s: float
    last_post_s: float


async def _burst(onetake: Onetake, journal: Journal, number: int) -> Burst:
    """Start so many as fast as the callers are answered, and wait for the last submission."""
    began = time.time()
    accepted_s = await _timed(number, CALLERS, lambda: onetake.start(request(ENDLESS)))
    await _until(lambda: len(journal.submitted) >= number, journal, SECONDS_EACH * number)
    if len(journal.submitted) != number:
        raise BenchError(f"{len(journal.submitted)} submissions of {number} generations")
    posted = journal.submitted.values()
    return Burst(accepted_s, min(posted) - began, max(posted) - began)


async def _until(done: Callable[[], bool], journal: Journal, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > until:
            raise BenchError(f"only {len(journal.submitted)} submissions after {limit_s:.0f} s")
        await asyncio.sleep(0.5)
        journal.read()


def _burst_rows(number: int, burst: Burst, alone: Alone) -> list[Row]:
    facts = {**vars(burst), **vars(alone), "callers": CALLERS, "posts_at_once": MOST_SUBMISSIONS}
    measured = f"POSTs from {burst.first_post_s:.1f} s to {burst.last_post_s:.1f} s"
    straight, plain = burst.last_post_s / alone.posts_s, burst.last_post_s / alone.steps_s
    accepted = f"all accepted after {burst.accepted_s:.1f} s"
    return [
        Row(f"burst of {number:,}", measured, f"POSTs alone {alone.posts_s:.1f} s", straight, Goal("≤", 2), facts),
        Row("  with rows, holds and intents", accepted, f"without an engine {alone.steps_s:.1f} s", plain),
    ]


# -- Waiting -----------------------------------------------------------------------------------------------------------


async def _with_callbacks(bench: Bench, onetake: Onetake, scale: Scale, alone: Alone) -> list[Row]:
    journal, pids = _journal(bench), _pids(bench, _QUEUES[0])
    idle, memory = await _cores(pids, IDLE_S), processes.pss_bytes(pids)
    burst = await _burst(onetake, journal, scale.number)
    await asyncio.sleep(REST_S)
    journal.read()
    reads = _number_of_reads(journal)
    used = await _cores(pids, scale.window_s)
    grown = {name: (held - memory[name]) / 1024**2 for name, held in processes.pss_bytes(pids).items()}
    journal.read()
    reads_s = (_number_of_reads(journal) - reads) / scale.window_s
    rows = _burst_rows(scale.number, burst, alone)
    if not used:
        return [*rows, Row("cores while many wait", "this system does not tell (no /proc)")]
    return [*rows, _cores_row(scale, used, idle, reads_s), _memory_row(scale, grown)]


def _pids(bench: Bench, queue: str) -> dict[str, int]:
    """All parts of a deployment, which has one worker, and not the vendor."""
    parts = {name: pid for name, pid in bench.pids.items() if name not in {"media", "simulator"}}
    return parts | {"worker": bench.running.devstack.pid_of(queue)}


def _journal(bench: Bench) -> Journal:
    return Journal(bench.home / "simulator" / "journal.jsonl")


def _number_of_reads(journal: Journal) -> int:
    return sum(map(len, journal.reads.values()))


async def _cores(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """How many cores each part uses, this process excepted."""
    before, began = processes.cpu_seconds(pids), time.perf_counter()
    await asyncio.sleep(seconds)
    used, took_s = processes.cpu_seconds(pids), time.perf_counter() - began
    return {name: (used[name] - before[name]) / took_s for name in pids if name in used}


def _cores_row(scale: Scale, used: dict[str, float], idle: dict[str, float], reads_s: float) -> Row:
    total = sum(used.values())
    facts = {"cores": used, "idle_cores": idle, "reads_s": reads_s}
    measured = f"{total:.2f} cores, {reads_s:.1f} reads/s"
    name = f"{scale.number:,} wait for callbacks"
    return Row(name, measured, f"idle {sum(idle.values()):.2f}", total, Goal("≤", 0.2), facts)


def _memory_row(scale: Scale, grown_mb: dict[str, float]) -> Row:
    if not grown_mb:
        return Row("  memory grown", "this system does not tell")
    parts = ", ".join(f"{name} {mb:.0f}" for name, mb in sorted(grown_mb.items(), key=lambda each: -each[1])[:3])
    facts = {"grown_mb": grown_mb, "in_flight": scale.number}
    return Row("  MB grown over none in flight", f"{sum(grown_mb.values()):.0f} MB (PSS)", parts, None, None, facts)


async def _without_callbacks(bench: Bench, onetake: Onetake, scale: Scale) -> list[Row]:
    """Some alone, then all; how often those of the second half, which many others wait beside, are read."""
    journal, watched_s = _journal(bench), scale.watched_s
    await _burst(onetake, journal, CONTROLS)
    await asyncio.sleep(watched_s + 1)
    journal.read()
    alone = [journal.reads_until(task_id, watched_s) for task_id in journal.submitted]
    crowd = _journal(bench)
    await _burst(onetake, crowd, scale.number)
    before = _number_of_reads(crowd)
    used = await _cores(_pids(bench, _QUEUES[1]), watched_s + 1)
    crowd.read()
    reads_s = (_number_of_reads(crowd) - before) / (watched_s + 1)
    ordered = sorted(crowd.submitted, key=lambda task_id: crowd.submitted[task_id])
    reads = [crowd.reads_until(each, watched_s) for each in ordered[scale.number // 2 :]]
    return [_reads_row(scale, reads, alone), _cost_row(used, reads_s)]


def _reads_row(scale: Scale, reads: Sequence[int], alone: Sequence[int]) -> Row:
    due, done = sum(alone) / len(alone), sum(reads) / len(reads)
    if not due:
        raise BenchError(f"no job was read in its first {scale.watched_s:.0f} s")
    spread = {f"p{100 * share:.0f}": quantile(reads, share) for share in (0.1, 0.5, 0.9)}
    facts: dict[str, Any] = {"reads": done, "alone": due, **spread, "watched_s": scale.watched_s}
    measured, against = f"{done:.2f} reads of each", f"of {len(alone)} alone {due:.2f}"
    return Row(f"{scale.number:,} wait without callbacks", measured, against, done / due, Goal("≥", 0.95), facts)


def _cost_row(used: dict[str, float], reads_s: float) -> Row:
    total = sum(used.values())
    each = f"{1000 * total / reads_s:.0f} ms" if total and reads_s else "not known"
    facts = {"cores": used, "reads_s": reads_s}
    return Row("  processor time of one read", each, f"{reads_s:.1f} reads/s, {total:.2f} cores", None, None, facts)
