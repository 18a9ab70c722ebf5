"""What a process keeps of the pace, for how long, and what it answers when the ledger does not."""

import asyncio
from typing import Any, cast

import pytest

from onetake.core.contracts import Pace
from onetake.core.errors import TryLater
from onetake.ledger import Database, PostgresPacing
from onetake.ledger.pacing import ARRIVAL_FRESH_S, MOST_KINDS, USUAL_FRESH_S
from onetake.ledger.pacing import LIMIT_S as LIMIT_OF_A_READ_S
from tests.providers.parts import plan_of, request_on

PLAN = plan_of(request_on("apixo/wan-2.6/text-to-video"))


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Ledger:
    """Stands for the database: counts the reads, and answers when it is told to."""

    def __init__(self) -> None:
        self.reads: list[tuple[object, ...]] = []
        self.answers: dict[str, Any] = {"arrive": True, "usual_s": 40.0}
        self.away: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def answer(self, _: str, *arguments: object) -> dict[str, Any]:
        self.reads.append(arguments)
        await self.open.wait()
        if self.away:
            raise self.away
        return self.answers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted() -> Ledger:
    return Ledger()


@pytest.fixture
def pacing(counted: Ledger, clock: Clock) -> PostgresPacing:
    return PostgresPacing(cast("Database", counted), callbacks_asked=True, clock=clock)


async def test_many_who_ask_at_once_cause_one_read(pacing: PostgresPacing, counted: Ledger, clock: Clock) -> None:
    paces = await asyncio.gather(*(pacing.pace(PLAN) for _ in range(100)))
    assert paces == [Pace(callbacks_arrive=True, usual_s=40)] * 100
    assert len(counted.reads) == 1
    clock.now_s = ARRIVAL_FRESH_S
    await asyncio.gather(*(pacing.pace(PLAN) for _ in range(100)))
    assert len(counted.reads) == 2


async def test_each_answer_counts_for_its_own_time(pacing: PostgresPacing, counted: Ledger, clock: Clock) -> None:
    await pacing.pace(PLAN)
    clock.now_s = ARRIVAL_FRESH_S - 0.1
    counted.answers = {"arrive": False, "usual_s": 50.0}
    assert (await pacing.pace(PLAN)).callbacks_arrive
    clock.now_s = ARRIVAL_FRESH_S
    assert not (await pacing.pace(PLAN)).callbacks_arrive
    clock.now_s = ARRIVAL_FRESH_S + USUAL_FRESH_S
    assert (await pacing.pace(PLAN)).usual_s == 50


async def test_callbacks_that_nobody_expects_are_not_read_of(
    pacing: PostgresPacing, counted: Ledger, clock: Clock
) -> None:
    polled = PLAN.model_copy(update={"callbacks": False})
    assert await pacing.pace(polled) == Pace(callbacks_arrive=False, usual_s=40)
    clock.now_s = USUAL_FRESH_S - 1
    assert (await pacing.pace(polled)).usual_s == 40
    assert len(counted.reads) == 1


async def test_renders_of_two_kinds_at_one_vendor_share_what_is_known_of_its_callbacks(
    pacing: PostgresPacing, counted: Ledger, clock: Clock
) -> None:
    longer = PLAN.model_copy(update={"duration_s": PLAN.duration_s + 5})
    for plan in (PLAN, longer):
        await pacing.pace(plan)
    clock.now_s = ARRIVAL_FRESH_S
    await asyncio.gather(*(pacing.pace(plan) for plan in (PLAN, longer) * 20))
    assert len(counted.reads) == 3


async def test_a_ledger_that_is_away_is_answered_as_nothing_known(
    pacing: PostgresPacing, counted: Ledger, clock: Clock
) -> None:
    counted.away = TryLater("ledger_unavailable", "It is stopping.")
    assert await asyncio.gather(*(pacing.pace(PLAN) for _ in range(9))) == [Pace()] * 9
    assert await pacing.pace(PLAN) == Pace()
    assert len(counted.reads) == 1, "whoever asks in a row does not wait for it each time"
    counted.away = None
    clock.now_s = ARRIVAL_FRESH_S
    assert await pacing.pace(PLAN) == Pace(callbacks_arrive=True, usual_s=40)


async def test_a_ledger_that_hangs_is_answered_as_nothing_known(
    pacing: PostgresPacing, counted: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LIMIT_OF_A_READ_S <= 2
    monkeypatch.setattr("onetake.ledger.pacing.LIMIT_S", 0.05)
    counted.open.clear()
    assert await pacing.pace(PLAN) == Pace()


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_the_others(
    pacing: PostgresPacing, counted: Ledger
) -> None:
    counted.open.clear()
    first, second = asyncio.ensure_future(pacing.pace(PLAN)), asyncio.ensure_future(pacing.pace(PLAN))
    while not counted.reads:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    counted.open.set()
    assert (await second).usual_s == 40
    assert first.cancelled()
    assert len(counted.reads) == 1


async def test_a_process_forgets_the_oldest_kind_of_more_than_it_keeps(pacing: PostgresPacing, counted: Ledger) -> None:
    for number in range(MOST_KINDS + 1):
        await pacing.pace(PLAN.model_copy(update={"duration_s": number}))
    await pacing.pace(PLAN.model_copy(update={"duration_s": 1}))
    assert len(counted.reads) == MOST_KINDS + 1
    await pacing.pace(PLAN.model_copy(update={"duration_s": 0}))
    assert len(counted.reads) == MOST_KINDS + 2


async def test_short_times_shorten_what_a_process_keeps_and_not_what_was_measured(
    counted: Ledger, clock: Clock
) -> None:
    pacing = PostgresPacing(cast("Database", counted), callbacks_asked=True, time_scale=0.01, clock=clock)
    assert (await pacing.pace(PLAN.model_copy(update={"time_scale": 0.01}))).usual_s == 40
    clock.now_s = ARRIVAL_FRESH_S * 0.01
    await pacing.pace(PLAN)
    assert len(counted.reads) == 2
