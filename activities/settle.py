"""Phase six: the hold's one resolution and the generation's end, in one transaction."""

from temporalio import activity

from onetake.contracts import GenerationResult, SettleInput
from onetake.ports import Ledger


class Settle:
    """Ends a generation. Repeatable: the first result stands."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name="settle")
    async def settle(self, order: SettleInput) -> GenerationResult:
        """Post, release or suspend the hold, and record how the generation ended."""
        return await self._ledger.settle(order)
