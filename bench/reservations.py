"""Reservations a second when everybody wants the same budget: one function call each, and the combining writer.

One reservation must pass four budgets or none: the tenant's month (one row for all), a user's day, a feature's month,
a route's day. The control (`control.py`) does that in the same run and nothing else.

What is recorded beside the money is measured as a ratio: with all triggers on, and without those that record.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from bench.control import Control
from bench.report import Goal, Row, quantile
from bench.stack import Bench, BenchError
from onetake.core.contracts import Price, ReserveInput
from onetake.core.ids import new_generation_id
from onetake.core.money import MICROS_PER_USD
from onetake.core.names import PolicyScope
from onetake.ledger import Budgets, Database, PostgresLedger, PostgresTerms
from onetake.ledger.invariants import violations
from onetake.ledger.migrate import upgrade
from onetake.ledger.policies import Policies

SECONDS: Final = 1.0
ROUNDS: Final = 4
PAIRS: Final = 6
LEAST_SHARE: Final = 0.8
CALLERS: Final = 64
LEAST_OF_CONTROL: Final = 1.5
MOST: Final = 15_000  # reservations in one round, more than it can do
USERS, FEATURES, ROUTES = 1000, 8, 6
MOST_POLICIES: Final = 50
_FUNCTION: Final = "select outcome from onetake.reserve($1, 1, $2, $3, $4, $5, $6, $7, $8, $9)"
_GENERATIONS: Final = """
insert into onetake.generation (id, tenant, workflow_id, request_sha256, request, route, vendor)
select id, 'hot', 'gen/hot/' || id, sha256(''), '{}', 'r', 'apixo' from unnest($1::text[]) as id
"""

# Those that only forbid belong to the money itself.
_RECORDING: Final = """
select tgrelid::regclass::text as of, tgname as name from pg_trigger
where tgrelid in ('onetake.event'::regclass, 'onetake.budget_window'::regclass, 'onetake.hold'::regclass,
                  'onetake.generation'::regclass)
  and not tgisinternal and tgfoid not in ('onetake.forbid'::regproc, 'onetake.guard_generation'::regproc)
