"""What is known of a vendor's callbacks, and of the usual time of renders."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import pytest

from onetake.core.contracts import Pace, Plan, SettleInput
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.ledger import (
    Callbacks,
    Database,
    PostgresGenerations,
    PostgresLedger,
    PostgresPacing,
    PostgresSubmissions,
)
from onetake.ledger.callbacks import token_sha256
from onetake.ledger.database import connect_once
from onetake.ledger.pacing import callback_records
from tests.ledger.databases import Order
from tests.providers.parts import plan_of, request_on

ROUTE = "apixo/wan-2.6/text-to-video"
PLAN = plan_of(request_on(ROUTE))
OTHER_VENDOR = plan_of(request_on("wan26ai/wan-2.6/text-to-video"))
NAMES = count()
SLOW_S = 600  # what may pass on a busy machine while an end is written

Submit = Callable[..., Awaitable[str]]
End = Callable[..., Awaitable[None]]
Call = Callable[..., Awaitable[None]]
Look = Callable[..., Awaitable[Pace]]


@pytest.fixture
def submit(
    generations: PostgresGenerations, ledger: PostgresLedger, submissions: PostgresSubmissions, order: Order
) -> Submit:
    """A job that its vendor has accepted; its token is its generation's id."""

    async def submit(plan: Plan = PLAN, *, callback: bool = True) -> str:
        request = request_on(plan.route, tenant="acme")
        workflow_id = workflow_id_of("acme", new_generation_id())
        generation_id = (await generations.accept_once(request, workflow_id=workflow_id, plan=plan)).id
        await ledger.reserve(order(generation_id, route=plan.route, vendor=plan.vendor))
        await submissions.begin(
            generation_id,
            1,
            vendor=plan.vendor,
            token_sha256=token_sha256(generation_id) if callback else None,
            request_sha256=bytes(32),
            seed=None,
        )
        await submissions.record(generation_id, 1, state="accepted", vendor_task_id=f"task-{next(NAMES)}")
        return generation_id

    return submit


@pytest.fixture
def end(database: Database, submissions: PostgresSubmissions) -> End:
    """Our own read finds the end, so many seconds after the acceptance."""

    async def end(generation_id: str, *, failed: bool = False, after_s: float | None = None) -> None:
        if after_s is not None:
            await database.row(
                """update onetake.submission set decided_at = clock_timestamp() - make_interval(secs => $2)
                where generation_id = $1""",
                generation_id,
                after_s,
            )
        await submissions.note_end(generation_id, 1, failed=failed, shows_charge=False)

    return end


@pytest.fixture
def call(callbacks: Callbacks) -> Call:
    """The vendor's callback comes."""

    async def call(generation_id: str, vendor: str = "apixo", body: bytes = bytes(32)) -> None:
        taken = await callbacks.take(
            vendor, generation_id, claimed_task_id=None, claimed_state="success", body_sha256=body, size_bytes=1
        )
        assert taken is not None

    return call


@pytest.fixture
def look(database: Database) -> Look:
    """The pace as a process that has just started sees it."""

    async def look(plan: Plan = PLAN, *, asked: bool = True) -> Pace:
        return await PostgresPacing(database, callbacks_asked=asked).pace(plan)

    return look


# -- Callbacks ---------------------------------------------------------------------------------------------------------


async def test_nothing_is_known_of_a_vendor_that_has_ended_no_job(submit: Submit, look: Look) -> None:
    await submit()
    assert await look() == Pace(callbacks_arrive=False, usual_s=None)


@pytest.mark.parametrize("failed", [False, True])
async def test_callbacks_arrive_from_an_announced_end_until_an_unannounced_one(
    submit: Submit, end: End, call: Call, look: Look, failed: bool
) -> None:
    first, lost, second = [await submit() for _ in range(3)]
    await call(first)
    await end(first, failed=failed)
    assert (await look()).callbacks_arrive
    await end(lost, failed=failed)
    assert not (await look()).callbacks_arrive
    await call(second)
    await end(second, failed=failed)
    assert (await look()).callbacks_arrive


