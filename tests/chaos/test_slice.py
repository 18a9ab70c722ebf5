"""A short run of the chaos suite with a fixed seed, and the plan that a seed makes."""

from onetake.dev.simulator.faults import MARKERS
from tests.chaos.plan import SECONDS, VENDORS, plan
from tests.chaos.run import repro, run, run_under_load

SEED = 5
GENERATIONS = 25
TIME_SCALE = 0.004  # an unknown outcome ends after 7 s


def test_a_seed_makes_one_plan_and_another_seed_another() -> None:
    assert plan(1, 50) == plan(1, 50)
    assert plan(1, 50) != plan(2, 50)


def test_a_whole_run_has_every_vendor_and_every_fault() -> None:
    orders = plan(1, 200).orders
    assert {order.vendor for order in orders} == set(VENDORS)
    assert {fault.partition("=")[0] for order in orders for fault in order.faults} == set(MARKERS)
    assert set(SECONDS) <= set(VENDORS)


def test_a_whole_run_kills_stops_and_arms_often() -> None:
    kinds = [blow.kind for blow in plan(1, 200).blows]
    assert min(kinds.count("kill"), kinds.count("stop"), kinds.count("crash")) >= 5


async def test_a_short_run_breaks_no_invariant() -> None:
    report = await run(SEED, GENERATIONS, time_scale=TIME_SCALE)
    assert report.violations == {}, repro(SEED, GENERATIONS)


async def test_a_busy_machine_changes_no_end() -> None:
    report = await run_under_load(SEED, 12, 4)
    assert report.violations == {}