"""

Reserve = Callable[[ReserveInput], Awaitable[object]]


@dataclass
class Form:
    """One way to reserve, and what was measured of it."""

    name: str
    callers: int
    reserve: Reserve
    number: int = 0
    seconds: float = 0.0
    waits_s: list[float] = field(default_factory=list[float])

    @property
    def per_s(self) -> float:
        return self.number / self.seconds

    @property
    def facts(self) -> dict[str, float]:
        p50, p99 = (round(1000 * quantile(self.waits_s, share), 2) for share in (0.5, 0.99))
        return {"per_s": round(self.per_s), "p50_ms": p50, "p99_ms": p99}

    def against(self, control: "Form", goal: Goal | None = None) -> Row:
        ours, theirs = self.facts, control.facts
        measured = f"{self.per_s:,.0f}/s, p50 {ours['p50_ms']:.1f} ms, p99 {ours['p99_ms']:.1f} ms"
        against = f"{control.name} {control.per_s:,.0f}/s, p99 {theirs['p99_ms']:.1f} ms"
        facts = {**ours, "control": theirs}
        name = f"reservations: {self.name}, by the {control.name}"
        return Row(name, measured, against, self.per_s / control.per_s, goal, facts)


async def measure(bench: Bench) -> list[Row]:
    """Interleave rounds of ours and of the control, and prove the ledger afterwards."""
    url = bench.settings.database_url.get_secret_value()
    async with _database(url, "bench") as (database, own_url):
        ledger, control = PostgresLedger(database), await Control.prepared(database, own_url)

        async def function(order: ReserveInput) -> None:
            await _by_function(database, order)

        one, control_one = Form("function, 1 caller", 1, function), Form("control's function", 1, control.one)
        many = Form(f"function, {CALLERS} callers", CALLERS, function)
        control_many = Form("control's function", CALLERS, control.one)
        combined = Form(f"combining writer, {CALLERS} callers", CALLERS, ledger.reserve)
        control_combined = Form("control's batches", CALLERS, control.combined)
        forms = (one, control_one, many, control_many, combined, control_combined)
        for number in range(ROUNDS):
            for form in forms if number % 2 else reversed(forms):
                await _round(form, database)
        if broken := await violations(database):
            raise BenchError(f"the ledger is wrong: {broken[0]}")
    return [
        one.against(control_one),
        many.against(control_many),
        combined.against(control_many),
        combined.against(control_combined, Goal("≥", LEAST_OF_CONTROL)),
        await _with_and_without(url),
    ]


async def _with_and_without(server_url: str) -> Row:
    """Rounds of admission's read and the combining writer in turn: with fifty policies and the triggers that record,
    and without both, in one database of their own, whose records are wrong afterwards."""
    async with _database(server_url, "bench_switched") as (database, _):
        triggers = await database.rows(_RECORDING)
        ledger, terms = PostgresLedger(database), PostgresTerms(database)

        async def admitted(order: ReserveInput) -> None:
            await terms.of_caller(order.tenant, order.user, order.feature)
            await ledger.reserve(order)

        forms = {switch: Form(switch, CALLERS, admitted) for switch in ("enable", "disable")}
        for number in range(2 * PAIRS):
            switch = ("enable", "disable")[(number + number // 2) % 2]  # neither is always the second one
            for trigger in triggers:
                await database.rows(f"alter table {trigger['of']} {switch} trigger {trigger['name']}")
            await _switch_policies(Policies(database), on=switch == "enable")
            await _round(forms[switch], database)
    with_all, without = (forms[switch].per_s for switch in ("enable", "disable"))
    facts = {"per_s": round(with_all), "without_per_s": round(without), "triggers": [row["name"] for row in triggers]}
    return Row(
        "reservations: with policies and all that is recorded",
        f"{with_all:,.0f}/s",
        f"without {without:,.0f}/s",
        with_all / without,
        Goal("≥", LEAST_SHARE),
        facts,
    )


async def _switch_policies(policies: Policies, *, on: bool) -> None:
    """Fifty policies that apply to the callers: everyone's, the tenant's, its features' and some of its users'."""
    named: list[tuple[PolicyScope, str]] = [("everyone", ""), ("tenant", "hot")]
    named.extend(("feature", f"hot/f{number}") for number in range(FEATURES))
    named.extend(("user", f"hot/u{number}") for number in range(MOST_POLICIES - FEATURES - 2))
    for scope, key in named:
        points = {"most_seconds": 60, "most_micros": MICROS_PER_USD}
        if on:
            await policies.set_policy(scope, key, "*", points, who="bench", why="bench")
        elif await policies.all():
            await policies.remove_policy(scope, key, "*", who="bench", why="bench")


@asynccontextmanager
async def _database(server_url: str, name: str) -> AsyncGenerator[tuple[Database, str]]:
    """A database of its own with its budgets, through as many connections as a worker has, and its address."""
    url = f"{server_url.rpartition('/')[0]}/{name}"
    await upgrade(url)
    database = await Database.connect(url)
    try:
        await _set_budgets(database)
        yield database, url
    finally:
        await database.close()


async def _set_budgets(database: Database) -> None:
    budgets, limit = Budgets(database), 10_000_000 * MICROS_PER_USD
    await budgets.set_budget("tenant", "hot", "month", limit)
    for user in range(USERS):
        await budgets.set_budget("user", f"hot/u{user}", "day", limit)
    for feature in range(FEATURES):
        await budgets.set_budget("feature", f"hot/f{feature}", "month", limit)
    for route in range(ROUTES):
        await budgets.set_budget("route", f"r{route}", "day", limit)


async def _round(form: Form, database: Database) -> None:
    waiting = [_order(number, id_) for number, id_ in enumerate(await _accepted(database, MOST))]
    number, started = len(waiting), time.perf_counter()
    until = started + SECONDS

    async def caller() -> None:
        while waiting and (asked := time.perf_counter()) < until:
            await form.reserve(waiting.pop())
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
