"""A database that failed over proves nothing by what it lacks, and is given again what a run knows."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from onetake.core.contracts import GenerationRequest, Plan, ReserveInput, RestoreInput, SettleInput, Submission
from onetake.core.errors import Failed
from onetake.core.ids import made_at, new_generation_id, workflow_id_of
from onetake.core.names import SubmissionState
from onetake.core.ports import Begun
from onetake.ledger import Budgets, Database, Epochs, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.invariants import violations
from providers.admission import RouteAdmission
from tests.providers.parts import settings

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
FailOver = Callable[[], Awaitable[None]]

REQUEST = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox", tenant="acme", resolution="720p")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return RouteAdmission(settings()).plan(REQUEST, base_queue="onetake")


class Run:
    """What a run does with one generation's records, and what of them a failover takes."""

    def __init__(self, database: Database, plan: Plan, epoch: str | None = None) -> None:
        self.id: str = new_generation_id()
        self.plan = plan
        self.epoch = epoch
        self._database = database
        self._ledger = PostgresLedger(database)
        self.submissions = PostgresSubmissions(database)

    async def reserve(self) -> None:
        await PostgresGenerations(self._database).accept_once(
            REQUEST, workflow_id=workflow_id_of("acme", self.id), plan=self.plan
        )
        order = {"generation_id": self.id, "attempt": 1, "price": self.plan.price, "tenant": "acme", "user": None}
        route = {"feature": None, "route": self.plan.route, "vendor": self.plan.vendor}
        self.epoch = (await self._ledger.reserve(ReserveInput.model_validate(order | route))).epoch

    async def begin(self, *, may_be_sent: bool = False) -> Begun:
        return await self.submissions.begin(
            self.id,
            1,
            vendor="apixo",
            token_sha256=None,
            request_sha256=bytes(32),
            seed=None,
            epoch=self.epoch,
            may_be_sent=may_be_sent,
        )

    async def state(self) -> str:
        return (await self.submissions.read(self.id, 1, epoch=self.epoch)).state

    def known(self, submission: SubmissionState = "ambiguous", task_id: str | None = None) -> RestoreInput:
        return RestoreInput(
            generation_id=self.id,
            attempt=1,
            workflow_id=workflow_id_of("acme", self.id),
            plan=self.plan,
            request=REQUEST,
            epoch=self.epoch,
            submission=submission,
            vendor_task_id=task_id,
        )

    async def settle(self, resolution: str, status: str = "failed", **fields: object) -> str:
        """What became of the hold."""
        order = {"generation_id": self.id, "attempt": 1, "tenant": "acme", "status": status, "resolution": resolution}
        await self._ledger.settle(SettleInput.model_validate({**order, "epoch": self.epoch, **fields}))
        return await self.hold()

    async def hold(self) -> str:
        row = await self._database.answer("select state from onetake.hold where generation_id = $1", self.id)
        return row["state"]

    async def lose(self, *tables: str) -> None:
        """As if the commits that wrote them had not reached the standby."""
        await self._database.row("set session_replication_role = replica")
        for table in tables:
            key = "id" if table == "generation" else "generation_id"
            await self._database.row(f"delete from onetake.{table} where {key} = $1", self.id)
        if "hold" in tables:
            await self._database.row("delete from onetake.spend")
        await self._database.row("set session_replication_role = origin")


@pytest.fixture
async def run(database_url: str, plan: Plan) -> Any:
    """On one connection, so that what it sets for the session counts."""
    alone = await Database.connect(database_url, pool_size=1)
    yield Run(alone, plan)
    await alone.close()


async def test_a_hold_keeps_the_epoch_in_which_it_was_answered(run: Run, epochs: Epochs, fail_over: FailOver) -> None:
    await run.reserve()
    assert run.epoch == await epochs.now() != "unknown"
    before = run.epoch
    await fail_over()
    await run.reserve()
    assert run.epoch == before


async def test_after_a_failover_an_absent_intent_lets_nobody_send_again(run: Run, fail_over: FailOver) -> None:
    await run.reserve()
    await run.begin()
    await fail_over()
    await run.lose("submission")
    begun = await run.begin(may_be_sent=True)
    assert (begun.fresh, begun.submission.state) == (False, "ambiguous")
    assert not (await run.begin()).fresh, "what is in doubt is stored"


async def test_after_a_failover_the_turned_away_post_before_the_lost_one_lets_nobody_send_again(
    run: Run, fail_over: FailOver
) -> None:
    await run.reserve()
    await run.begin()
    await run.submissions.record(run.id, 1, state="not_sent", post=1)
    await fail_over()
    assert (await run.begin(may_be_sent=True)).submission.state == "ambiguous"


async def test_after_a_failover_the_first_try_may_still_send(run: Run, fail_over: FailOver) -> None:
    await run.reserve()
    await fail_over()
    assert (await run.begin()).fresh


async def test_without_a_failover_a_second_try_without_an_intent_may_send(run: Run) -> None:
    await run.reserve()
    assert (await run.begin(may_be_sent=True)).fresh


async def test_an_intent_whose_hold_is_lost_asks_for_it(
    run: Run, epochs: Epochs, fail_over: FailOver, database: Database
) -> None:
    await run.reserve()
    await fail_over()
    await run.lose("generation", "hold", "event")
    with pytest.raises(Failed) as lost:
        await run.begin()
    assert lost.value.code == "records_lost"
    assert (await epochs.restore(run.known("not_sent"))).was_lost == ("generation", "hold")
    assert (await run.begin()).fresh
    assert await violations(database) == []


