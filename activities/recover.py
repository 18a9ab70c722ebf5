"""What a recovery asks of the records, and the one change it may make to them."""

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import CorrectInput, Recovered, RecoveryCase, RecoveryRequest
from onetake.core.errors import Failed, Refused, TryLater
from onetake.core.ports import Ledger, RecoveryRecords


class Recover:
    """Reads a generation that has ended, and corrects it. Repeatable: the first correction stands."""

    def __init__(self, records: RecoveryRecords, ledger: Ledger) -> None:
        self._records = records
        self._ledger = ledger

    @activity.defn(name=names.EXAMINE)
    async def examine(self, request: RecoveryRequest) -> RecoveryCase:
        """What is known of the generation. Fails with `generation_not_found`, also for another tenant's."""
        case = await self._records.case(request.generation_id)
        if case.tenant != request.tenant:
            raise Refused("generation_not_found")
        return case

    @activity.defn(name=names.CORRECT)
    async def correct(self, order: CorrectInput) -> Recovered:
        """Record a late clip, or decide the suspense of a job that made none."""
        try:
            recovered = await self._corrected(order)
        except Failed as failure:  # as a settlement, it is never given up
            raise TryLater("ledger_unavailable", failure.detail) from None
        return recovered

    async def _corrected(self, order: CorrectInput) -> Recovered:
        if order.assets:
            return Recovered(changed=True, result=await self._records.correct(order))
        result = await self._ledger.decide(order)
        return Recovered(changed=result is not None, result=result)
