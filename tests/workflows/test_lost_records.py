"""A database that lost a submission's row is told of it again, once or with pauses; the ledger's steps are made up."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from onetake.core.contracts import Plan, RecordInput, Restored, RestoreInput, Submission
from tests.providers.parts import plan_of, request_for
from workflows import steps
from workflows.generation import Generation
from workflows.options import LONGEST_LOST_S, LOST_AGAIN_S

LOST = ApplicationError("it is not there", type="records_lost", non_retryable=True)
PLAN = plan_of(request_for(), time_scale=1.0)
OUTCOMES = {
    "accepted": Submission(state="accepted", vendor_task_id="task-1", reported_micros=7, unrecorded=True),
    "rejected": Submission(state="rejected", unrecorded=True),
    "ambiguous": Submission(state="ambiguous", unrecorded=True),
    "not_sent": Submission(state="not_sent"),
}


class Ledger:
    """Lacks the row for so many records. `told` is as what each restoration told the submission."""

    def __init__(self, lacks: int) -> None:
        self.lacks = lacks
        self.records = 0
        self.told: list[tuple[str, str | None]] = []
        self.pauses: list[float] = []

    async def record(self, order: RecordInput, _: Plan) -> Submission:
        self.records += 1
        await self.step()
        return order.submission.model_copy(update={"unrecorded": False})

    async def step(self) -> str:
        if self.lacks:
            self.lacks -= 1
            raise LOST
        return "done"

    async def restore(self, order: RestoreInput) -> Restored:
        assert len(self.told) < 20, "it goes round and round"
        self.told.append((order.submission, order.vendor_task_id))
        return Restored()

    async def sleep(self, duration: float, **_: object) -> None:
        self.pauses.append(duration)


Lacking = Callable[[int], tuple[Ledger, Any]]


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Lacking:
    def lacking(lacks: int) -> tuple[Ledger, Any]:
        ledger, run = Ledger(lacks), cast("Any", Generation())
        monkeypatch.setattr(steps, "record", ledger.record)
        monkeypatch.setattr(steps, "restore", ledger.restore)
        monkeypatch.setattr(workflow, "sleep", ledger.sleep)
        monkeypatch.setattr(workflow, "info", lambda: SimpleNamespace(workflow_id="w"))
        run._request = request_for()
        run._state.generation_id = "gen_1"
        return ledger, run

    return lacking


@pytest.mark.parametrize("state", ["accepted", "rejected", "ambiguous"])
async def test_an_outcome_whose_row_is_lost_is_told_as_in_doubt_and_then_recorded(lacking: Lacking, state: str) -> None:
    ledger, run = lacking(1)
    stored = await run._recorded(PLAN, OUTCOMES[state])
    assert (ledger.told, ledger.records) == ([("ambiguous", None)], 2)
    assert (stored.state, stored.unrecorded, run._state.sent) == (state, False, state)


@pytest.mark.parametrize("state", OUTCOMES)
async def test_an_outcome_that_finds_no_row_twice_is_what_the_run_goes_on_with(lacking: Lacking, state: str) -> None:
    ledger, run = lacking(1000)
    assert await run._recorded(PLAN, OUTCOMES[state]) == OUTCOMES[state]
    assert ledger.told == [("not_sent" if state == "not_sent" else "ambiguous", None)] * 2
    assert run._state.sent == state


async def test_a_database_that_lacks_it_again_is_told_again_after_pauses(lacking: Lacking) -> None:
    ledger, run = lacking(12)
    step: Callable[[], Awaitable[str]] = ledger.step
    assert await run._as_known(PLAN, step) == "done"
    assert len(ledger.told) == 12
    assert ledger.pauses[:3] == [LOST_AGAIN_S, 2 * LOST_AGAIN_S, 4 * LOST_AGAIN_S]
    assert ledger.pauses[-1] == LONGEST_LOST_S
    assert len(ledger.pauses) == 11
