"""When jobs are read that no callback announces: few reads, and little lateness, for renders of the usual length."""

from statistics import mean

import pytest

from activities.cadence import JITTER, SAFETY_GAP_S, ReadTimes
from onetake.core.contracts import Pace, Plan
from tests.providers.parts import plan_of, request_for

SPREAD = [0.7 + each * 0.03 for each in range(21)]  # renders from 0.7 to 1.3 times the usual


class Knows:
    """A deployment that knows this of a route."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    async def pace(self, plan: Plan) -> Pace:
        assert plan.vendor
        return self._pace


async def read_at(times: ReadTimes, plan: Plan, render_s: float) -> list[float]:
    """When a render that takes so long is read, the last time after its end."""
    reads = [await times.first_s(plan)]
    while reads[-1] < render_s:
        reads.append(reads[-1] + await times.next_s(plan, reads[-1]))
    return reads


@pytest.mark.parametrize("usual_s", [120.0, 240.0, 600.0])
async def test_a_render_of_usual_length_takes_few_reads_and_is_found_soon(usual_s: float) -> None:
    plan, times = plan_of(request_for()), ReadTimes(Knows(Pace(usual_s=usual_s)))
    assert len(await read_at(times, plan, usual_s)) <= 4
    late = [(await read_at(times, plan, usual_s * each))[-1] - usual_s * each for each in SPREAD for _ in range(1000)]
    assert mean(late) < usual_s / 10


async def test_the_first_read_is_never_before_the_documented_one_nor_long_after_the_middle_of_the_deadline() -> None:
    plan = plan_of(request_for())
    assert await ReadTimes(Knows(Pace(usual_s=3.0))).first_s(plan) == plan.cadence.first_read_s
    assert await ReadTimes(Knows(Pace(usual_s=1e6))).first_s(plan) == plan.deadline_s / 2


async def test_reads_are_one_to_two_minutes_apart_while_callbacks_arrive() -> None:
    plan, times = plan_of(request_for()), ReadTimes(Knows(Pace(callbacks_arrive=True, usual_s=20.0)))
    for gap_s in (await times.first_s(plan), await times.next_s(plan, 30.0), await times.next_s(plan, 900.0)):
        assert 60 <= SAFETY_GAP_S <= gap_s <= SAFETY_GAP_S * (1 + JITTER) <= 120
    silent = plan.model_copy(update={"callbacks": False})
    assert await times.first_s(silent) == plan.cadence.first_read_s