async def test_a_callback_that_no_read_has_confirmed_proves_nothing(submit: Submit, call: Call, look: Look) -> None:
    await call(await submit())
    assert not (await look()).callbacks_arrive


async def test_a_callback_that_comes_after_the_end_was_seen_announces_it(
    submit: Submit, end: End, call: Call, look: Look
) -> None:
    late, unannounced = await submit(), await submit()
    await end(late)
    await end(unannounced)
    assert not (await look()).callbacks_arrive
    await call(late)
    assert (await look()).callbacks_arrive


async def test_a_repeated_callback_of_an_announced_end_does_not_hide_that_another_had_none(
    submit: Submit, end: End, call: Call, look: Look
) -> None:
    announced = await submit()
    await call(announced)
    await end(announced)
    await end(await submit())
    await call(announced)
    await call(announced, body=bytes([1] * 32))
    assert not (await look()).callbacks_arrive


async def test_an_end_that_is_read_again_counts_as_it_was_first_seen(
    submit: Submit, end: End, call: Call, look: Look
) -> None:
    lost, announced = await submit(), await submit()
    await end(lost)
    await call(announced)
    await end(announced)
    await end(lost, failed=True)
    assert (await look()).callbacks_arrive


async def test_a_job_whose_vendor_was_given_no_address_says_nothing_of_callbacks(
    database: Database, submit: Submit, end: End, call: Call, look: Look
) -> None:
    announced = await submit()
    await call(announced)
    await end(announced)
    await end(await submit(callback=False))
    assert (await look()).callbacks_arrive
    assert (await callback_records(database, ["apixo"]))["apixo"].unannounced == 0


async def test_no_callback_is_expected_where_none_is_asked_for(
    submit: Submit, end: End, call: Call, look: Look
) -> None:
    announced = await submit()
    await call(announced)
    await end(announced)
    assert not (await look(asked=False)).callbacks_arrive
    assert not (await look(PLAN.model_copy(update={"callbacks": False}))).callbacks_arrive


async def test_each_vendor_is_judged_by_its_own_ends(submit: Submit, end: End, call: Call, look: Look) -> None:
    announced = await submit()
    await call(announced)
    await end(announced)
    await end(await submit(OTHER_VENDOR))
    assert (await look()).callbacks_arrive
    assert not (await look(OTHER_VENDOR)).callbacks_arrive


async def test_ends_at_one_vendor_do_not_wait_for_each_other(
    database_url: str, submit: Submit, end: End, call: Call, look: Look
) -> None:
    held, announced = await submit(), await submit()
    await call(announced)
    other = await connect_once(database_url)
    async with other.transaction():
        await other.execute("select onetake.note_job_end($1, 1, false, false)", held)
        async with asyncio.timeout(240):
            await end(announced)
            await end(await submit())
            await call(announced)
    await other.close()
    assert not (await look()).callbacks_arrive


async def test_gateways_that_hear_of_the_same_late_ends_do_not_wait_in_a_circle(
    database: Database, submit: Submit, end: End, look: Look
) -> None:
    late = [await submit() for _ in range(6)]
    for one in late:
        await end(one)
    gateways = [Callbacks(database) for _ in range(3)]
    ways = (late, late[::-1], late[3:] + late[:3])
    await asyncio.gather(
        *(
            gateway.take("apixo", one, claimed_task_id=None, claimed_state=None, body_sha256=bytes(32), size_bytes=1)
            for gateway, ids in zip(gateways, ways, strict=True)
            for one in ids
        )
    )
    record = (await callback_records(database, ["apixo"]))["apixo"]
    assert record.unannounced == 0
    assert (await look()).callbacks_arrive


# -- What is shown -----------------------------------------------------------------------------------------------------


