"""Accepting: one key is one generation, whoever repeats it, whoever dies, and however many ask at once.

There is no HTTP API yet: what a caller of it will see is what `onetake.client` answers.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from onetake.client import BlockingOnetake, Onetake, Started
from onetake.core.contracts import GenerationRequest, GenerationResult, Price, ReserveInput
from onetake.core.errors import NoMoney, Refused, TryLater
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.money import parse_usd
from onetake.core.names import TERMINAL
from onetake.core.settings import Settings
from onetake.ledger import Budgets, Database, PostgresGenerations, PostgresLedger
from onetake.ledger.database import connect_once
from onetake.operations.reconciler import STALE_START_S
from tests.faults.table import expect, shows
from tests.ledger.databases import fresh_database
from tests.servers import TEMPLATE, Servers, on_this_server
from tests.system.harness import LIMIT_S, ROUTE, Stack, ended, patiently, unique

PRICE_MICROS = 200_000  # of the two seconds that every request here asks for
MANY = 40


@dataclass(frozen=True)
class Forgotten:
    """A generation that has ended, and what its first start answered. Temporal forgets its run: that takes a while."""

    request: GenerationRequest
    first: Started
    result: GenerationResult
    run_is_gone: asyncio.Task[None]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def forgotten(stack: Stack, onetake: Onetake) -> AsyncGenerator[Forgotten]:
    request = keyed("forgotten by Temporal")
    first = await onetake.start(request)
    result = await ended(onetake, first.id)
    task = asyncio.create_task(forget(stack, first.workflow_id))
    yield Forgotten(request, first, result, task)
    task.cancel()
    await asyncio.wait({task})


@dataclass(frozen=True)
class Abandoned:
    """Two rows whose services were killed before their workflows started, and which nobody repeats."""

    with_key: tuple[GenerationRequest, str]
    without_key: tuple[GenerationRequest, str]


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def abandoned(stack: Stack, onetake: Onetake) -> Abandoned:
    both = keyed("left alone"), keyed("left alone without a key").model_copy(update={"idempotency_key": None})
    ids = await asyncio.gather(*(killed_service(stack, onetake, each, "start.after_row") for each in both))
    return Abandoned((both[0], ids[0]), (both[1], ids[1]))


def keyed(text: str, **fields: Any) -> GenerationRequest:
    """A request of two seconds with a key and a tenant that no other test has."""
    name = unique("t").replace(" #", "-")
    given = {"route": ROUTE, "prompt": unique(text), "duration_s": 2, "tenant": name, "idempotency_key": name}
    return GenerationRequest.model_validate(given | fields)


async def rows_of(onetake: Onetake, tenant: str) -> list[str]:
    return [record.id for record in await onetake.list(tenant=tenant, limit=500)]


async def entries_of(stack: Stack, generation_id: str) -> list[str]:
    async with stack.database() as database:
        return [entry.kind for entry in await PostgresLedger(database).entries(generation_id)]


async def has_run(stack: Stack, workflow_id: str) -> bool:
    """Whether Temporal keeps a run under this id."""
    try:
        await (await stack.temporal()).get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


def start_once(words: Sequence[str]) -> None:
    """A service: it starts the generation of its one argument; what is refused for the moment it asks for again."""
    request = GenerationRequest.model_validate_json(words[0])
    while True:
        with suppress(TryLater), BlockingOnetake.connect() as onetake:
            onetake.start(request)
            return


async def killed_service(stack: Stack, onetake: Onetake, request: GenerationRequest, point: str) -> str:
    """Start a generation from a process that dies at this point; its one row's id."""
    child = await stack.in_process(start_once, request.model_dump_json(), crash=point)
    assert child.point() == point, child.log.read_text()
    (generation_id,) = await rows_of(onetake, request.tenant)
    return generation_id


async def test_a_key_repeated_after_the_end_gives_the_first_answer(stack: Stack, onetake: Onetake) -> None:
    request = keyed("again")
    first = await onetake.start(request)
    result = await ended(onetake, first.id)
    shown = await onetake.list(tenant=request.tenant)
    async with stack.client() as another:
        assert [await client.start(request) for client in (onetake, another)] == [replace(first, replayed=True)] * 2
    assert await onetake.list(tenant=request.tenant) == shown
    await shows("F001", stack, result, request.prompt)


async def test_a_key_repeated_after_prices_rose_gives_the_first_answer_at_the_first_price(
    stack: Stack, onetake: Onetake, tmp_path: Path
) -> None:
    (tmp_path / "dearer.toml").write_text(f'[usd_per_second."{ROUTE}"]\n720p = "0.40"\n1080p = "0.80"\n')
    request = keyed("dearer today", max_cost_usd="0.50")
    first = await onetake.start(request)
    async with stack.client(prices=str(tmp_path / "dearer.toml")) as today:
        with pytest.raises(Refused):
            await today.plan(request)
        assert await today.start(request) == replace(first, replayed=True)
    result = await ended(onetake, first.id)
    await shows("F001", stack, result, request.prompt)


