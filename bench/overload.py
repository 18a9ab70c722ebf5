"""Many starts at once at a vendor that takes 20 jobs at a time and answers 429 beyond, and what others notice of it.

The long run starts 1,000, the short one 100. Times are scaled: a job takes a twentieth of a usual render.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

from bench.report import Goal, Row, quantile
from bench.stack import ROUTE, TENANT, Bench
from onetake.client import Onetake, Started
from onetake.client.requests import request_of
from onetake.core.contracts import GenerationRequest, GenerationResult
from onetake.ledger.database import Database

SCALE: Final = 0.05
TAKES: Final = 20
READS_PER_S: Final = 20
RENDER_S: Final = 4.5
SHORT: Final = 100
LONG: Final = 1_000
FEW: Final = 10  # of a tenant who comes last
CALLERS: Final = 40
SAMPLES: Final = 20
SAMPLE_GAP_S: Final = 1.0
OTHER: Final = "wan26ai/wan-2.6/text-to-video"
LIMIT_S: Final = 3600.0
DEADLINE_S: Final = 86_400
_QUEUE: Final = "bench-overload"
_VENDOR: Final = ROUTE.partition("/")[0]
_WAITS: Final = """
select g.tenant, extract(epoch from s.sent_at - g.created_at)::float8 as wait_s
from onetake.generation g join onetake.submission s on s.generation_id = g.id
where g.id = any ($1::text[]) and s.state = 'accepted'
"""


@dataclass(frozen=True)
class Crowd:
    """How the generations of the full vendor ended, how long each waited for its POST, and the vendor's book."""

    results: list[GenerationResult]
    waits_s: list[float]
    few_waits_s: list[float]
    took_s: float
    book: dict[str, Any]


async def measure(bench: Bench) -> list[Row]:
    """Some at another vendor alone, then the same beside the crowd."""
    number = LONG if bench.long else SHORT
    clips = {"duration_s": 5, "resolution": "720p"}
    (await bench.simulator.post("/control/prerender", json=clips)).raise_for_status()
    async with bench.deployment(_QUEUE, time_scale=SCALE) as onetake:
        alone = await _samples(onetake)
        limits = {"vendor": _VENDOR, "jobs": TAKES, "reads_per_s": READS_PER_S}
        (await bench.simulator.post("/control/limits", json=limits)).raise_for_status()
        try:
            crowd, beside = await asyncio.gather(_crowd(bench, onetake, number), _samples(onetake))
        finally:
            await bench.simulator.post("/control/limits", json={"vendor": _VENDOR})
    return _rows(number, crowd, alone, beside)


async def _crowd(bench: Bench, onetake: Onetake, number: int) -> Crowd:
    began, left, started = time.perf_counter(), iter(range(number)), list[Started]()

    async def caller() -> None:
        for _ in left:
            started.append(await onetake.start(_request(TENANT)))

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    started += [await onetake.start(_request("few")) for _ in range(FEW)]
    results = await asyncio.gather(*(onetake.result(each.id, LIMIT_S) for each in started))
    took_s = time.perf_counter() - began
    waits = await _waits(bench, [each.id for each in started])
    book = (await bench.simulator.get("/control/limits")).json()[_VENDOR]
    return Crowd(list(results), [*waits[TENANT], *waits["few"]], waits["few"], took_s, book)


async def _waits(bench: Bench, ids: list[str]) -> dict[str, list[float]]:
    """Seconds from a generation's row to the POST that was accepted, by tenant."""
    database = await Database.connect(bench.settings.database_url.get_secret_value(), pool_size=1)
    try:
        rows = await database.rows(_WAITS, ids)
    finally:
        await database.close()
    return {tenant: [row["wait_s"] for row in rows if row["tenant"] == tenant] for tenant in (TENANT, "few")}


async def _samples(onetake: Onetake) -> list[float]:
    """Seconds of each of some generations at another vendor, one begun each second."""

    async def one(number: int) -> float:
        await asyncio.sleep(SAMPLE_GAP_S * number)
        began = time.perf_counter()
        started = await onetake.start(_request("other", OTHER, 5, 1.0))
        await onetake.result(started.id, LIMIT_S)
        return time.perf_counter() - began

    return list(await asyncio.gather(*(one(number) for number in range(SAMPLES))))


def _request(tenant: str, route: str = ROUTE, duration_s: int = 2, render_s: float = RENDER_S) -> GenerationRequest:
    asked = {"route": route, "prompt": f"a crowd [[sim:delay={render_s}]]", "duration_s": duration_s}
    return request_of({**asked, "resolution": "720p", "tenant": tenant, "deadline_s": DEADLINE_S})


def _rows(number: int, crowd: Crowd, alone: list[float], beside: list[float]) -> list[Row]:
    done = sum(result.status == "completed" for result in crowd.results)
    codes = sorted({result.error.code for result in crowd.results if result.error})
    book, least_s = crowd.book, len(crowd.results) / TAKES * RENDER_S
    others, few = quantile(beside, 0.95) / quantile(alone, 0.95), quantile(crowd.few_waits_s, 0.5)
    name = f"{number:,} at a vendor that takes {TAKES} at once"
    share, refused = done / len(crowd.results), book["refused_submits"]
    ended = f"{done:,} completed {' '.join(codes)}".strip()
    took = f"all ended after {crowd.took_s:.0f} s, at the earliest {least_s:.0f} s"
    waited = f"p50 {quantile(crowd.waits_s, 0.5):.1f} s, p99 {quantile(crowd.waits_s, 0.99):.1f} s"
    facts: dict[str, Any] = {"book": book, "took_s": crowd.took_s, "waits_s": sorted(crowd.waits_s)}
    beside_s, alone_s = f"p95 {quantile(beside, 0.95):.2f} s", f"alone {quantile(alone, 0.95):.2f} s"
    posts = f"{refused} of {book['submits']}"
    reads = f"{book['refused_reads']} of {book['reads']}"
    return [
        Row(name, ended, took, share, Goal("≥", 1), facts),
        Row("  submissions refused by the vendor", posts, "", refused / book["submits"]),
        Row("  reads refused by the vendor", reads, f"it answers {READS_PER_S} a second"),
        Row("  waiting for the POST", waited, f"a tenant who came last with {FEW}: p50 {few:.1f} s"),
        Row("  another vendor beside it", beside_s, alone_s, others, Goal("≤", 1.5)),
    ]
