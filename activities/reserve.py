"""Phase two: the hold."""

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import Reserved, ReserveInput
from onetake.core.ports import Ledger, Vendors


class Reserve:
    """Holds the pinned price on every budget that applies, or on none."""

    def __init__(self, ledger: Ledger, vendors: Vendors) -> None:
        self._ledger = ledger
        self._vendors = vendors

    @activity.defn(name=names.RESERVE)
    async def reserve(self, order: ReserveInput) -> Reserved:
        """Reserve once whatever is repeated. Fails with `budget_exceeded` and the shortfall, and with `vendor_paused`
        before anything is held."""
        await self._vendors.admit(order.vendor)
        return await self._ledger.reserve(order)
