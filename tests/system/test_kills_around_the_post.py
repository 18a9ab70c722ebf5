"""Workers killed with SIGKILL once the vendor may have the order, and the exact end that each must have."""

import pytest

from tests.system.harness import Stack
from tests.system.kills import AROUND_THE_POST, End, Kill, ended_so

KILLS = AROUND_THE_POST


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.name)
async def test_a_worker_killed_here_ends_exactly_so(ends: dict[Kill, End | BaseException], kill: Kill) -> None:
    ended_so(ends, kill)


async def test_the_ledger_holds_together_after_all_kills(stack: Stack, ends: dict[Kill, End | BaseException]) -> None:
    del ends
    assert await stack.ledger_violations() == []
