"""The drill in small: the ledger is put back by the scripts that operators use, then Temporal to an older copy."""

from collections import Counter

import pytest
import pytest_asyncio

from tests.servers import Servers
from tests.system.drill import Half, broken, drill

GENERATIONS = 3  # of each kind: one at each vendor


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def halves(servers: Servers) -> list[Half]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
            patch.setenv(name, "")  # and so it is put back afterwards
        return await drill(servers, GENERATIONS)


def test_a_ledger_that_is_older_than_temporal_is_written_again_and_nothing_is_sent_twice(halves: list[Half]) -> None:
    older = halves[0]
    assert older.broken == ()
    assert older.forgotten == 2 * GENERATIONS, "the drill must lose what it is about"
    assert older.mended["restored"] >= older.forgotten
    assert older.ends == {"completed": 4 * GENERATIONS}
    assert older.was_paid == 4 * GENERATIONS


def test_a_temporal_that_is_older_than_the_ledger_sends_nothing_again_and_loses_no_paid_clip(
    halves: list[Half],
) -> None:
    older = halves[1]
    assert older.broken == ()
    assert older.forgotten == 2 * GENERATIONS
    assert older.mended["recovery_started"] == GENERATIONS, "what was under way is found by its job"
    assert older.ends == {"completed": 7 * GENERATIONS}
    assert older.was_paid == 7 * GENERATIONS


def test_the_report_says_what_is_broken() -> None:
    row = {"id": "g", "status": "failed", "hold": "released", "sent": "accepted", "prompt": "twice"}
    assert broken([row], Counter({"twice": 2, "unknown": 1}), []) == [
        "1 second submissions",
        "1 paid jobs without a row and a hold",
        "1 paid jobs whose hold was released",
        "1 paid jobs whose clip is lost although its id is known",
    ]
