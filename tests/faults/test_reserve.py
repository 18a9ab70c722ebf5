"""Reserving: one hold or none, to the micro, whatever dies between the worker and the database.

It is over 400 lines because each way in which a hold is asked for, lost or taken away has its row and its test here.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest_asyncio

import onetake.ledger
from onetake.client import Onetake, Started
from onetake.core.contracts import GenerationResult
from onetake.ledger import BudgetBalance, Budgets, PostgresLedger
from onetake.ledger.database import Database
from onetake.ledger.policies import Policies
from tests.cli.processes import run
from tests.faults.engine import described
from tests.faults.locks import Held, budget_held
from tests.faults.table import shows
from tests.replay.commands import local_step
from tests.system.harness import ROUTE, Stack, activity_ids, ended, event_names, in_phase, money, unique
from tests.system.relay import Relay, relayed

LIMIT_S = 300.0
MEET_S = 8.0
MOST_POLICIES = 50
PATIENT_SCALE = "0.3"  # the ledger may be away for minutes
QUICK_SCALE = "0.008"  # for half a minute, which is the shortest that any scale allows
CLOCK = "create or replace function onetake.clock() returns timestamptz language sql stable as $$select {}$$"
FREE_CLOCKS = re.compile(r"(?<!updated_at = )\bnow\(\)|clock_timestamp|current_(date|timestamp)|statement_timestamp")


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def policies_in_play(stack: Stack) -> AsyncGenerator[None]:
    """Fifty policies, of which one for everyone counts generations: no row of this table may notice them."""
    told = {"who": "a test", "why": "rows"}
    others = [f"other-{number}" for number in range(MOST_POLICIES - 1)]
    wide = {"most_seconds": 60, "most_micros": 10**9, "most_open": 10**6, "most_starts_per_minute": 10**6}
    async with stack.database() as database:
        for other in others:
            await Policies(database).set_policy("tenant", other, "*", {"most_seconds": 1}, **told)
        await Policies(database).set_policy("everyone", "", "*", wide, **told)
    yield
    async with stack.database() as database:
        for other in others:
            await Policies(database).remove_policy("tenant", other, "*", **told)
        await Policies(database).remove_policy("everyone", "", "*", **told)


def new_tenant() -> str:
    return unique("t").replace(" #", "-")


@dataclass(frozen=True)
class Asked:
    """A generation, and what the rows compare."""

    onetake: Onetake
    started: Started
    prompt: str

    async def ended(self) -> GenerationResult:
        return await ended(self.onetake, self.started.id, limit_s=LIMIT_S)


async def ask(onetake: Onetake, tenant: str, marker: str = "") -> Asked:
    """Start two seconds at 20 cents."""
    prompt = unique(f"reserved {marker}")
    return Asked(onetake, await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, tenant=tenant), prompt)


async def holds_of(stack: Stack, asked: Asked) -> int:
    async with stack.database() as database:
        entries = await PostgresLedger(database).entries(asked.started.id)
    return sum(entry.kind == "hold" for entry in entries)


async def attempts_at_reserving(stack: Stack, asked: Asked) -> int:
    """How often it was begun until it answered: in workflow tasks, of which some were lost, and as an activity."""
    events = await stack.history(asked.started.workflow_id)
    lost = event_names(events).count("WORKFLOW_TASK_TIMED_OUT")
    ids = {event.event_id: event.activity_task_scheduled_event_attributes.activity_id for event in events}
    started = (event.activity_task_started_event_attributes for event in events)
    tries = sum(each.attempt for each in started if ids.get(each.scheduled_event_id) == "reserve")
    return lost + sum(local_step(event) == "reserve" for event in events) + tries


# -- With the stack's own worker ---------------------------------------------------------------------------------------


async def test_a_budget_that_is_too_small_says_what_is_needed_what_is_left_and_when_it_starts_again(
    stack: Stack, onetake: Onetake, tmp_path: Path
) -> None:
    tenant, prompt = new_tenant(), unique("too dear")
    await stack.set_budget("tenant", tenant, "day", "0.19")
    words = ("generate", ROUTE, prompt, "--duration", "2", "--tenant", tenant, "--json")
    done = await asyncio.to_thread(run, *words, env=stack.environment, cwd=tmp_path)
    assert (done.code, done.error_code) == (4, "budget_exceeded")
    (record,) = await onetake.list(tenant=tenant)
    assert record.error is not None
    assert re.search(rf"{tenant} has \$0.19 left, \$0.20 is needed; it starts again at \d{{4}}-", record.error.message)
    assert await stack.submits_of(prompt) == []
    await shows("F023", stack, record, prompt)


async def test_a_budget_fits_to_the_micro(stack: Stack, onetake: Onetake) -> None:
    exact, short = new_tenant(), new_tenant()
    await stack.set_budget("tenant", exact, "total", "0.20")
    await stack.set_budget("tenant", short, "total", "0.199999")
    fits, refused = await asyncio.gather(ask(onetake, exact), ask(onetake, short))
    await shows("F024", stack, await fits.ended(), fits.prompt, end="fits")
    await shows("F024", stack, await refused.ended(), refused.prompt, end="one_micro_above")
    more = await ask(onetake, exact)
    await shows("F024", stack, await more.ended(), more.prompt, end="one_micro_above")


async def test_budgets_go_by_the_clock_of_the_database(stack: Stack, onetake: Onetake) -> None:
    tenant, noon = new_tenant(), datetime.now(UTC).replace(hour=12)
    await stack.set_budget("tenant", tenant, "day", "0.20")
    for days in (0, 1, -1):
        async with database_clock(stack, f"timestamptz '{noon + timedelta(days)}'"):
            asked = await ask(onetake, tenant)
            await shows("F029", stack, await asked.ended(), asked.prompt)
            spent = await ask(onetake, tenant)
            result = await spent.ended()
            assert (result.status, result.error and result.error.code) == ("failed", "budget_exceeded")


@asynccontextmanager
async def database_clock(stack: Stack, sql: str) -> AsyncGenerator[None]:
    """Turn the clock that budgets go by."""
    async with stack.database() as database:
        await database.row(CLOCK.format(sql))
        try:
            yield
        finally:
            await database.row(CLOCK.format("now()"))


async def test_no_clock_but_the_databases_enters_the_ledger(stack: Stack) -> None:
    ours = Path(onetake.ledger.__file__).parent
    read = [path.name for path in ours.glob("*.py") if re.search(r"\.(now|today|time|utcnow)\(", path.read_text())]
    assert read == []
    async with stack.database() as database:
        rows = await database.rows(
            """select proname, prosrc from pg_proc where pronamespace = 'onetake'::regnamespace
            and proname in ('window_start', 'window_end', 'windows_of', 'open_windows', 'reserve', 'reserve_many')"""
        )
    assert len(rows) == 6
    assert [row["proname"] for row in rows if FREE_CLOCKS.search(row["prosrc"])] == []


async def test_a_budget_lowered_below_its_holds_lets_them_finish_and_refuses_the_next(
    stack: Stack, onetake: Onetake
) -> None:
    tenant = new_tenant()
    await stack.set_budget("tenant", tenant, "total", "1.00")
    running = await ask(onetake, tenant, "[[sim:delay=1]]")
    await in_phase(onetake, running.started.id, "submitting", "generating", "persisting", "done")
    await stack.set_budget("tenant", tenant, "total", "0.05")
    assert (await balance_of(stack, tenant)).available_micros == -150_000
    refused = await ask(onetake, tenant)
    await shows("F030", stack, await refused.ended(), refused.prompt, end="refused")
    await shows("F030", stack, await running.ended(), running.prompt, end="running")
    assert (await balance_of(stack, tenant)).overrun_micros == 150_000
    assert await stack.ledger_violations() == []


async def balance_of(stack: Stack, tenant: str) -> BudgetBalance:
    async with stack.database() as database:
        balances = await Budgets(database).show_budgets()
    return next(balance for balance in balances if balance.key == tenant)


async def test_a_cancel_while_reserving_is_free_whether_the_hold_was_made_or_not(
    stack: Stack, onetake: Onetake
) -> None:
    """Whether one that goes through beside the settlement comes first is up to them. That the hold is made is certain
    where its answer is lost: `it_is_canceled_after_its_hold`."""

    async def goes_through(_: Held, __: int) -> None: ...

    async def dies(held: Held, reserving: int) -> None:
        await held.kill(reserving)

    for then in (dies, goes_through):
        asked, result = await canceled_while_reserving(stack, onetake, then)
        if await holds_of(stack, asked):
            await shows("F031", stack, result, asked.prompt, end="released")
        else:
            await shows("F031", stack, result, asked.prompt, end="never_held")


async def canceled_while_reserving(
    stack: Stack, onetake: Onetake, then: Callable[[Held, int], Awaitable[None]]
) -> tuple[Asked, GenerationResult]:
    """Cancel while the reservation's transaction is open; what becomes of the transaction is up to `then`."""
    tenant = new_tenant()
    async with budget_held(stack, tenant) as held:
        asked = await ask(onetake, tenant)
        # Inside its own task a run hears of nothing: it has to have left the reservation to the activity.
        while "reserve" not in await pending_steps(stack, asked):
            await asyncio.sleep(0.1)
        await held.reserving()
        # As the Temporal UI does: the client would note the wish in the row, which the reservation has locked.
        await (await stack.temporal()).get_workflow_handle(asked.started.workflow_id).cancel()
        with suppress(TimeoutError):
            await then(held, await held.reserving_before("onetake.settle", limit_s=MEET_S))
    result = await asked.ended()
    assert (result.cost.settled_micros, result.cost.suspense_micros) == (0, 0)
    assert await stack.submits_of(asked.prompt) == []
    return asked, result


