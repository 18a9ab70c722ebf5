"""Reservations a second when everybody wants the same budget: one function call each, and the combining writer.

One reservation must pass four budgets or none, as in the published comparison that the figures in docs/benchmarks.md
come from: the tenant's month (one row for all), a user's day, a feature's month, a route's day.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bench.report import Row, quantile
from bench.stack import Bench, BenchError
from onetake.core.contracts import Price, ReserveInput
from onetake.core.ids import new_generation_id
from onetake.core.money import MICROS_PER_USD
from onetake.ledger import Budgets, Database, PostgresLedger
from onetake.ledger.invariants import violations
from onetake.ledger.migrate import upgrade

SECONDS: Final = 1.0
ROUNDS: Final = 2
CALLERS: Final = 64
COMBINER_POOL: Final = 4  # what a worker has
USERS, FEATURES, ROUTES = 1000, 8, 6
_FUNCTION: Final = "select outcome from onetake.reserve($1, 1, $2, $3, $4, $5, $6, $7, $8, $9)"
_GENERATIONS: Final = """
insert into onetake.generation (id, tenant, workflow_id, request_sha256, request, route, vendor)
select id, 'hot', 'gen/hot/' || id, sha256(''), '{}', 'r', 'apixo' from unnest($1::text[]) as id
"""

Reserve = Callable[[ReserveInput], Awaitable[object]]


@dataclass
class Form:
    """One way to reserve. The comparison's figure was measured on another machine of this kind."""

    name: str
    callers: int
    most: int  # reservations in one round, more than it can do
    compared_per_s: int
    number: int = 0
    seconds: float = 0.0
    waits_s: list[float] = field(default_factory=list[float])

    def row(self) -> Row:
        rate = self.number / self.seconds
        p50, p99 = (1000 * quantile(self.waits_s, share) for share in (0.5, 0.99))
        facts = {"per_s": round(rate), "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
        measured = f"{rate:,.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        against = f"pilot {self.compared_per_s:,}/s"
        return Row(f"reservations: {self.name}", measured, against, rate / self.compared_per_s, None, facts)


async def measure(bench: Bench) -> list[Row]:
    """Interleave rounds of the three forms, and prove the ledger afterwards."""
    one = Form("function, 1 caller", 1, 4_000, 2_825)
    many = Form(f"function, {CALLERS} callers", CALLERS, 5_000, 2_175)
    combined = Form(f"combining writer, {CALLERS} callers", CALLERS, 20_000, 38_447)
    async with _databases(bench.settings.database_url.get_secret_value()) as (wide, narrow):
        ledger = PostgresLedger(narrow)

        async def function(order: ReserveInput) -> None:
            await _by_function(wide, order)

        for _ in range(ROUNDS):
            await _round(one, narrow, function)
            await _round(many, narrow, function)
            await _round(combined, narrow, ledger.reserve)
        if broken := await violations(narrow):
            raise BenchError(f"the ledger is wrong: {broken[0]}")
    return [form.row() for form in (one, many, combined)]


@asynccontextmanager
async def _databases(server_url: str) -> AsyncGenerator[tuple[Database, Database]]:
    """A database of its own with its budgets, through a pool for each caller and through a worker's."""
    url = f"{server_url.rpartition('/')[0]}/bench"
    await upgrade(url)
    wide = await Database.connect(url, pool_size=CALLERS)
    narrow = await Database.connect(url, pool_size=COMBINER_POOL)
    try:
        await _set_budgets(narrow)
        yield wide, narrow
    finally:
        await wide.close()
        await narrow.close()


async def _set_budgets(database: Database) -> None:
    budgets, limit = Budgets(database), 10_000_000 * MICROS_PER_USD
    await budgets.set_budget("tenant", "hot", "month", limit)
    for user in range(USERS):
        await budgets.set_budget("user", f"hot/u{user}", "day", limit)
    for feature in range(FEATURES):
        await budgets.set_budget("feature", f"hot/f{feature}", "month", limit)
    for route in range(ROUTES):
        await budgets.set_budget("route", f"r{route}", "day", limit)


async def _round(form: Form, database: Database, reserve: Reserve) -> None:
    waiting = [_order(number, id_) for number, id_ in enumerate(await _accepted(database, form.most))]
    number, started = len(waiting), time.perf_counter()
    until = started + SECONDS

    async def caller() -> None:
        while waiting and (asked := time.perf_counter()) < until:
            await reserve(waiting.pop())
            form.waits_s.append(time.perf_counter() - asked)

    await asyncio.gather(*(caller() for _ in range(form.callers)))
    form.seconds += time.perf_counter() - started
    form.number += number - len(waiting)


async def _accepted(database: Database, number: int) -> list[str]:
    """Generations that may reserve; accepting them is not what is measured."""
    ids = [str(new_generation_id()) for _ in range(number)]
    for start in range(0, number, 5_000):
        await database.rows(_GENERATIONS, ids[start : start + 5_000])
    return ids


def _order(number: int, generation_id: str) -> ReserveInput:
    return ReserveInput(
        generation_id=generation_id,
        attempt=1,
        tenant="hot",
        user=f"u{number % USERS}",
        feature=f"f{number % FEATURES}",
        route=f"r{number % ROUTES}",
        vendor="apixo",
        price=Price(amount_micros=MICROS_PER_USD // 4, unit="a clip", table_version="bench"),
    )


async def _by_function(database: Database, order: ReserveInput) -> None:
    price = order.price
    who = (order.generation_id, order.tenant, order.user, order.feature, order.route, order.vendor)
    row = await database.answer(_FUNCTION, *who, price.amount_micros, price.unit, price.table_version)
    if row["outcome"] != "held":
        raise BenchError(f"a reservation was {row['outcome']}")
