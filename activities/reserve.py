"""Phase two: the hold, and before it the line of those who wait for the vendor."""

from temporalio import activity

from activities.cadence import with_jitter
from activities.heartbeat import elapsed_s
from onetake.core import names
from onetake.core.contracts import ErrorInfo, Reserved, ReserveInput
from onetake.core.errors import Failed, Refused, TryLater
from onetake.core.ports import Generations, Ledger, Vendors
from onetake.core.spans import span

PAUSED_GAP_S = 30.0  # between two questions whether a paused vendor is open again
LATEST_S = 0.05


class Reserve:
    """Holds the pinned price on every budget that applies, or on none."""

    def __init__(self, ledger: Ledger, vendors: Vendors, generations: Generations) -> None:
        self._ledger = ledger
        self._vendors = vendors
        self._generations = generations

    @activity.defn(name=names.RESERVE)
    async def reserve(self, order: ReserveInput) -> Reserved:
        """Reserve once whatever is repeated. Fails with `budget_exceeded` and the shortfall, and with `vendor_paused`.

        A paused vendor is refused before anything is held, unless it may be probed: who has no money takes no probe.
        While the vendor has no room, or is paused and the generation parks, nothing is held: that is the answer, or
        TryLater when the order is patient, and at the deadline the failure."""
        try:
            if await self._vendors.admit(order):
                return await self._probing(order)
            return await self._ledger.reserve(order)
        except TryLater as error:
            if error.code != "vendor_full":
                raise
            return await self._waiting(order, error, Failed("vendor_throttled", waited(order.age_s + elapsed_s())))
        except Refused as error:
            if error.code != "vendor_paused" or not order.parks:
                raise
            gap_s = with_jitter(max(order.gap_s, min(PAUSED_GAP_S, order.deadline_s / 10)))
            return await self._waiting(order, TryLater(error.code, error.detail, after_s=gap_s), error)

    async def _probing(self, order: ReserveInput) -> Reserved:
        """Take the probe first, so that who comes second holds nothing; who has no money gives it back."""
        await self._vendors.probe(order.vendor, order.generation_id)
        try:
            return await self._ledger.reserve(order)
        except Refused:
            await self._vendors.leave_probe(order.vendor, order.generation_id)
            raise

    async def _waiting(self, order: ReserveInput, error: TryLater, too_late: Failed | Refused) -> Reserved:
        left_s = order.deadline_s - order.age_s - elapsed_s()
        if left_s <= LATEST_S:
            raise too_late
        if order.patient:
            raise TryLater(error.code, error.detail, after_s=min(error.after_s or order.gap_s, left_s))
        await self._generations.enter(order.generation_id, "reserving")
        return Reserved(amount_micros=0, budgets=0, waits_for=ErrorInfo.from_error(error))


def waited(seconds: float) -> str:
    """How long a generation waited for its vendor, for the text of its failure."""
    return f"It waited for {span(seconds)}."
