"""Ways in which a pass over the ledger could do harm that a hostile reader found, each with the end it must have."""

import asyncio

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from onetake.client import Onetake, request_of
from onetake.core.contracts import GenerationRecord, Plan, ReserveInput, SettleInput
from onetake.core.errors import Refused, TryLater
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.ledger import PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.callbacks import token_sha256
from onetake.ledger.database import Database
from onetake.operations.reconciler import Reconciler
from tests.system.harness import ROUTE, Stack, ended, in_phase, money, unique

LIMIT_S = 300.0


EMPTY, MISSING = "temporal-system", "nobody-made-this-one"


async def test_a_pass_pointed_at_another_namespace_ends_nothing(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("elsewhere [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    async with stack.database() as database:
        await stack.make_old(started.id)
        found = (await (await astray(stack, database, EMPTY)).run_once()).findings
        assert {each.action for each in found if each.generation_id == started.id} == {"none"}
        with pytest.raises(TryLater) as later:
            await (await astray(stack, database, MISSING)).run_once()
    assert later.value.code == "engine_unavailable"
    await stack.release(prompt)
    result = await ended(onetake, started.id)
    assert (result.status, money(result)) == ("completed", (200_000, 200_000, 0))


async def astray(stack: Stack, database: Database, namespace: str) -> Reconciler:
    """A reconciler of this ledger that asks a namespace in which none of its runs is."""
    engine = await Client.connect(
        stack.environment["TEMPORAL_ADDRESS"], namespace=namespace, data_converter=pydantic_data_converter
    )
    return Reconciler(engine, database, time_scale=stack.settings().time_scale)


async def test_what_was_canceled_before_it_started_is_never_started(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("canceled and cut off")
    async with stack.database() as database:
        generation_id = await row_alone(database, onetake, prompt, key=unique("key").replace(" ", ""))
        await onetake.cancel(generation_id)
        await stack.make_old(generation_id)
    record = await settled(onetake, generation_id)
    assert (record.status, money(record)) == ("failed", (0, 0, 0))
    assert await stack.submits_of(prompt) == []


async def test_what_a_late_attempt_knows_was_never_taken_does_not_stay_in_suspense(
    stack: Stack, onetake: Onetake
) -> None:
    request = request_of({"route": ROUTE, "prompt": unique("turned away late"), "duration_s": 2})
    plan = await onetake.plan(request)
    async with stack.database() as database:
        generation_id = await row_alone(database, onetake, request.prompt)
        submissions, ledger = PostgresSubmissions(database), PostgresLedger(database)
        await ledger.reserve(hold_for(generation_id, plan))
        begun = await submissions.begin(
            generation_id,
            1,
            vendor=plan.vendor,
            token_sha256=token_sha256(generation_id),
            request_sha256=bytes(32),
            seed=None,
        )
        end = SettleInput(generation_id=generation_id, attempt=1, tenant="default", status="failed", resolution="none")
        assert (await ledger.settle(end)).cost.suspense_micros == 200_000
        await submissions.record(generation_id, 1, state="not_sent", post=begun.post)
    async with asyncio.timeout(LIMIT_S):
        while (record := await onetake.get(generation_id)).cost.suspense_micros:
            await asyncio.sleep(0.2)
    assert (record.status, money(record)) == ("failed", (200_000, 0, 0))
    assert await stack.ledger_violations() == []


async def test_money_held_without_a_run_is_given_back(stack: Stack, onetake: Onetake) -> None:
    request = request_of({"route": ROUTE, "prompt": unique("held and never run"), "duration_s": 2})
    async with stack.database() as database:
        generation_id = await row_alone(database, onetake, request.prompt)
        await PostgresLedger(database).reserve(hold_for(generation_id, await onetake.plan(request)))
        await stack.make_old(generation_id)
    record = await settled(onetake, generation_id)
    assert (record.status, record.error and record.error.code) == ("failed", "run_lost")
    assert money(record) == (200_000, 0, 0)


async def test_a_callers_own_key_does_not_stand_in_for_a_replay(onetake: Onetake) -> None:
    fields = {"route": ROUTE, "prompt": unique("preempted [[sim:reject=400]]"), "duration_s": 2}
    first = await onetake.start(**fields)
    await ended(onetake, first.id)
    await ended(onetake, (await onetake.start(**fields, idempotency_key=f"regenerate/{first.id}")).id)
    with pytest.raises(Refused) as refused:
        await onetake.replays().replay("regenerate", first.id, who="operator test")
    assert refused.value.code == "idempotency_key_reused"


def hold_for(generation_id: str, plan: Plan) -> ReserveInput:
    return ReserveInput(
        generation_id=generation_id,
        attempt=1,
        tenant="default",
        user=None,
        feature=None,
        route=plan.route,
        vendor=plan.vendor,
        price=plan.price,
    )


async def row_alone(database: Database, onetake: Onetake, prompt: str, *, key: str | None = None) -> str:
    """What a client leaves that is killed between the row and the workflow."""
    request = request_of({"route": ROUTE, "prompt": prompt, "duration_s": 2, "idempotency_key": key})
    workflow_id = workflow_id_of("default", new_generation_id())
    plan = await onetake.plan(request)
    row = await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=plan)
    return row.id


async def settled(onetake: Onetake, generation_id: str) -> GenerationRecord:
    async with asyncio.timeout(LIMIT_S):
        while (record := await onetake.get(generation_id)).phase != "done":
            await asyncio.sleep(0.2)
    return record