async def pending_steps(stack: Stack, asked: Asked) -> list[str]:
    return [each.activity_id for each in (await described(stack, asked.started.workflow_id)).pending_activities]


# -- With workers whose lines to the database fail ---------------------------------------------------------------------


@dataclass(frozen=True)
class UnderWay:
    """Scenarios that mostly wait: they run from the start, beside the tests."""

    faults: asyncio.Task[None]
    long_outage: asyncio.Task[None]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def under_way(stack: Stack) -> AsyncGenerator[UnderWay]:
    faults = asyncio.create_task(one_fault_after_the_other(stack))
    long_outage = asyncio.create_task(the_database_is_read_only_for_too_long(stack))
    yield UnderWay(faults, long_outage)
    faults.cancel()
    long_outage.cancel()
    await asyncio.wait({faults, long_outage})


async def test_a_worker_or_a_database_that_fails_while_reserving_leaves_one_hold(under_way: UnderWay) -> None:
    await under_way.faults


async def test_a_database_that_stays_read_only_ends_the_generation_with_nothing_held(under_way: UnderWay) -> None:
    await under_way.long_outage


@dataclass(frozen=True)
class Shaky:
    """A worker of its own, its database role, and the line between them."""

    stack: Stack
    onetake: Onetake
    name: str
    role: str
    relay: Relay
    admin: Database

    async def set_role(self, setting: str) -> None:
        """Change what the role's sessions are like, and end those that are open."""
        await self.admin.row(f"alter role {self.role} {setting}")
        await self.admin.rows("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", self.role)


