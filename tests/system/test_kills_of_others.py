"""Gateways, services and operators' commands killed with SIGKILL, and the exact end that each must have."""

import pytest

from onetake.core.crashpoints import CRASH_POINTS
from tests.system.harness import Stack
from tests.system.kills import ALL, OTHERS, End, Kill, ended_so

KILLS = OTHERS


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.name)
async def test_a_process_killed_here_ends_exactly_so(ends: dict[Kill, End | BaseException], kill: Kill) -> None:
    ended_so(ends, kill)


def test_every_crash_point_has_a_process_die_there() -> None:
    """Each of these scenarios fails unless its process's parent saw the death, and the ledger is checked after all."""
    assert {kill.point for kill in ALL} == set(CRASH_POINTS)
    assert len(CRASH_POINTS) >= 40


async def test_the_ledger_holds_together_after_all_kills(stack: Stack, ends: dict[Kill, End | BaseException]) -> None:
    del ends
    assert await stack.ledger_violations() == []
