"""A month's report over ten million generations, and what the rollup of spend costs a reservation and a settlement.

The report reads generated rows of a year: 1,000 users of 50 tenants, who each make 28 generations a day in three ways
(features and routes) and see one of them fail. That makes seven rows a user and day.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Final, TypeVar

from bench.report import Goal, Row
from bench.stack import Bench, BenchError
from onetake.core.contracts import Price, ReserveInput, SettleInput
from onetake.core.ids import new_generation_id
from onetake.core.money import MICROS_PER_USD
from onetake.core.names import SpendGroup
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger.database import Session, connect_once
from onetake.ledger.invariants import violations
from onetake.ledger.migrate import upgrade
from onetake.ledger.spend import Spend, SpendQuery

DAYS: Final = 365
GENERATIONS: Final = 10_000_000
MONTH: Final = SpendQuery(first=date(2026, 6, 1), last=date(2026, 6, 30))
GROUPS: Final[tuple[SpendGroup, ...]] = ("day", "tenant", "user", "route")
REPEATS: Final = 5
ROUNDS: Final = 4
SECONDS: Final = 1.0
CALLERS: Final = 64
MOST: Final = 6_000  # reservations in one round, more than it can do
USERS, FEATURES, ROUTES = 1000, 8, 6
_LIMIT_S: Final = 600.0
_DAY: Final = """
insert into onetake.spend (day, local_day, tenant, user_key, feature, route, vendor, model, status_class, generations,
    delivered_ms, held_micros, posted_micros, released_micros, overrun_micros, suspended_micros, decided_micros,
    decided_posted_micros, corrected_micros, reported_count, reported_micros, reported_held_micros)
select $1, $1, 't' || u % 50, 'u' || u, 'f' || w, 'apixo/m' || (u + w) % 6 || '/text-to-video', 'apixo',
       'm' || (u + w) % 6, c.class, c.number, c.number * 5000 * (c.class = 'completed')::int,
       250000 * 9 * (c.class = 'open')::int, c.number * 250000, 0, 0, 0, 0, 0, 0, 0, 0, 0
from generate_series(0, 999) u cross join generate_series(0, 2) w
cross join (values ('open', 0), ('completed', 9), ('failed', 1)) c (class, number)
where c.class <> 'failed' or w = 0
"""
_ACCEPTED: Final = """
insert into onetake.generation (id, tenant, workflow_id, request_sha256, request, route, vendor, user_key, feature)
select id, 'hot', 'gen/hot/' || id, sha256(''), '{}', 'apixo/m' || n % 6 || '/x', 'apixo', 'u' || n % 1000,
       'f' || n % 8
