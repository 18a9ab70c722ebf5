"""Several processes of each role under the chaos plan: what holds for one process holds for the deployment."""

from typing import cast

from tests.chaos.run import Size, repro, run

SEED = 12
GENERATIONS = 20
TIME_SCALE = 0.004  # an unknown outcome ends after 7 s
SIZE = Size(workers=4, gateways=2)


async def test_two_gateways_and_four_workers_break_no_invariant() -> None:
    report = await run(SEED, GENERATIONS, SIZE, time_scale=TIME_SCALE)
    assert report.violations == {}, repro(SEED, GENERATIONS, SIZE)
    callbacks = cast("list[int]", report.facts["callbacks"])
    assert len(callbacks) == SIZE.gateways
    assert min(callbacks) > 0  # each gateway had its share