async def test_a_hundred_starts_at_once_with_one_key_are_one_generation(stack: Stack, onetake: Onetake) -> None:
    request = keyed("a hundred")
    """As services ask: what is refused for the moment is asked for again, and may be told then that it is a repeat."""
    async with stack.client() as another:
        both = [partial(client.start, request) for client in (onetake, another)]
        answers = await asyncio.gather(*(patiently(start) for start in both * 50))
    (generation_id,) = {answer.id for answer in answers}
    assert sum(not answer.replayed for answer in answers) <= 1
    assert {replace(answer, replayed=False) for answer in answers} == {replace(answers[0], replayed=False)}
    assert await rows_of(onetake, request.tenant) == [generation_id]
    await shows("F002", stack, await ended(onetake, generation_id), request.prompt)
    assert await runs_of(stack, request.tenant) == [answers[0].workflow_id]


async def runs_of(stack: Stack, tenant: str) -> list[str]:
    """The generations of a tenant that has some, as soon as Temporal's index knows of them."""
    engine, query = await stack.temporal(), f"WorkflowType = 'Generation' and OnetakeTenant = '{tenant}'"
    async with asyncio.timeout(LIMIT_S):
        while not (runs := [run.id async for run in engine.list_workflows(query)]):
            await asyncio.sleep(0.1)
    return runs


async def test_a_key_with_another_body_names_the_first_generation_and_not_its_prompt(
    stack: Stack, onetake: Onetake
) -> None:
    request = keyed("a secret", labels={"a": "1", "b": "2"}, max_cost_usd="1.50")
    first = await onetake.start(request)
    await ended(onetake, first.id)
    other = request.model_copy(update={"prompt": unique("another body")})
    with pytest.raises(Refused) as refused:
        await onetake.start(other)
    assert first.id in str(refused.value)
    assert "secret" not in str(refused.value)
    ledger, jobs = await entries_of(stack, first.id), await stack.jobs_of(request.prompt)
    expect("F003", sees=refused.value.code, ledger=ledger, jobs=len(jobs))
    assert await stack.submits_of(other.prompt) == []

    written_otherwise = {"labels": {"b": "2", "a": "1"}, "max_cost_usd": Decimal("1.5")}
    assert (await onetake.start(request.model_copy(update=written_otherwise))).id == first.id
    for change in ({"max_cost_usd": Decimal("1.51")}, {"prompt": f"{request.prompt} "}, {"duration_s": 3}):
        with pytest.raises(Refused):
            await onetake.start(request.model_copy(update=change))
    assert await rows_of(onetake, request.tenant) == [first.id]


async def test_one_key_of_two_tenants_is_two_generations(stack: Stack, onetake: Onetake) -> None:
    ours, theirs = keyed("ours"), keyed("theirs")
    theirs = theirs.model_copy(update={"idempotency_key": ours.idempotency_key})
    first, second = await asyncio.gather(onetake.start(ours), onetake.start(theirs))
    assert (first.replayed, second.replayed, first.id == second.id) == (False, False, False)
    with pytest.raises(Refused) as refused:
        await onetake.start(theirs.model_copy(update={"duration_s": 3}))
    assert second.id in str(refused.value)
    assert first.id not in str(refused.value)
    for started, request in ((first, ours), (second, theirs)):
        await shows("F004", stack, await ended(onetake, started.id), request.prompt)


async def test_a_service_killed_between_the_row_and_the_workflow_is_repeated_with_its_key(
    stack: Stack, onetake: Onetake
) -> None:
    request = keyed("cut off before its workflow")
    generation_id = await killed_service(stack, onetake, request, "start.after_row")
    again = await onetake.start(request)
    assert (again.id, again.replayed) == (generation_id, True)
    await shows("F008", stack, await ended(onetake, generation_id), request.prompt, end="repeated")
    assert await rows_of(onetake, request.tenant) == [generation_id]


async def test_a_service_killed_before_it_heard_that_the_workflow_started_is_repeated_with_its_key(
    stack: Stack, onetake: Onetake
) -> None:
    request = keyed("killed before the answer [[sim:delay=2]]")
    generation_id = await killed_service(stack, onetake, request, "start.after_run")
    while_it_runs = await onetake.start(request)
    assert (while_it_runs.id, while_it_runs.replayed) == (generation_id, True)
    await shows("F009", stack, await ended(onetake, generation_id), request.prompt)
    assert await onetake.start(request) == while_it_runs
    assert await rows_of(onetake, request.tenant) == [generation_id]


@pytest_asyncio.fixture(loop_scope="session")
async def own_database(servers: Servers) -> AsyncGenerator[Database]:
    """A database whose rows no reconciler looks at."""
    server_url = servers.addresses.database_url
    server = await connect_once(server_url, limit_s=LIMIT_S)
    async with fresh_database(server, server_url, on_this_server(server_url, TEMPLATE)) as url:
        database = await patiently(lambda: Database.connect(url, pool_size=8))
        yield database
        await database.close()
    await server.close()


