"""A cost far beyond the hold is booked by a person only, by whichever door the vendor's figure comes."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from onetake.core.contracts import CorrectInput, GenerationResult, ReserveInput, SettleInput
from onetake.core.ports import Begun
from onetake.ledger import Budgets, Database, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.callbacks import Callbacks
from onetake.ledger.drift import Drifts
from onetake.ledger.invariants import violations
from onetake.ledger.recoveries import Recoveries
from tests.ledger.test_recoveries import correction
from tests.providers.parts import plan_of, request_for

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
Begin = Callable[..., Awaitable[Begun]]
Sent = Callable[..., Awaitable[str]]

USD = 1_000_000
BEYOND = 3 * USD + 1
FIGURES = {"reported_micros": BEYOND, "held_micros": USD}
WARNING = "the vendor reports $3.000001 where $1.00 was held: more than the hold is booked only by a person"


@pytest.fixture(autouse=True)
async def ledger_is_right(database: Database) -> Any:
    """After every test of this file the invariants hold."""
    yield
    assert await violations(database) == []


@pytest.fixture
def sent(
    generations: PostgresGenerations,
    ledger: PostgresLedger,
    submissions: PostgresSubmissions,
    accept: Accept,
    order: Order,
    begin: Begin,
) -> Sent:
    """Make a generation of a dollar whose job the vendor took. `most` is its plan's bound."""

    async def sent(most: str = "3") -> str:
        plan, generation_id = plan_of(request_for()), await accept()
        price = plan.price.model_copy(update={"amount_micros": USD})
        pinned = plan.model_copy(update={"price": price, "reported_cost_most": Decimal(most)})
        await generations.pin(generation_id, pinned)
        await ledger.reserve(order(generation_id))
        await begin(generation_id, token=f"token of {generation_id}")
        await submissions.record(generation_id, 1, state="accepted", vendor_task_id=f"task of {generation_id}")
        return generation_id

    return sent


async def settle(
    ledger: PostgresLedger, generation_id: str, actual_micros: int | None, status: str, resolution: str = "post"
) -> GenerationResult:
    order = {"generation_id": generation_id, "attempt": 1, "tenant": "acme", "status": status, "resolution": resolution}
    order |= {"actual_micros": actual_micros, "basis": "vendor_reported", "vendor_task_id": "task"}
    return await ledger.settle(SettleInput.model_validate(order))


async def in_review(ledger: PostgresLedger, generation_id: str) -> dict[str, Any] | None:
    """Both figures of its review; None when there was none. No entry books anything beside the suspense."""
    entries = {each.kind: each for each in await ledger.entries(generation_id)}
    review = entries.get("review")
    if review is not None:
        assert (set(entries), review.amount_micros) == ({"hold", "suspense", "review"}, 0)
        assert entries["suspense"].amount_micros == USD
    return review.detail if review else None


@pytest.mark.parametrize("status", ["completed", "failed", "canceled"])
async def test_a_cost_beyond_the_bound_ends_in_suspense_with_both_figures(
    ledger: PostgresLedger, budgets: Budgets, sent: Sent, status: str
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 5 * USD)
    generation_id = await sent()
    with capture_logs() as logs:
        result, again = [await settle(ledger, generation_id, BEYOND, status) for _ in range(2)]
    assert [each["event"] for each in logs] == ["ledger.settle_in_review"], "the second is a repeat"
    assert again == result
    assert result.status == status
    assert (result.cost.settled_micros, result.cost.suspense_micros, result.cost.basis) == (0, USD, "pinned_price")
    assert [(each.code, each.message) for each in result.warnings] == [("vendor_cost_in_review", WARNING)]
    assert await in_review(ledger, generation_id) == FIGURES
    (budget,) = await budgets.show_budgets()
    assert (budget.held_micros, budget.spent_micros, budget.overrun_micros) == (0, USD, 0)


@pytest.mark.parametrize(("most", "actual"), [("3", 3 * USD), ("1.5", 1_500_000), ("1", USD), ("1000", 1000 * USD)])
async def test_a_cost_at_the_bound_is_booked_and_a_micro_more_is_not(
    ledger: PostgresLedger, sent: Sent, most: str, actual: int
) -> None:
    result = await settle(ledger, await sent(most), actual, "completed")
    assert (result.cost.settled_micros, result.cost.basis, result.warnings) == (actual, "vendor_reported", ())
    assert (await settle(ledger, await sent(most), actual + 1, "completed")).cost.suspense_micros == USD


@pytest.mark.parametrize(("amount", "settled"), [(None, USD), (BEYOND, BEYOND), (0, 0)])
async def test_a_person_decides_and_any_amount_may_be_given(
    ledger: PostgresLedger, sent: Sent, amount: int | None, settled: int
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, BEYOND, "completed")
    decided = await ledger.resolve_suspense(
        generation_id, 1, to="posted", who="ops", why="the invoice", actual_micros=amount
    )
    assert (decided.cost.settled_micros, decided.cost.suspense_micros) == (settled, 0)


async def reports(database: Database) -> list[tuple[int, int, int]]:
    """What counts as reported by the vendor: how many charges, what was held for them, and what they were."""
    weeks = await Drifts(database).weeks()
    return [(each.count, each.expected_micros, each.reported_micros) for each in weeks]


@pytest.mark.parametrize(
    ("to", "amount", "counted"),
    [("posted", BEYOND, [(1, USD, BEYOND)]), ("posted", None, []), ("posted", BEYOND - 1, []), ("released", None, [])],
)
async def test_a_cost_in_review_counts_as_reported_once_it_is_decided_by_the_vendors_figure(
    ledger: PostgresLedger, database: Database, sent: Sent, to: Any, amount: int | None, counted: list[Any]
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, BEYOND, "completed")
    assert await reports(database) == []
    for _ in range(2):
        decided = await ledger.resolve_suspense(
            generation_id, 1, to=to, who="ops", why="the invoice", actual_micros=amount
        )
        assert decided.cost.basis == ("vendor_reported" if counted else "pinned_price")
    assert await reports(database) == counted


