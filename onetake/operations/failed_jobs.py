"""A contract that says what failed jobs cost decides the amounts in suspense of jobs that are known to have failed.

A job is known to have failed when the vendor said so, last, to a read with our own key.
"""

from collections.abc import Sequence

from onetake.core.errors import Refused
from onetake.core.names import Decision, FailedJobCost
from onetake.ledger.database import Database
from onetake.ledger.recoveries import Recoveries, SuspendedRow
from onetake.operations.statements import Decided, Left, Proposal
from providers.contracts import FailedJobContract, contract_at

_DECISIONS: dict[FailedJobCost, Decision] = {"free": "released", "refunded": "released", "charged": "posted"}


async def propose_by_contract(database: Database, contracts: Sequence[FailedJobContract], vendor: str) -> Proposal:
    """What the vendor's contracts decide and leave, the oldest first; it changes nothing.

    Raises Refused(`settings_invalid`) when no contract is configured for the vendor, TryLater(`ledger_unavailable`).
    """
    if not any(each.vendor == vendor for each in contracts):
        raise Refused("settings_invalid", f"The file that ONETAKE_PRICES names has no [[failed_job_cost]] of {vendor}.")
    rows = await Recoveries(database).suspended(vendor)
    verdicts = [_verdict(row, contract_at(contracts, vendor, row.accepted_at)) for row in rows]
    decisions = tuple(each for each in verdicts if isinstance(each, Decided))
    return Proposal(decisions, left=tuple(each for each in verdicts if isinstance(each, Left)))


def _verdict(row: SuspendedRow, contract: FailedJobContract | None) -> Decided | Left:
    to = _DECISIONS.get(contract.cost) if contract else None
    doubt = _doubt(row, contract, to)
    if doubt or contract is None or to is None or row.task_id is None:
        return Left(row.id, row.task_id or "-", None, f"{doubt}; in suspense for {row.age}")
    return Decided(
        generation_id=row.id,
        attempt=row.attempt,
        task_id=row.task_id,
        line=None,
        held_micros=row.amount_micros,
        charged_micros=row.amount_micros if to == "posted" else 0,
        to=to,
        why=f"{contract.source}: a failed job is {contract.cost} from {contract.valid_from}",
    )


def _doubt(row: SuspendedRow, contract: FailedJobContract | None, to: Decision | None) -> str:
    """Why the contract does not decide it; empty when it does."""
    if not row.job_failed or row.task_id is None:
        return "how its job ended is not known"
    if contract is None:
        return "it was accepted before the contract"
    if to is None:
        return f"{contract.source} says {contract.cost}"
    if row.reported_micros is not None:
        return "the cost that its vendor reports is in review"
    if to == "released" and row.shows_charge:
        return f"the vendor shows a charge, {contract.source} says {contract.cost}"
    return ""