async def test_a_budget_for_ten_admits_ten_of_two_hundred_reservations_at_once(own_database: Database) -> None:
    """On the ledger alone, from eight processes' worth of writers; the test below runs fewer of them whole."""
    tenant = await budget_for_ten(own_database)
    orders = [order(await accepted(own_database, tenant), tenant) for _ in range(200)]
    ledgers = [PostgresLedger(own_database) for _ in range(8)]
    tries = [partial(ledgers[number % 8].reserve, each) for number, each in enumerate(orders)]
    answers = await asyncio.gather(*map(patiently, tries), return_exceptions=True)
    assert sum(isinstance(answer, NoMoney) for answer in answers) == 190
    assert await left_after_each_hold(own_database, tenant) == [PRICE_MICROS * left for left in range(9, -1, -1)]


async def test_a_budget_for_ten_runs_ten_of_many_generations_at_once(stack: Stack, onetake: Onetake) -> None:
    async with stack.database() as database:
        tenant = await budget_for_ten(database)
    requests = [keyed("one of many", tenant=tenant) for _ in range(MANY)]
    started = await asyncio.gather(*(patiently(partial(onetake.start, each)) for each in requests))
    results = await asyncio.gather(*(ended(onetake, each.id) for each in started))
    assert sum(result.status == "completed" for result in results) == 10
    for result, request in zip(results, requests, strict=True):
        if result.status == "completed":
            await shows("F016", stack, result, request.prompt, end="admitted")
        else:
            await shows("F016", stack, result, request.prompt, end="refused")
    async with stack.database() as database:
        assert await left_after_each_hold(database, tenant) == [PRICE_MICROS * left for left in range(9, -1, -1)]
    assert await stack.ledger_violations() == []


async def budget_for_ten(database: Database) -> str:
    """A tenant who can pay ten clips, in whatever month."""
    tenant = unique("crowd").replace(" #", "-")
    await Budgets(database).set_budget("tenant", tenant, "total", parse_usd("2.00"))
    return tenant


async def accepted(database: Database, tenant: str) -> str:
    request = GenerationRequest(route=ROUTE, prompt="in a crowd", duration_s=2, tenant=tenant)
    workflow_id = workflow_id_of(tenant, new_generation_id())
    return (await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id)).id


def order(generation_id: str, tenant: str) -> ReserveInput:
    price = Price(amount_micros=PRICE_MICROS, unit="2 s", table_version="of this test")
    return ReserveInput(
        generation_id=generation_id,
        attempt=1,
        tenant=tenant,
        user=None,
        feature=None,
        route=ROUTE,
        vendor="apixo",
        price=price,
    )


async def left_after_each_hold(database: Database, tenant: str) -> list[int]:
    """What the tenant's budget had left at each instant at which something was held, in the order of the journal."""
    rows = await database.rows(
        """select e.available_micros from onetake.event e join onetake.generation g on g.id = e.generation_id
        where g.tenant = $1 and e.kind = 'hold' order by e.id""",
        tenant,
    )
    return [room for row in rows for room in row["available_micros"]]


async def test_a_key_outlives_the_history_of_its_workflow(stack: Stack, onetake: Onetake, forgotten: Forgotten) -> None:
    request, first = forgotten.request, forgotten.first
    await forgotten.run_is_gone
    assert await onetake.start(request) == replace(first, replayed=True)
    assert (await ended(onetake, first.id)).assets[0].key == forgotten.result.assets[0].key
    assert not await has_run(stack, first.workflow_id)
    assert await rows_of(onetake, request.tenant) == [first.id]
    await shows("F005", stack, forgotten.result, request.prompt)


async def forget(stack: Stack, workflow_id: str) -> None:
    """Delete a closed run, as Temporal does when its time to keep it is over."""
    engine = await stack.temporal()
    execution = WorkflowExecution(workflow_id=workflow_id)
    async with asyncio.timeout(LIMIT_S):
        description = await engine.get_workflow_handle(workflow_id).describe()
        while description.status is WorkflowExecutionStatus.RUNNING:  # the row ends a moment before the run does
            await asyncio.sleep(0.05)
            description = await engine.get_workflow_handle(workflow_id).describe()
        await engine.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(namespace=engine.namespace, workflow_execution=execution)
        )
        while await has_run(stack, workflow_id):
            await asyncio.sleep(0.05)


async def test_a_service_killed_there_and_never_repeated_leaves_no_row_behind(
    stack: Stack, onetake: Onetake, abandoned: Abandoned
) -> None:
    (keyed_request, keyed_id), (other_request, other_id) = abandoned.with_key, abandoned.without_key
    await shows("F008", stack, await reconciled(onetake, keyed_id), keyed_request.prompt, end="started")
    await shows("F008", stack, await reconciled(onetake, other_id), other_request.prompt, end="expired")
    assert STALE_START_S + Settings.model_fields["reconcile_every_s"].default <= 120


async def reconciled(onetake: Onetake, generation_id: str) -> GenerationResult:
    """Wait for the end of a generation whose run may not have begun yet."""
    async with asyncio.timeout(LIMIT_S):
        while (record := await onetake.get(generation_id)).status not in TERMINAL:
            await asyncio.sleep(0.1)
    return record
