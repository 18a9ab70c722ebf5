"""Reservations hold on every budget or on none; each hold is resolved once, whatever is repeated.

It is over 400 lines because holds, budgets, windows and their resolutions are one set of rules with the same fixtures.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from onetake.core.contracts import GenerationResult, ReserveInput, SettleInput
from onetake.core.errors import NoMoney, Refused
from onetake.core.ids import new_generation_id
from onetake.ledger import Budgets, Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.invariants import violations

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
Begin = Callable[..., Awaitable[Any]]

USD = 1_000_000


@pytest.fixture(autouse=True)
async def ledger_is_right(database: Database) -> Any:
    """After every test of this file the invariants hold."""
    yield
    assert await violations(database) == []


async def settle(
    ledger: PostgresLedger,
    generation_id: str,
    resolution: str,
    actual_micros: int | None = None,
    status: str = "failed",
) -> GenerationResult:
    order = {"generation_id": generation_id, "attempt": 1, "tenant": "acme", "status": status, "resolution": resolution}
    return await ledger.settle(SettleInput.model_validate(order | {"actual_micros": actual_micros}))


async def journal(ledger: PostgresLedger, generation_id: str) -> list[tuple[str, int]]:
    return [(entry.kind, entry.amount_micros) for entry in await ledger.entries(generation_id)]


async def balance(budgets: Budgets, scope: str = "tenant") -> tuple[int, int, int, int]:
    """Held, spent, overrun, available of the first budget of a scope."""
    (row,) = [row for row in await budgets.show_budgets() if row.scope == scope]
    return row.held_micros, row.spent_micros, row.overrun_micros, row.available_micros


async def test_a_reservation_holds_on_every_budget_that_applies(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "month", 10 * USD)
    await budgets.set_budget("user", "acme/ann", "day", 5 * USD)
    await budgets.set_budget("feature", "acme/ads", "total", 5 * USD)
    await budgets.set_budget("route", "apixo/wan-2.6/text-to-video", "day", 5 * USD)
    await budgets.set_budget("vendor", "apixo", "day", 5 * USD)
    await budgets.set_budget("user", "other/ann", "day", 0)
    reserved = await ledger.reserve(order(await accept()))
    assert (reserved.amount_micros, reserved.budgets) == (USD, 5)
    assert {row.held_micros for row in await budgets.show_budgets()} == {USD, 0}
    assert sum(row.held_micros for row in await budgets.show_budgets()) == 5 * USD


async def test_without_a_budget_there_is_no_limit(ledger: PostgresLedger, accept: Accept, order: Order) -> None:
    orders = [order(await accept(), 10**15, user=None, feature=None) for _ in range(3)]
    answers = [await ledger.reserve(orders[0]), *await asyncio.gather(*map(ledger.reserve, orders))]
    assert {(answer.amount_micros, answer.budgets) for answer in answers} == {(10**15, 0)}


async def test_the_first_use_of_a_user_is_not_without_a_limit(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("user", "acme/ann", "day", USD - 1)
    with pytest.raises(NoMoney):
        await ledger.reserve(order(await accept()))


@pytest.mark.parametrize("together", [False, True], ids=["alone", "in a batch"])
async def test_the_exact_amount_fits_and_one_micro_more_does_not(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order, *, together: bool
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    orders = [order(await accept(), amount) for amount in (USD, USD, 1)]
    if together:
        first, second, third = await asyncio.gather(*map(ledger.reserve, orders), return_exceptions=True)
    else:
        first, second, third = [await _outcome(ledger, one) for one in orders]
    assert not isinstance(first, BaseException)
    assert not isinstance(second, BaseException)
    assert isinstance(third, NoMoney)
    assert await balance(budgets) == (2 * USD, 0, 0, 0)


async def _outcome(ledger: PostgresLedger, order: ReserveInput) -> object:
    try:
        return await ledger.reserve(order)
    except NoMoney as refused:
        return refused


async def test_a_refusal_names_the_budget_what_is_needed_what_is_left_and_when_it_starts_again(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order, database: Database
) -> None:
    await database.rows(
        "create or replace function onetake.clock() returns timestamptz language sql stable"
        " as $$select timestamptz '2026-11-21 10:00Z'$$"
    )
    await budgets.set_budget("tenant", "acme", "month", 10 * USD)
    await budgets.set_budget("user", "acme/ann", "day", 375_000)
    with pytest.raises(NoMoney) as refused:
        await ledger.reserve(order(await accept(), 500_000))
    assert refused.value.detail == (
        "The day budget of user acme/ann has $0.375 left, $0.50 is needed; it starts again at 2026-11-22 00:00 UTC."
    )
    await budgets.set_budget("user", "acme/ann", "total", 1)
    with pytest.raises(NoMoney, match=r"total budget of user acme/ann has .* it never restarts"):
        await ledger.reserve(order(await accept(), 500_000))


async def test_an_entry_says_what_each_window_has_left_in_the_order_of_its_holds_windows(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order, database: Database
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 20 * USD)
    await budgets.set_budget("feature", "acme/ads", "day", 10 * USD)
    await budgets.set_budget("user", "acme/ann", "day", 30 * USD)
    await ledger.reserve(order(await accept()))
    await asyncio.gather(*[ledger.reserve(order(await accept())) for _ in range(2)])
    rows = await database.rows(
        """select e.available_micros, (select array_agg(b.scope order by n) from unnest(h.window_ids)
        with ordinality as w (id, n) join onetake.budget_window using (id) join onetake.budget b on b.id = budget_id)
        as scopes from onetake.event e join onetake.hold h using (generation_id, attempt) order by e.id"""
    )
    assert [row["scopes"] for row in rows] == [["user", "feature", "tenant"]] * 3
    assert [row["available_micros"] for row in rows] == [
        [(30 - n) * USD, (10 - n) * USD, (20 - n) * USD] for n in (1, 2, 3)
    ]


async def test_a_refusal_leaves_no_trace_on_the_budgets_that_had_room(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("user", "acme/ann", "day", 10 * USD)
    await budgets.set_budget("vendor", "apixo", "day", USD)
    generation_id = await accept()
    with pytest.raises(NoMoney):
        await ledger.reserve(order(generation_id, 2 * USD))
    assert await balance(budgets, "user") == (0, 0, 0, 10 * USD)
    assert await ledger.entries(generation_id) == []
    result = await settle(ledger, generation_id, "none")
    assert (result.status, result.cost.reserved_micros) == ("failed", 0)


async def test_a_repeat_returns_the_first_hold_even_with_another_amount(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 3 * USD)
    generation_id = await accept()
    answers = [await ledger.reserve(order(generation_id, amount)) for amount in (USD, USD, 2 * USD)]
    batch = await asyncio.gather(*(ledger.reserve(order(generation_id, amount)) for amount in (USD, 2 * USD, 5 * USD)))
    assert {(answer.amount_micros, answer.budgets) for answer in (*answers, *batch)} == {(USD, 1)}
    assert await balance(budgets) == (USD, 0, 0, 2 * USD)


async def test_one_key_several_times_in_one_batch_is_one_hold_or_one_refusal(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", USD)
    fits, does_not = await accept(), await accept()
    orders = [order(fits), order(does_not), order(fits), order(does_not)]
    answers = await asyncio.gather(*map(ledger.reserve, orders), return_exceptions=True)
    assert [isinstance(answer, NoMoney) for answer in answers] == [False, True, False, True]
    assert await balance(budgets) == (USD, 0, 0, 0)


async def test_a_batch_refuses_what_does_not_fit_and_keeps_the_rest(
    database: Database, budgets: Budgets, accept: Accept
) -> None:
    """Without the help of whoever calls: a batch that failed as a whole would be tried again one by one."""
    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    ids = [await accept() for _ in range(3)]
    rows = await database.rows(
        """select outcome from onetake.reserve_many($1, '{1,1,1}', '{acme,acme,acme}', '{null,null,null}',
        '{null,null,null}', '{r,r,r}', '{apixo,apixo,apixo}', array_fill($2::bigint, '{3}'), '{5 s,5 s,5 s}',
        '{v1,v1,v1}', false)""",
        ids,
        USD,
    )
    assert [row["outcome"] for row in rows] == ["held", "held", "refused"]
    assert await balance(budgets) == (2 * USD, 0, 0, 0)


@pytest.mark.parametrize("copies", [1, 3])
async def test_a_generation_that_ended_or_never_was_reserves_nothing(
    ledger: PostgresLedger, accept: Accept, order: Order, copies: int
) -> None:
    ended = await accept()
    await settle(ledger, ended, "none", status="canceled")
    for generation_id, code in ((ended, "canceled"), (new_generation_id(), "generation_not_found")):
        answers = await asyncio.gather(
            *(ledger.reserve(order(generation_id)) for _ in range(copies)), return_exceptions=True
        )
        assert [answer.code for answer in answers if isinstance(answer, Refused)] == [code] * copies
    assert await ledger.entries(ended) == []


async def test_a_price_of_zero_is_refused(ledger: PostgresLedger, accept: Accept, order: Order) -> None:
    with pytest.raises(Refused):
        await ledger.reserve(order(await accept(), 0))


async def test_one_poisonous_order_spoils_no_other_in_its_batch(
    ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    orders = [order(await accept(), amount) for amount in (USD, 2**70, USD, USD)]
    answers = await asyncio.gather(*map(ledger.reserve, orders), return_exceptions=True)
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False, False]


async def test_a_caller_that_gives_up_stops_nobody_else(ledger: PostgresLedger, accept: Accept, order: Order) -> None:
    orders = [order(await accept()) for _ in range(4)]
    tasks = [asyncio.create_task(ledger.reserve(each)) for each in orders]
    await asyncio.sleep(0)  # each waits for its answer now
    tasks[0].cancel()
    tasks[2].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False, True, False]


async def test_a_post_spends_the_hold(ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order) -> None:
    await budgets.set_budget("tenant", "acme", "day", 3 * USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    result = await settle(ledger, generation_id, "post", status="completed")
    cost = result.cost
    assert (cost.reserved_micros, cost.settled_micros, cost.suspense_micros) == (USD, USD, 0)
    assert (result.status, result.phase, cost.basis) == ("completed", "done", "pinned_price")
    assert await balance(budgets) == (0, USD, 0, 2 * USD)
    assert await journal(ledger, generation_id) == [("hold", USD), ("post", USD)]


async def test_a_smaller_charge_posts_it_and_releases_the_rest(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 3 * USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    assert (await settle(ledger, generation_id, "post", 400_000)).cost.settled_micros == 400_000
    assert await balance(budgets) == (0, 400_000, 0, 2_600_000)
    assert await journal(ledger, generation_id) == [("hold", USD), ("post", 400_000), ("release", 600_000)]


async def test_a_larger_charge_is_never_refused_and_stops_the_next_reservation(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    assert (await settle(ledger, generation_id, "post", 2 * USD)).cost.settled_micros == 2 * USD
    assert await balance(budgets) == (0, 2 * USD, USD, -USD)
    assert await journal(ledger, generation_id) == [("hold", USD), ("post", USD), ("overrun", USD)]
    with pytest.raises(NoMoney, match=r"-\$1\.00 left"):
        await ledger.reserve(order(await accept(), 1))


async def test_a_release_gives_the_whole_hold_back(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    assert (await settle(ledger, generation_id, "release")).cost.settled_micros == 0
    assert await balance(budgets) == (0, 0, 0, USD)
    assert await journal(ledger, generation_id) == [("hold", USD), ("release", USD)]


@pytest.mark.parametrize(
    ("to", "actual", "settled"), [("posted", None, USD), ("posted", 3 * USD, 3 * USD), ("released", None, 0)]
)
async def test_a_suspense_counts_as_spent_until_it_is_decided_once(
    ledger: PostgresLedger,
    budgets: Budgets,
    begin: Begin,
    accept: Accept,
    order: Order,
    to: Any,
    actual: int | None,
    settled: int,
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await begin(generation_id)
    assert (await settle(ledger, generation_id, "suspend")).cost.suspense_micros == USD
    assert await balance(budgets) == (0, USD, 0, USD)

    for _ in range(2):
        record = await ledger.resolve_suspense(
            generation_id, 1, to=to, actual_micros=actual, who="ops", why="the vendor's invoice"
        )
        assert (record.cost.settled_micros, record.cost.suspense_micros) == (settled, 0)
    other = await ledger.resolve_suspense(generation_id, 1, to="posted", actual_micros=7, who="ops", why="a typo")
    assert other.cost.settled_micros == settled
    assert await balance(budgets) == (0, settled, max(0, settled - 2 * USD), 2 * USD - settled)
    decided = (await ledger.entries(generation_id))[-1]
    assert decided.detail == {"to": to, "who": "ops", "why": "the vendor's invoice"}


async def test_only_a_suspense_can_be_decided(ledger: PostgresLedger, accept: Accept, order: Order) -> None:
    generation_id = await accept()
    with pytest.raises(Refused) as refused:
        await ledger.resolve_suspense(generation_id, 1, to="released", who="ops", why="none")
    assert refused.value.code == "generation_not_found"
    await ledger.reserve(order(generation_id))
    with pytest.raises(Refused, match="not in suspense"):
        await ledger.resolve_suspense(generation_id, 1, to="released", who="ops", why="none")


async def test_a_second_settlement_returns_the_first_whatever_it_asks_for(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    first = await settle(ledger, generation_id, "post", 500_000, status="completed")
    with capture_logs() as alarms:
        for resolution, actual, status in (
            ("post", 500_000, "completed"),
            ("post", 7, "completed"),
            ("release", None, "canceled"),
        ):
            assert await settle(ledger, generation_id, resolution, actual, status=status) == first
    assert [alarm["event"] for alarm in alarms] == ["ledger.settle_differs"] * 2
    assert await balance(budgets) == (0, 500_000, 0, 1_500_000)


@pytest.mark.parametrize("state", ["sending", "ambiguous"])
@pytest.mark.parametrize("asked", ["release", "none"])
async def test_nothing_is_released_while_nobody_knows_whether_it_was_sent(
    ledger: PostgresLedger,
    submissions: PostgresSubmissions,
    begin: Begin,
    accept: Accept,
    order: Order,
    state: Any,
    asked: str,
) -> None:
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await begin(generation_id)
    await submissions.record(generation_id, 1, state=state)
    result = await settle(ledger, generation_id, asked)
    assert (result.status, result.cost.suspense_micros) == ("failed", USD)


@pytest.mark.parametrize(
    ("state", "asked", "suspense"),
    [
        ("accepted", "release", USD),  # without the task's name it is a guess
        ("accepted", "none", USD),
        ("not_sent", "suspend", 0),  # and without a submission there is no doubt
        ("rejected", "release", 0),
        ("not_sent", "none", 0),
    ],
)
async def test_after_a_known_outcome_the_callers_word_counts(
    ledger: PostgresLedger,
    submissions: PostgresSubmissions,
    begin: Begin,
    accept: Accept,
    order: Order,
    state: Any,
    asked: str,
    suspense: int,
) -> None:
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await begin(generation_id)
    await submissions.record(generation_id, 1, state=state, vendor_task_id="task-1" if state == "accepted" else None)
    assert (await settle(ledger, generation_id, asked)).cost.suspense_micros == suspense


async def test_a_caller_who_names_the_task_may_release_what_was_accepted(
    ledger: PostgresLedger, submissions: PostgresSubmissions, begin: Begin, accept: Accept, order: Order
) -> None:
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await begin(generation_id)
    await submissions.record(generation_id, 1, state="accepted", vendor_task_id="task-1")
    result = await ledger.settle(
        SettleInput(
            generation_id=generation_id,
            attempt=1,
            tenant="acme",
            status="failed",
            resolution="release",
            vendor_task_id="task-1",
        )
    )
    assert (result.cost.settled_micros, result.cost.suspense_micros) == (0, 0)


async def test_none_releases_a_hold_that_the_caller_never_heard_of(
    ledger: PostgresLedger, budgets: Budgets, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await settle(ledger, generation_id, "none", status="canceled")
    assert await balance(budgets) == (0, 0, 0, USD)


async def test_a_settlement_without_a_hold_still_ends_the_generation(ledger: PostgresLedger, accept: Accept) -> None:
    result = await settle(ledger, await accept(), "post")
    assert (result.status, result.cost.settled_micros) == ("failed", 0)
    with pytest.raises(Refused) as refused:
        await settle(ledger, new_generation_id(), "none")
    assert refused.value.code == "generation_not_found"


async def test_the_journal_cannot_be_changed(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await ledger.reserve(order(await accept()))
    for statement in (
        "update onetake.event set amount_micros = 0",
        "delete from onetake.event",
        "truncate onetake.event",
        """insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros)
        select generation_id, attempt, kind, 1, '{}' from onetake.event""",
    ):
        with pytest.raises(Exception, match=r"SQLSTATE (OT001|23505)"):
            await database.row(statement)


async def test_what_money_belongs_to_cannot_be_deleted(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await ledger.reserve(order(await accept()))
    for table in ("generation", "hold"):
        for statement in (f"delete from onetake.{table}", f"truncate onetake.{table} cascade"):
            with pytest.raises(Exception, match="SQLSTATE OT001"):
                await database.row(statement)


async def test_the_table_itself_refuses_to_go_over_a_limit(
    database: Database, budgets: Budgets, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", USD)
    await ledger.reserve(order(await accept()))
    with pytest.raises(Exception, match="SQLSTATE 23514"):
        await database.row("update onetake.budget_window set held_micros = held_micros + 1")


async def test_the_table_itself_refuses_a_second_hold(
    database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await ledger.reserve(order(await accept()))
    with pytest.raises(Exception, match="SQLSTATE 23505"):
        await database.row("insert into onetake.hold select * from onetake.hold")


async def test_the_invariants_notice_a_wrong_book(
    database: Database, budgets: Budgets, ledger: PostgresLedger, accept: Accept, order: Order
) -> None:
    await budgets.set_budget("tenant", "acme", "day", 2 * USD)
    generation_id = await accept()
    await ledger.reserve(order(generation_id))
    await database.row("update onetake.budget_window set held_micros = held_micros + 1")
    assert [line[:2] for line in await violations(database)] == ["I1"]
    await database.row("update onetake.budget_window set held_micros = held_micros - 1")
    await database.row("update onetake.hold set state = 'released', resolved_at = now()")
    assert {line[:2] for line in await violations(database)} == {"I1", "I2"}
    await database.row("update onetake.hold set state = 'held', resolved_at = null")