async def test_what_a_person_posts_of_a_failure_without_a_cost_is_no_report(
    ledger: PostgresLedger, database: Database, sent: Sent
) -> None:
    generation_id = await sent()
    assert (await settle(ledger, generation_id, None, "failed", "suspend")).cost.basis == "pinned_price"
    await ledger.resolve_suspense(generation_id, 1, to="posted", who="ops", why="the contract")
    assert await reports(database) == []


async def test_a_late_clip_is_kept_and_its_cost_beyond_the_bound_is_left_to_people(
    ledger: PostgresLedger, database: Database, sent: Sent
) -> None:
    generation_id, recoveries = await sent(), Recoveries(database)
    await settle(ledger, generation_id, None, "failed", "suspend")
    for _ in range(2):
        record = await recoveries.correct(correction(generation_id, BEYOND))
        assert (record.status, len(record.assets)) == ("completed", 1)
        assert (record.cost.settled_micros, record.cost.suspense_micros, record.cost.basis) == (0, USD, "pinned_price")
        assert [each.message for each in record.warnings] == [WARNING]
    assert await in_review(ledger, generation_id) == FIGURES


@pytest.mark.parametrize("late_figure", [None, USD])
async def test_once_an_amount_is_in_review_no_later_figure_books_it(
    ledger: PostgresLedger, database: Database, sent: Sent, late_figure: int | None
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, BEYOND, "failed")
    order = correction(generation_id).model_copy(update={"actual_micros": late_figure})
    record = await Recoveries(database).correct(order)
    assert (record.status, record.cost.suspense_micros) == ("completed", USD)
    assert [each.message for each in record.warnings] == [WARNING], "the warning outlives the correction"
    assert await in_review(ledger, generation_id) == FIGURES


def verdict(generation_id: str, resolution: str, actual_micros: int | None) -> CorrectInput:
    order = correction(generation_id).model_copy(update={"assets": (), "actual_micros": actual_micros})
    return order.model_copy(update={"resolution": resolution})


async def test_a_recovered_failure_with_a_cost_beyond_the_bound_stays_in_suspense(
    ledger: PostgresLedger, sent: Sent
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, None, "failed", "suspend")
    for _ in range(2):
        record = await ledger.decide(verdict(generation_id, "post", BEYOND))
        assert record is not None
        assert (record.status, record.cost.suspense_micros) == ("failed", USD)
    assert await in_review(ledger, generation_id) == FIGURES
    released = await ledger.decide(verdict(generation_id, "release", None))
    assert released is not None
    assert (released.cost.settled_micros, released.cost.suspense_micros) == (0, 0), "the vendor took nothing after all"


@pytest.mark.parametrize(("basis", "counted"), [("vendor_reported", [(1, USD, 3 * USD)]), ("pinned_price", [])])
async def test_a_recovered_failure_within_the_bound_is_booked_as_what_it_is(
    ledger: PostgresLedger, database: Database, sent: Sent, basis: str, counted: list[Any]
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, None, "failed", "suspend")
    order = verdict(generation_id, "post", 3 * USD).model_copy(update={"basis": basis})
    record = await ledger.decide(order)
    assert record is not None
    assert (record.cost.settled_micros, record.cost.basis) == (3 * USD, basis)
    assert await reports(database) == counted


async def test_a_clip_after_a_persons_release_is_charged_as_held_with_both_figures(
    ledger: PostgresLedger, database: Database, sent: Sent
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, None, "failed", "suspend")
    await ledger.resolve_suspense(generation_id, 1, to="released", who="ops", why="the vendor knows no such job")
    record = await Recoveries(database).correct(correction(generation_id, BEYOND))
    assert (record.status, record.cost.settled_micros) == ("completed", USD)
    entries = {each.kind: each for each in await ledger.entries(generation_id)}
    assert (entries["correction"].amount_micros, entries["review"].detail) == (USD, FIGURES)


async def test_people_are_shown_both_figures_and_why(ledger: PostgresLedger, database: Database, sent: Sent) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, BEYOND, "completed")
    ((row,),) = [page async for page in Recoveries(database).suspended_rows()]
    assert (row.amount_micros, row.reported_micros, row.why) == (USD, BEYOND, "vendor_cost_in_review")


async def test_a_callback_starts_no_recovery_for_an_amount_in_review(
    ledger: PostgresLedger, callbacks: Callbacks, sent: Sent
) -> None:
    generation_id = await sent()
    await settle(ledger, generation_id, BEYOND, "failed")
    about: dict[str, Any] = {"claimed_task_id": "task", "claimed_state": "done", "body_sha256": bytes(32)}
    wake = await callbacks.take("apixo", f"token of {generation_id}", **about, size_bytes=1)
    assert wake is not None
    assert (wake.ended, wake.is_due) == (True, False)
    assert await callbacks.unsignalled(older_than_s=-1, limit=10) == []


async def test_the_invariants_notice_a_cost_that_was_booked_by_itself(
    ledger: PostgresLedger, database: Database, sent: Sent
) -> None:
    generation_id = await sent("4")
    await settle(ledger, generation_id, 4 * USD, "completed")
    lower = "update onetake.generation set plan = jsonb_set(plan, '{reported_cost_most}', $1) where id = $2"
    await database.row(lower, '"3"', generation_id)
    assert [each.partition(" ")[0] for each in await violations(database)] == ["I29"]
    await database.row(lower, '"4"', generation_id)