async def test_a_record_says_since_when_callbacks_arrive(
    database: Database, submit: Submit, end: End, call: Call
) -> None:
    await end(await submit())
    announced = [await submit() for _ in range(2)]
    for one in announced:
        await call(one)
        await end(one)
    times = await database.rows("select announced_at from onetake.job_end where announced_at is not null order by 1")
    record = (await callback_records(database, ["apixo", "gmi"]))["apixo"]
    assert record.arriving_since == times[0]["announced_at"]
    assert record.announced_at == times[1]["announced_at"]
    assert record.unannounced == 0


async def test_a_record_counts_the_ends_since_the_last_announced_one(
    database: Database, submit: Submit, end: End, call: Call
) -> None:
    nothing = (await callback_records(database, ["apixo"]))["apixo"]
    assert (nothing.announced_at, nothing.unannounced_since, nothing.unannounced) == (None, None, 0)
    await end(await submit())
    announced = await submit()
    await call(announced)
    await end(announced)
    for _ in range(3):
        await end(await submit())
    record = (await callback_records(database, ["apixo"]))["apixo"]
    assert (record.arriving_since, record.unannounced) == (None, 3)
    times = await database.rows("select seen_at from onetake.job_end order by seen_at")
    assert record.announced_at == times[1]["seen_at"]
    assert record.unannounced_since == times[2]["seen_at"]


# -- The usual time ----------------------------------------------------------------------------------------------------


async def test_the_usual_time_is_the_median_of_at_least_five(submit: Submit, end: End, look: Look) -> None:
    for after_s in (1000, 5000, 2000, 4000):
        await end(await submit(), after_s=after_s)
    assert (await look()).usual_s is None
    await end(await submit(), after_s=3000)
    assert (await look()).usual_s == pytest.approx(3000, abs=SLOW_S)


async def test_renders_of_another_kind_and_failed_jobs_do_not_count(submit: Submit, end: End, look: Look) -> None:
    others = (
        PLAN.model_copy(update={"resolution": "1080p"}),
        PLAN.model_copy(update={"duration_s": PLAN.duration_s + 5}),
        OTHER_VENDOR,
    )
    for _ in range(5):
        for plan in others:
            await end(await submit(plan), after_s=1000)
        await end(await submit(), failed=True, after_s=1000)
    assert (await look()).usual_s is None
    for plan in others:
        assert (await look(plan)).usual_s == pytest.approx(1000, abs=SLOW_S)


async def test_only_the_latest_thirty_count(database: Database, submit: Submit, end: End, look: Look) -> None:
    await end(await submit(), after_s=1000)
    await database.row("update onetake.job_end set seen_at = seen_at - interval '1 hour'")
    copies = """insert into onetake.job_end
        select generation_id, n, vendor, route, resolution, duration_s, false, false,
            seen_at + interval '1 minute' * $2, $3, callback_asked, null
        from onetake.job_end, generate_series($1::int, $1 + 29) as n where attempt = 1"""
    await database.row(copies, 100, 1, 500.0)
    assert (await look()).usual_s == 500
    await database.row(copies, 200, 2, 20.0)
    assert (await look()).usual_s == 20


async def test_the_first_end_that_is_seen_counts(submit: Submit, end: End, look: Look) -> None:
    jobs = [await submit() for _ in range(5)]
    for after_s in (1000, 9000):
        for one in jobs:
            await end(one, after_s=after_s)
    assert (await look()).usual_s == pytest.approx(1000, abs=SLOW_S)


async def test_an_end_that_is_found_after_the_generations_own_says_nothing_of_the_time(
    ledger: PostgresLedger, submit: Submit, end: End, look: Look
) -> None:
    for _ in range(5):
        found_late = await submit()
        await ledger.settle(
            SettleInput(generation_id=found_late, attempt=1, tenant="acme", status="failed", resolution="suspend")
        )
        await end(found_late, after_s=90_000)
    assert (await look()).usual_s is None