@asynccontextmanager
async def shaky_house(stack: Stack, role: str, scale: str, crash: str = "") -> AsyncGenerator[Shaky]:
    """A worker on a queue of its role's name."""
    async with (
        stack.database() as admin,
        relayed(await with_own_role(admin, stack.environment["ONETAKE_DATABASE_URL"], role)) as (relay, url),
        stack.client(task_queue=role, time_scale=scale) as onetake,
        stack.worker(role, crash=crash, ONETAKE_TIME_SCALE=scale, ONETAKE_DATABASE_URL=url) as name,
    ):
        yield Shaky(stack, onetake, name, role, relay, admin)


async def with_own_role(admin: Database, url: str, role: str) -> str:
    """The database's address for a new role, which may do what the owner may."""
    scheme, _, rest = url.partition("://")
    owner = rest.partition(":")[0]
    await admin.row(f"create role {role} login password '{role}' in role {owner}")
    return f"{scheme}://{role}:{role}@{rest.rpartition('@')[2]}"


async def one_fault_after_the_other(stack: Stack) -> None:
    async with shaky_house(stack, "shaky", PATIENT_SCALE, crash="reserve.after_commit") as shaky:
        await the_worker_is_killed_after_the_commit(shaky)
        await the_answer_to_the_commit_is_lost(shaky)
        await it_is_canceled_after_its_hold(shaky)
        await the_server_dies_before_the_commit(shaky)
        await two_transactions_wait_for_each_other(shaky)
        await two_transactions_cannot_be_put_in_an_order(shaky)
        await the_database_is_read_only_for_a_moment(shaky)


async def the_worker_is_killed_after_the_commit(shaky: Shaky) -> None:
    asked = await ask(shaky.onetake, new_tenant())
    assert await shaky.stack.died(shaky.name) == "reserve.after_commit"
    assert await holds_of(shaky.stack, asked) == 1
    await shaky.stack.restart(shaky.name)
    result = await asked.ended()
    assert await attempts_at_reserving(shaky.stack, asked) >= 2
    await shows("F025", shaky.stack, result, asked.prompt)


async def the_answer_to_the_commit_is_lost(shaky: Shaky) -> None:
    asked = await a_hold_of_which_nobody_heard(shaky)
    shaky.relay.losing = False
    assert await holds_of(shaky.stack, asked) == 1
    result = await asked.ended()
    assert await attempts_at_reserving(shaky.stack, asked) >= 2
    await shows("F027", shaky.stack, result, asked.prompt)


async def it_is_canceled_after_its_hold(shaky: Shaky) -> None:
    """As far as the run knows, it is reserving still."""
    asked = await a_hold_of_which_nobody_heard(shaky)
    await (await shaky.stack.temporal()).get_workflow_handle(asked.started.workflow_id).cancel()
    await settling(shaky.stack, asked)
    shaky.relay.losing = False
    await shows("F031", shaky.stack, await asked.ended(), asked.prompt, end="released")
    assert await shaky.stack.submits_of(asked.prompt) == []


