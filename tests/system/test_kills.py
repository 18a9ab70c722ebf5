"""Workers killed with SIGKILL at each point of a generation, and the exact end that each must have."""

import pytest
import pytest_asyncio

from tests.system.harness import Stack
from tests.system.kills import WORKERS, End, Kill, ended_so, play_all, selected


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ends(stack: Stack, request: pytest.FixtureRequest) -> dict[Kill, End | BaseException]:
    return await play_all(stack, selected(request.session, WORKERS))


@pytest.mark.parametrize("kill", WORKERS, ids=lambda kill: kill.name)
async def test_a_worker_killed_here_ends_exactly_so(ends: dict[Kill, End | BaseException], kill: Kill) -> None:
    ended_so(ends, kill)


async def test_the_ledger_holds_together_after_all_kills(stack: Stack, ends: dict[Kill, End | BaseException]) -> None:
    del ends
    assert await stack.ledger_violations() == []
