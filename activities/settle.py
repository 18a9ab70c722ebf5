"""Phase six: the hold's one resolution and the generation's end, in one transaction."""

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import GenerationResult, SettleInput
from onetake.core.errors import Failed, TryLater
from onetake.core.ports import Ledger


class Settle:
    """Ends a generation. Repeatable: the first result stands."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name=names.SETTLE)
    async def settle(self, order: SettleInput) -> GenerationResult:
        """Post, release or suspend the hold, and record how the generation ended."""
        try:
            return await self._ledger.settle(order)
        except Failed as failure:
            if failure.code == "records_lost":  # the run has what is to be written first
                raise
            # A settlement is never given up: what the database refuses today an operator can mend tomorrow.
            raise TryLater("ledger_unavailable", failure.detail) from None