async def a_hold_of_which_nobody_heard(shaky: Shaky) -> Asked:
    """A reservation that has committed while every answer of the database is lost, as it is still. One that waits may
    be given up at the very moment at which its time has come."""
    tenant, asked = new_tenant(), None
    while asked is None or not await holds_of(shaky.stack, asked):
        shaky.relay.losing = False
        async with budget_held(shaky.stack, tenant) as held:
            asked = asked or await ask(shaky.onetake, tenant)
            await held.reserving()
            shaky.relay.losing, before = True, shaky.relay.lost
        await one_more_lost(shaky.relay, before)
    await one_more_lost(shaky.relay, shaky.relay.lost)  # that of a try which would find the hold
    return asked


async def one_more_lost(relay: Relay, before: int) -> None:
    async with asyncio.timeout(LIMIT_S):
        while relay.lost == before:
            await asyncio.sleep(0.02)


async def settling(stack: Stack, asked: Asked) -> None:
    """Wait until the run has begun to settle."""
    async with asyncio.timeout(LIMIT_S):
        while "settle" not in activity_ids(await stack.history(asked.started.workflow_id)):
            await asyncio.sleep(0.2)


async def the_server_dies_before_the_commit(shaky: Shaky) -> None:
    tenant = new_tenant()
    async with budget_held(shaky.stack, tenant) as held:
        asked = await ask(shaky.onetake, tenant)
        await held.kill(await held.reserving())
        await held.reserving()  # again: Temporal has repeated it
        assert await holds_of(shaky.stack, asked) == 0
    await shows("F027", shaky.stack, await asked.ended(), asked.prompt)


async def two_transactions_wait_for_each_other(shaky: Shaky) -> None:
    tenant = new_tenant()
    async with budget_held(shaky.stack, tenant) as held:
        await held.session.execute("set local deadlock_timeout = '1min'")  # the other one is to give way
        asked = await ask(shaky.onetake, tenant)
        await held.reserving()
        await held.session.execute("select from onetake.generation where id = $1 for update", asked.started.id)
    result = await asked.ended()
    assert await attempts_at_reserving(shaky.stack, asked) >= 2
    await shows("F026", shaky.stack, result, asked.prompt)


async def two_transactions_cannot_be_put_in_an_order(shaky: Shaky) -> None:
    await shaky.set_role("set default_transaction_isolation = 'repeatable read'")
    tenant = new_tenant()
    async with budget_held(shaky.stack, tenant) as held:
        asked = await ask(shaky.onetake, tenant)
        await held.reserving()
        await held.session.execute(
            """update onetake.budget_window set limit_micros = limit_micros where budget_id =
            (select id from onetake.budget where scope_key = $1)""",
            tenant,
        )
    result = await asked.ended()
    assert await attempts_at_reserving(shaky.stack, asked) >= 2
    await shows("F026", shaky.stack, result, asked.prompt)
    await shaky.set_role("reset default_transaction_isolation")


async def the_database_is_read_only_for_a_moment(shaky: Shaky) -> None:
    asked = await read_only_while_reserving(shaky)
    await the_run_says_so(shaky.stack, asked)
    record = await shaky.onetake.get(asked.started.id)
    assert (record.status, record.cost.reserved_micros) == ("in_progress", 0)
    await shaky.set_role("reset default_transaction_read_only")
    await shows("F028", shaky.stack, await asked.ended(), asked.prompt, end="a_moment")


async def the_database_is_read_only_for_too_long(stack: Stack) -> None:
    async with shaky_house(stack, "read_only", QUICK_SCALE) as shaky:
        asked = await read_only_while_reserving(shaky)
        await settling(stack, asked)
        await shaky.set_role("reset default_transaction_read_only")
        result = await asked.ended()
    assert money(result) == (0, 0, 0)
    assert await stack.submits_of(asked.prompt) == []
    await shows("F028", stack, result, asked.prompt, end="too_long")


async def read_only_while_reserving(shaky: Shaky) -> Asked:
    """A generation that is reserving when its database becomes read-only."""
    tenant = new_tenant()
    async with budget_held(shaky.stack, tenant) as held:
        asked = await ask(shaky.onetake, tenant)
        await held.reserving()
        await shaky.set_role("set default_transaction_read_only = on")
    return asked


async def the_run_says_so(stack: Stack, asked: Asked) -> None:
    said = ""
    async with asyncio.timeout(LIMIT_S):
        while "read-only" not in said:
            pending = (await described(stack, asked.started.workflow_id)).pending_activities
            said = " ".join(f"{each.activity_id} {each.last_failure.message}" for each in pending)
            await asyncio.sleep(0.1)
    assert said.startswith("reserve The database cannot be used.")
