"""Phase two: the hold."""

from temporalio import activity

from onetake.contracts import Reserved, ReserveInput
from onetake.ports import Ledger


class Reserve:
    """Holds the pinned price on every budget that applies, or on none."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name="reserve")
    async def reserve(self, order: ReserveInput) -> Reserved:
        """Reserve once whatever is repeated. Fails with `budget_exceeded` and the shortfall."""
        return await self._ledger.reserve(order)