@pytest.mark.parametrize("recorded", [None, "not_sent"])
async def test_after_a_failover_nothing_is_called_not_sent(run: Run, fail_over: FailOver, recorded: Any) -> None:
    await run.reserve()
    if recorded:
        await run.begin()
        await run.submissions.record(run.id, 1, state=recorded)
    assert await run.state() == "not_sent"
    await fail_over()
    assert await run.state() == "ambiguous"


async def test_an_outcome_of_a_post_whose_intent_is_lost_is_kept(run: Run, fail_over: FailOver) -> None:
    await run.reserve()
    await run.begin()
    await run.submissions.record(run.id, 1, state="not_sent", post=1)
    await fail_over()  # and with it the intent of the second POST
    stored = await run.submissions.record(run.id, 1, state="accepted", vendor_task_id="t", post=2)
    assert stored == Submission(state="accepted", vendor_task_id="t")


async def test_an_outcome_without_any_row_asks_for_it(run: Run, epochs: Epochs, fail_over: FailOver) -> None:
    await run.reserve()
    await fail_over()
    with pytest.raises(Failed) as lost:
        await run.submissions.record(run.id, 1, state="accepted", vendor_task_id="t", post=1)
    assert lost.value.code == "records_lost"
    await epochs.restore(run.known())
    stored = await run.submissions.record(run.id, 1, state="accepted", vendor_task_id="t", post=1, reported_micros=7)
    assert (stored.state, stored.vendor_task_id, stored.reported_micros) == ("accepted", "t", 7)


@pytest.mark.parametrize(
    ("knows", "asked", "becomes"),
    [
        ("ambiguous", "release", "suspended"),
        (None, "none", "suspended"),
        ("ambiguous", "suspend", "suspended"),
        ("not_sent", "release", "released"),
        ("rejected", "release", "released"),
    ],
)
async def test_after_a_failover_a_hold_is_released_only_by_what_the_run_knows(
    run: Run, fail_over: FailOver, database: Database, knows: str | None, asked: str, becomes: str
) -> None:
    await run.reserve()
    await fail_over()
    epoch = run.epoch if knows else None
    assert await run.settle(asked, submission=knows, epoch=epoch) == becomes
    assert await violations(database) == []


async def test_a_paid_job_whose_record_is_lost_is_recorded_with_its_end(
    run: Run, fail_over: FailOver, database: Database
) -> None:
    await run.reserve()
    await run.begin()
    await fail_over()
    assert await run.settle("post", "completed", submission="accepted", vendor_task_id="t") == "posted"
    assert (await run.submissions.read(run.id, 1)).vendor_task_id == "t"
    assert await violations(database) == []


async def test_all_of_a_generation_is_written_again_once_whatever_its_budget_says(
    run: Run, epochs: Epochs, budgets: Budgets, fail_over: FailOver, database: Database
) -> None:
    await run.reserve()
    await run.begin()
    await fail_over()
    await run.lose("submission", "generation", "hold", "event")
    await budgets.set_budget("tenant", "acme", "day", 1)
    for was_lost in (("generation", "hold", "submission"), ()):
        assert (await epochs.restore(run.known("accepted", "t"))).was_lost == was_lost
    assert (await run.state(), await run.hold()) == ("accepted", "held")
    assert await violations(database) == []
    assert await run.settle("post", "completed", submission="accepted", vendor_task_id="t") == "posted"
    assert await violations(database) == []
    (budget,) = await budgets.show_budgets()
    assert budget.spent_micros == run.plan.price.amount_micros


@pytest.mark.parametrize("before", [None, "not_sent"])
async def test_a_job_is_not_too_old_for_the_moment_at_which_its_run_told_of_it(
    run: Run, epochs: Epochs, fail_over: FailOver, before: SubmissionState | None
) -> None:
    await run.reserve()
    if before:
        await run.begin()
        await run.submissions.record(run.id, 1, state=before, post=1)
    await fail_over()
    if not before:
        await run.lose("submission", "generation", "hold", "event")
    await epochs.restore(run.known("accepted", "t"))
    assert await run.submissions.note_end(run.id, 1, failed=False, shows_charge=False, least_age_s=600.0)


@pytest.mark.parametrize("before", [None, "not_sent"])
async def test_a_lost_post_is_looked_for_since_its_generation_was_made(
    run: Run, epochs: Epochs, fail_over: FailOver, before: SubmissionState | None
) -> None:
    await run.reserve()
    if before:
        await run.begin()
        await run.submissions.record(run.id, 1, state=before, post=1)
    await fail_over()
    if not before:
        await run.lose("submission", "generation", "hold", "event")
    await epochs.restore(run.known())
    sent = await run.submissions.sent(run.id, 1)
    assert sent is not None
    assert sent.at <= made_at(run.id)


async def test_an_acceptance_that_is_told_without_its_id_is_in_doubt_until_it_is_recorded(
    run: Run, epochs: Epochs, fail_over: FailOver, database: Database
) -> None:
    await run.reserve()
    await fail_over()
    for task_id in (None, ""):
        await epochs.restore(run.known("accepted", task_id))
        assert await run.state() == "ambiguous"
    stored = await run.submissions.record(run.id, 1, state="accepted", vendor_task_id="t", post=1)
    assert stored == Submission(state="accepted", vendor_task_id="t")
    assert await violations(database) == []


async def test_what_has_ended_is_not_put_in_doubt_again(run: Run, fail_over: FailOver, database: Database) -> None:
    await run.reserve()
    await fail_over()
    assert await run.settle("release", submission="not_sent") == "released"
    begun = await run.begin(may_be_sent=True)
    assert (begun.fresh, begun.submission.state) == (False, "not_sent")
    assert await violations(database) == []