from unnest($1::text[]) with ordinality as i (id, n)
"""
_WITH: Final = "select"
_WITHOUT: Final = """
alter table onetake.event disable trigger entries_are_spend;
alter table onetake.generation disable trigger end_is_spend;
"""

T = TypeVar("T")


@dataclass
class Side:
    """The ledger with the rollup or without it, and what was measured of it: calls and seconds by what was called."""

    database: Database
    ledger: PostgresLedger
    calls: dict[str, int] = field(default_factory=dict[str, int])
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def per_second(self, name: str) -> float:
        return self.calls[name] / self.seconds[name]


async def measure(bench: Bench) -> list[Row]:
    """The report, then the two sides in turns; the ledger that has its rollup is proved afterwards."""
    server_url = bench.settings.database_url.get_secret_value().rpartition("/")[0]
    rows = [await _report(f"{server_url}/bench_spend")]
    async with (
        _side(f"{server_url}/bench_with", _WITH) as with_,
        _side(f"{server_url}/bench_without", _WITHOUT) as without,
    ):
        for number in range(ROUNDS):
            for side in (with_, without) if number % 2 else (without, with_):
                await _round(side)
        if broken := await violations(with_.database):
            raise BenchError(f"the ledger is wrong: {broken[0]}")
    goals = {"a reservation, 1 caller": 0.8, f"a reservation, {CALLERS} callers": 0.8, "a settlement, 1 caller": None}
    return rows + [_ratio(name, with_, without, goal) for name, goal in goals.items()]


async def _report(url: str) -> Row:
    await upgrade(url)
    session = await connect_once(url, limit_s=_LIMIT_S)
    await _fill(session)
    counted = await session.fetch("select count(*) as rows, sum(generations)::bigint as number from onetake.spend")
    await session.close()
    if counted[0]["number"] < GENERATIONS:
        raise BenchError(f"only {counted[0]['number']:,} generations were made")
    database = await Database.connect(url)
    took = {group: await _seconds(database, group) for group in GROUPS}
    await database.close()
    slowest = max(took, key=lambda group: took[group])
    measured = f"{took[slowest]:.2f} s by {slowest}, {took['day']:.2f} s by day"
    against = f"{counted[0]['number']:,} generations of a year in {counted[0]['rows']:,} rows"
    facts = {"rows": counted[0]["rows"], "generations": counted[0]["number"], "median_s": took}
    return Row("spend: the report of a month", measured, against, took[slowest], Goal("≤", 1.0), facts)


async def _fill(session: Session) -> None:
    for number in range(DAYS):
        await session.execute(_DAY, date.fromordinal(date(2026, 1, 1).toordinal() + number))
    await session.execute("vacuum analyze onetake.spend")


async def _seconds(database: Database, group: SpendGroup) -> float:
    """The median of some reports, the first of which finds cold caches."""
    took: list[float] = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        await Spend(database).report(MONTH.model_copy(update={"by": group}))
        took.append(time.perf_counter() - started)
    return statistics.median(took)


@asynccontextmanager
async def _side(url: str, prepared: str) -> AsyncGenerator[Side]:
    await upgrade(url)
    session = await connect_once(url)
    await session.execute(prepared)
    await session.close()
    database = await Database.connect(url)  # as many connections as a worker has
    try:
        await _set_budgets(Budgets(database))
        yield Side(database, PostgresLedger(database))
    finally:
        await database.close()


async def _set_budgets(budgets: Budgets) -> None:
    limit = 10_000_000 * MICROS_PER_USD
    await budgets.set_budget("tenant", "hot", "month", limit)
    for feature in range(FEATURES):
        await budgets.set_budget("feature", f"hot/f{feature}", "month", limit)
    for route in range(ROUTES):
        await budgets.set_budget("route", f"apixo/m{route}/x", "day", limit)


async def _round(side: Side) -> None:
    ids = [str(new_generation_id()) for _ in range(MOST)]
    await side.database.rows(_ACCEPTED, ids)
    held: list[str] = []

    async def reserve(order: ReserveInput) -> None:
        await side.ledger.reserve(order)
        held.append(order.generation_id)

    async def settle(generation_id: str) -> None:
        order = {
            "generation_id": generation_id,
            "attempt": 1,
            "tenant": "hot",
            "status": "completed",
            "resolution": "post",
        }
        await side.ledger.settle(SettleInput.model_validate(order))

    orders = [_order(number, id_) for number, id_ in enumerate(ids)]
    await _timed(side, "a reservation, 1 caller", 1, orders[: MOST // 3], reserve)
    await _timed(side, f"a reservation, {CALLERS} callers", CALLERS, orders[MOST // 3 :], reserve)
    await _timed(side, "a settlement, 1 caller", 1, held, settle)


async def _timed(side: Side, name: str, callers: int, given: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
    waiting = list(given)
    started = time.perf_counter()
    until = started + SECONDS

    async def caller() -> None:
        while waiting and time.perf_counter() < until:
            await work(waiting.pop())

    await asyncio.gather(*(caller() for _ in range(callers)))
    side.calls[name] = side.calls.get(name, 0) + len(given) - len(waiting)
    side.seconds[name] = side.seconds.get(name, 0.0) + time.perf_counter() - started


def _order(number: int, generation_id: str) -> ReserveInput:
    return ReserveInput(
        generation_id=generation_id,
        attempt=1,
        tenant="hot",
        user=f"u{(number + 1) % USERS}",
        feature=f"f{(number + 1) % FEATURES}",
        route=f"apixo/m{(number + 1) % ROUTES}/x",
        vendor="apixo",
        price=Price(amount_micros=MICROS_PER_USD // 4, unit="a clip", table_version="bench"),
    )


def _ratio(name: str, with_: Side, without: Side, goal: float | None) -> Row:
    rate, bare = with_.per_second(name), without.per_second(name)
    facts = {"with_per_s": round(rate), "without_per_s": round(bare)}
    measured, against = f"{rate:,.0f}/s with the rollup", f"{bare:,.0f}/s without"
    return Row(f"spend: {name}", measured, against, rate / bare, Goal("≥", goal) if goal else None, facts)
