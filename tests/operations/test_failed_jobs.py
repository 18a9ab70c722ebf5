"""A contract decides what is in suspense of jobs that are known to have failed, and nothing else."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from onetake.core.errors import Refused
from onetake.ledger import Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.invariants import violations
from onetake.operations.failed_jobs import propose_by_contract
from onetake.operations.statements import Decided, Statements
from providers.contracts import FailedJobContract

Suspend = Callable[..., Awaitable[str]]
USD = 1_000_000
TODAY = datetime.now(UTC).date()


def contract(cost: Any = "free", valid_from: date = TODAY, source: str = "contract 12") -> FailedJobContract:
    return FailedJobContract(vendor="apixo", valid_from=valid_from, cost=cost, source=source)


@pytest.fixture
def fail(suspend: Suspend, submissions: PostgresSubmissions) -> Suspend:
    """Make a generation in suspense whose vendor says that the job has failed."""

    async def fail(task_id: str, *, shows_charge: bool = False) -> str:
        generation_id = await suspend(task_id)
        await submissions.note_end(generation_id, 1, failed=True, shows_charge=shows_charge)
        return generation_id

    return fail


async def age(database: Database, generation_id: str, days: int) -> None:
    older = "update onetake.generation set created_at = created_at - $1::interval where id = $2"
    await database.row(older, timedelta(days=days), generation_id)


async def test_only_jobs_that_failed_under_the_contract_are_decided(
    database: Database, suspend: Suspend, fail: Suspend
) -> None:
    failed, unknown, older = await fail("failed"), await suspend("unknown"), await fail("older")
    await age(database, older, 9)
    proposal = await propose_by_contract(database, [contract()], "apixo")
    assert [(each.generation_id, each.to, each.charged_micros) for each in proposal.decisions] == [
        (failed, "released", 0)
    ]
    assert proposal.decisions[0].why == f"contract 12: a failed job is free from {TODAY}"
    assert [(each.generation_id, each.why) for each in proposal.left] == [
        (unknown, "how its job ended is not known; in suspense for 0 h 0 min"),
        (older, "it was accepted before the contract; in suspense for 0 h 0 min"),
    ]


@pytest.mark.parametrize(("cost", "to", "charged"), [("free", "released", 0), ("refunded", "released", 0)])
async def test_a_contract_is_carried_out_once(
    database: Database, ledger: PostgresLedger, fail: Suspend, cost: str, to: str, charged: int
) -> None:
    generation_id, statements = await fail("failed"), Statements(database)
    proposal = await propose_by_contract(database, [contract(cost)], "apixo")
    done = [each async for each in statements.decide(proposal.decisions, "apixo", "ops")]
    assert [(type(each), each.to) for each in done] == [(Decided, to)]
    entry = (await ledger.entries(generation_id))[-1]
    assert (entry.kind, entry.amount_micros) == ("suspense_resolved", charged)
    assert (entry.detail or {})["why"] == f"contract 12: a failed job is {cost} from {TODAY}"
    again = await propose_by_contract(database, [contract(cost)], "apixo")
    assert (again.decisions, again.left) == ((), ())
    assert await violations(database) == []


async def test_a_charged_failure_is_posted_as_held_by_the_entry_in_force_when_it_was_accepted(
    database: Database, fail: Suspend
) -> None:
    young, old = await fail("young"), await fail("old")
    await age(database, old, 9)
    contracts = [contract("charged", TODAY - timedelta(days=20), "contract 11"), contract("free")]
    proposal = await propose_by_contract(database, contracts, "apixo")
    assert {each.generation_id: (each.to, each.charged_micros) for each in proposal.decisions} == {
        young: ("released", 0),
        old: ("posted", USD),
    }


async def test_what_speaks_against_a_release_is_left_to_people(database: Database, fail: Suspend) -> None:
    shown, reviewed = await fail("shown", shows_charge=True), await fail("reviewed")
    await database.row("select onetake.review(h, 9000000) from onetake.hold h where generation_id = $1", reviewed)
    proposal = await propose_by_contract(database, [contract()], "apixo")
    assert proposal.decisions == ()
    assert [(each.generation_id, each.why.partition(";")[0]) for each in proposal.left] == [
        (shown, "the vendor shows a charge, contract 12 says free"),
        (reviewed, "the cost that its vendor reports is in review"),
    ]
    charged = await propose_by_contract(database, [contract("charged")], "apixo")
    assert [each.generation_id for each in charged.decisions] == [shown]
    unknown = await propose_by_contract(database, [contract("unknown")], "apixo")
    assert (unknown.decisions, unknown.left[0].why.partition(";")[0]) == ((), "contract 12 says unknown")


async def test_a_success_that_is_read_later_takes_the_failure_back(
    database: Database, fail: Suspend, submissions: PostgresSubmissions
) -> None:
    generation_id = await fail("both")
    await submissions.note_end(generation_id, 1, failed=False, shows_charge=False)
    assert (await propose_by_contract(database, [contract()], "apixo")).decisions == ()


async def test_a_vendor_without_a_contract_is_refused(database: Database, fail: Suspend) -> None:
    await fail("failed")
    with pytest.raises(Refused, match="no \\[\\[failed_job_cost\\]\\] of gmi") as refused:
        await propose_by_contract(database, [contract()], "gmi")
    assert refused.value.code == "settings_invalid"
