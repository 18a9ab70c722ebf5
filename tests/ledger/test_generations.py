"""A generation is accepted once, moves forward only, and is found by whoever may see it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from onetake.core.contracts import ErrorInfo, GenerationRecord, GenerationRequest, ReserveInput, SettleInput
from onetake.core.errors import Failed, Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.ports import Accepted
from onetake.ledger import PostgresGenerations, PostgresLedger
from tests.providers.parts import plan_of, request_on

ROUTE = "apixo/wan-2.6/text-to-video"


def request(prompt: str = "a fox", **fields: object) -> GenerationRequest:
    return GenerationRequest.model_validate({"route": ROUTE, "prompt": prompt, "tenant": "acme", **fields})


async def test_the_client_and_the_workflow_accept_the_same_row(generations: PostgresGenerations) -> None:
    workflow_id = workflow_id_of("acme", new_generation_id())
    first = await generations.accept_once(request(), workflow_id=workflow_id)
    assert workflow_id == f"gen/acme/{first.id}"
    assert (await _record(generations, first.id)).status == "queued"

    again = await generations.accept_once(request(), workflow_id=workflow_id, run_id="run-1")
    assert (again.id, again.replayed) == (first.id, True)
    assert (await _record(generations, first.id)).status == "in_progress"
    assert await generations.accept(request(), workflow_id=workflow_id, run_id="run-1") == Accepted(first.id, None)


async def test_a_plain_clients_workflow_id_gets_an_id_of_ours(generations: PostgresGenerations) -> None:
    first = await generations.accept_once(request(), workflow_id="my-own-id", run_id="run-1")
    again = await generations.accept_once(request(), workflow_id="my-own-id", run_id="run-1")
    assert (first.replayed, again.replayed, again.id) == (False, True, first.id)


async def test_a_second_run_or_another_request_under_a_workflow_id_is_refused(
    generations: PostgresGenerations,
) -> None:
    await generations.accept_once(request(), workflow_id="w", run_id="run-1")
    for asked, run_id in ((request(), "run-2"), (request("a cat"), "run-1"), (request("a cat"), None)):
        with pytest.raises(Refused) as refused:
            await generations.accept_once(asked, workflow_id="w", run_id=run_id)
        assert refused.value.code == "workflow_id_reused"


async def test_an_id_that_already_runs_under_another_workflow_id_is_refused(generations: PostgresGenerations) -> None:
    taken = await generations.accept_once(request(), workflow_id="w")
    with pytest.raises(Refused) as refused:
        await generations.accept_once(request(), workflow_id=workflow_id_of("acme", taken.id))
    assert refused.value.code == "workflow_id_reused"


async def test_the_same_key_and_request_give_the_first_generation(generations: PostgresGenerations) -> None:
    asked = request(idempotency_key="k", max_cost_usd="1.50", labels={"a": "1", "b": "2"})
    same = request(idempotency_key="k", max_cost_usd="1.5", labels={"b": "2", "a": "1"})
    first = await generations.accept_once(asked, workflow_id="w1")
    second = await generations.accept_once(same, workflow_id="w2")
    assert (second.id, second.workflow_id, second.replayed) == (first.id, "w1", True)


async def test_the_same_key_with_another_request_names_the_first_and_not_its_prompt(
    generations: PostgresGenerations,
) -> None:
    first = await generations.accept_once(request("a secret fox", idempotency_key="k"), workflow_id="w1")
    with pytest.raises(Refused) as refused:
        await generations.accept_once(request("a cat", idempotency_key="k"), workflow_id="w2")
    assert (refused.value.code, first.id in str(refused.value)) == ("idempotency_key_reused", True)
    assert "secret" not in str(refused.value)


async def test_a_workflow_may_not_run_for_a_key_that_another_generation_owns(generations: PostgresGenerations) -> None:
    await generations.accept_once(request(idempotency_key="k"), workflow_id="w1")
    with pytest.raises(Refused) as refused:
        await generations.accept_once(request(idempotency_key="k"), workflow_id="w2", run_id="run-2")
    assert refused.value.code == "idempotency_key_reused"


async def test_keys_of_two_tenants_do_not_meet(generations: PostgresGenerations) -> None:
    ours = await generations.accept_once(request(idempotency_key="k"), workflow_id="w1")
    theirs = await generations.accept_once(request(idempotency_key="k", tenant="other"), workflow_id="w2")
    assert (theirs.replayed, theirs.id == ours.id) == (False, False)


async def test_the_first_plan_is_kept_whoever_comes_later(generations: PostgresGenerations) -> None:
    first, second = plan_of(request_on(ROUTE)), plan_of(request_on(ROUTE), time_scale=0.5)
    created = await generations.accept_once(request(), workflow_id="w", plan=first)
    again = await generations.accept_once(request(), workflow_id="w", plan=second)
    assert (created.plan, again.plan) == (first, first)
    assert await generations.accept(request(), workflow_id="w", run_id="run-1") == Accepted(created.id, first)
    images = second.model_copy(update={"reference_kinds": ("image",)})
    pinned = first.model_copy(update={"reference_kinds": ("image",)})
    assert [await generations.pin(created.id, images) for _ in range(2)] == [pinned, pinned]


async def test_a_key_whose_generation_has_no_plan_gives_it_one(generations: PostgresGenerations) -> None:
    asked, plan = request(idempotency_key="k"), plan_of(request_on(ROUTE))
    plain = await generations.accept(asked, workflow_id="w1", run_id="run-1")
    assert plain.plan is None
    repeat = await generations.accept_once(asked, workflow_id="w2", plan=plan)
    assert (repeat.id, repeat.workflow_id, repeat.replayed, repeat.plan) == (plain.generation_id, "w1", True, plan)
    assert await generations.pin(plain.generation_id, plan_of(request_on(ROUTE), time_scale=0.5)) == plan


async def test_a_plan_that_money_was_reserved_for_stays_as_it_is(
    generations: PostgresGenerations, ledger: PostgresLedger, order: Callable[..., ReserveInput]
) -> None:
    plan = plan_of(request_on(ROUTE))
    row = await generations.accept_once(request(), workflow_id="w", plan=plan)
    await ledger.reserve(order(row.id))
    assert await generations.pin(row.id, plan.model_copy(update={"reference_kinds": ("image",)})) == plan


async def test_what_holds_money_is_shown_as_about_to_be_submitted(
    generations: PostgresGenerations, ledger: PostgresLedger, order: Callable[..., ReserveInput]
) -> None:
    row = await generations.accept_once(request(), workflow_id="w", run_id="run-1")
    assert (await _record(generations, row.id)).phase == "accepted"
    await ledger.reserve(order(row.id))
    assert (await _record(generations, row.id)).phase == "submitting"
    assert [record.phase for record in await generations.list()] == ["submitting"]


async def test_what_was_never_accepted_has_no_plan_to_pin(generations: PostgresGenerations) -> None:
    with pytest.raises(Refused) as refused:
        await generations.pin(new_generation_id(), plan_of(request_on(ROUTE)))
    assert refused.value.code == "generation_not_found"


async def test_a_hundred_clients_with_one_key_make_one_row(generations: PostgresGenerations) -> None:
    asked = request(idempotency_key="k")
    accepted = await asyncio.gather(
        *(generations.accept_once(asked, workflow_id=f"w{number}") for number in range(100))
    )
    assert len({row.id for row in accepted}) == 1
    assert sum(not row.replayed for row in accepted) == 1


async def test_a_text_that_the_database_cannot_hold_is_refused(generations: PostgresGenerations) -> None:
    with pytest.raises(Refused) as refused:
        await generations.accept_once(request("a \x00 fox"), workflow_id="w")
    assert refused.value.code == "request_invalid"


async def test_a_phase_never_moves_back(
    generations: PostgresGenerations, accept: Callable[..., Awaitable[str]]
) -> None:
    generation_id = await accept()
    await generations.enter(generation_id, "generating")
    await generations.enter(generation_id, "submitting")
    assert (await _record(generations, generation_id)).phase == "generating"
    assert (await _record(generations, generation_id)).status == "in_progress"


async def test_no_statement_can_move_a_phase_back_or_change_an_end(
    generations: PostgresGenerations, ledger: PostgresLedger, accept: Callable[..., Awaitable[str]]
) -> None:
    database = generations._database  # pyright: ignore[reportPrivateUsage]
    generation_id = await accept()
    await generations.enter(generation_id, "persisting")
    with pytest.raises(Failed, match="OT001"):
        await database.row("update onetake.generation set phase = 'accepted' where id = $1", generation_id)
    await _end(ledger, generation_id, "failed")
    with pytest.raises(Failed, match="OT001"):
        await database.row("update onetake.generation set status = 'completed' where id = $1", generation_id)


async def test_what_was_asked_comes_back_whole(generations: PostgresGenerations) -> None:
    asked = request("füchse \U0001f98a", idempotency_key="k", max_cost_usd="2.5", labels={"team": "a b"}, user="ann")
    accepted = await generations.accept_once(asked, workflow_id="w")
    assert await generations.request_of(accepted.id) == asked
    record = await _record(generations, accepted.id)
    assert (record.user, record.feature, record.labels) == ("ann", None, {"team": "a b"})
    with pytest.raises(Refused):
        await generations.request_of(new_generation_id())


async def test_another_tenants_generation_does_not_exist(
    generations: PostgresGenerations, accept: Callable[..., Awaitable[str]]
) -> None:
    generation_id = await accept()
    assert await generations.get(generation_id, "other") is None
    assert await generations.get(generation_id, "acme") is not None
    assert await generations.list(tenant="other") == []


async def test_lists_go_newest_first_page_by_page(
    generations: PostgresGenerations, accept: Callable[..., Awaitable[str]]
) -> None:
    ids = [await accept() for _ in range(5)]
    first = await generations.list(tenant="acme", limit=2)
    second = await generations.list(tenant="acme", limit=2, after=first[-1].id)
    third = await generations.list(limit=2, after=second[-1].id)
    assert [record.id for record in (*first, *second, *third)] == ids[::-1]


async def test_lists_filter_by_status_vendor_error_and_time(
    generations: PostgresGenerations, ledger: PostgresLedger, accept: Callable[..., Awaitable[str]]
) -> None:
    running, broken = await accept(), await accept()
    await accept(route="gmi/wan-2.6/text-to-video")
    error = ErrorInfo(code="vendor_failed", message="It failed.", hint="Start again.")
    await _end(ledger, broken, "failed", error)
    assert [record.id for record in await generations.list(error_code="vendor_failed")] == [broken]
    assert [record.id for record in await generations.list(status="failed", vendor="apixo")] == [broken]
    assert [record.id for record in await generations.list(status="queued", vendor="apixo")] == [running]
    assert await generations.list(since=datetime.now(UTC) + timedelta(minutes=5)) == []
    assert len(await generations.list(since=datetime.now(UTC) - timedelta(minutes=5))) == 3


async def test_a_wish_to_cancel_is_noted_until_the_end(
    generations: PostgresGenerations, ledger: PostgresLedger, accept: Callable[..., Awaitable[str]]
) -> None:
    generation_id = await accept()
    assert await generations.mark_cancel_requested(generation_id)
    assert (await _record(generations, generation_id)).cancel_requested
    await _end(ledger, generation_id, "canceled")
    assert not await generations.mark_cancel_requested(generation_id)


async def _record(generations: PostgresGenerations, generation_id: str) -> GenerationRecord:
    record = await generations.get(generation_id)
    assert record is not None
    return record


async def _end(ledger: PostgresLedger, generation_id: str, status: str, error: ErrorInfo | None = None) -> None:
    order = {
        "generation_id": generation_id,
        "attempt": 1,
        "tenant": "acme",
        "status": status,
        "resolution": "none",
        "error": error,
    }
    await ledger.settle(SettleInput.model_validate(order))
