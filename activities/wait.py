"""Phase four: one activity is one authoritative status read; "not ready" is a retry that the server times."""

import secrets

from temporalio import activity

from activities.heartbeat import Memory, elapsed_s, remaining_s
from onetake.core.contracts import Cadence, Message, Plan, ReadInput, StatusReading
from onetake.core.errors import TryLater
from onetake.core.ports import VendorClient, Vendors

SPARE_S = 2.0
MISSING_TOLERATED_S = 60.0
MISSING_PROVEN_S = 120.0
MISSING_PROVEN_READS = 3
REFUSED_RETRY_S = 300.0
LONGEST_THROTTLE_S = 300.0
JITTER = 0.1


class Streak(Message):
    """What the vendor answered to the last reads: since when, in seconds after acceptance, and how often in a row it
    did not know the job; and how often in a row it was too busy."""

    since_s: float | None = None
    reads: int = 0
    throttled: int = 0


class ReadStatus:
    """Reads one vendor's jobs with our own key."""

    def __init__(self, vendor: str, client: VendorClient, vendors: Vendors) -> None:
        self._vendor = vendor
        self._client = client
        self._vendors = vendors

    async def read_status(self, order: ReadInput) -> StatusReading:
        """Read once. While `waiting`, an open job raises TryLater with the next read's delay, inside the deadline."""
        waited_s = order.elapsed_s + elapsed_s()
        early = waited_s < order.plan.cadence.first_read_s - SPARE_S * order.plan.time_scale
        if order.waiting and early and remaining_s() > 2 * SPARE_S:
            raise _later(order.plan.cadence.first_read_s - waited_s)
        reading = await self._read(order, waited_s)
        if reading.state == "open" and order.waiting:
            raise _later(next_read_s(order.plan.cadence, waited_s), reading.vendor_state)
        return reading

    async def _read(self, order: ReadInput, waited_s: float) -> StatusReading:
        if (quiet_s := await self._vendors.quiet_s(self._vendor)) > 0:
            raise TryLater("vendor_throttled", "(all calls are waiting)", after_s=_clamped(quiet_s + _jitter(1.0)))
        try:
            status = await self._client.read_status(order.plan, order.vendor_task_id)
        except TryLater as error:
            again = self._after(order, error, waited_s)
            if error.code == "vendor_throttled":
                await self._vendors.slow_down(self._vendor, again.after_s or order.plan.cadence.interval_s)
            raise (again if order.waiting else error) from None
        if status.reading.state != "missing":
            if activity.info().heartbeat_details:
                activity.heartbeat()  # it was missing or throttled, and is there: forget that
            return status.reading
        if not order.waiting:  # a callback may be faster than the vendor's own reads
            return status.reading.model_copy(update={"state": "open"})
        return self._missing(order, status.reading, waited_s)

    def _missing(self, order: ReadInput, reading: StatusReading, waited_s: float) -> StatusReading:
        """A 404 is believed when three reads in a row, over two minutes, say it: a new job may not be visible yet."""
        scale, memory = order.plan.time_scale, Memory()
        before = memory.recall(Streak) or Streak()
        since_s = waited_s if before.since_s is None else before.since_s
        lasted = waited_s - since_s >= MISSING_PROVEN_S * scale and waited_s >= MISSING_TOLERATED_S * scale
        if lasted and before.reads + 1 >= MISSING_PROVEN_READS:
            return reading
        memory.keep(Streak(since_s=since_s, reads=before.reads + 1))
        raise _later(min(order.plan.cadence.interval_s, MISSING_PROVEN_S * scale / 2), "404")

    def _after(self, order: ReadInput, error: TryLater, waited_s: float) -> TryLater:
        """An outage of the vendor never fails a generation before its deadline."""
        delay_s = error.after_s or next_read_s(order.plan.cadence, waited_s)
        if error.code == "vendor_auth":
            delay_s = REFUSED_RETRY_S * order.plan.time_scale
        if error.code == "vendor_throttled" and error.after_s is None:
            delay_s = _doubled(order.plan, delay_s)
        return TryLater(error.code, error.detail, after_s=_clamped(delay_s))


def _doubled(plan: Plan, delay_s: float) -> float:
    """The gap after a 429 that names none: doubled for each in a row."""
    memory = Memory()
    before = memory.recall(Streak) or Streak()
    memory.keep(before.model_copy(update={"throttled": before.throttled + 1}))
    return min(delay_s * 2.0 ** min(before.throttled + 1, 16), LONGEST_THROTTLE_S * plan.time_scale)


def _later(delay_s: float, vendor_state: str = "") -> TryLater:
    return TryLater("not_ready", f"(state: {vendor_state})" if vendor_state else "", after_s=_clamped(delay_s))


def next_read_s(cadence: Cadence, waited_s: float) -> float:
    """The gap to the next read: grows by the cadence's factor for each interval past the first read, with jitter."""
    intervals = max(0.0, (waited_s - cadence.first_read_s) / cadence.interval_s)
    gap_s = min(cadence.interval_s * cadence.growth ** min(intervals, 64.0), cadence.max_interval_s)
    return gap_s + _jitter(gap_s)


def _jitter(span_s: float) -> float:
    """Up to a tenth of the span, earlier or later, so that those who wait together do not come back together."""
    return span_s * JITTER * (secrets.randbelow(2001) / 1000 - 1)


def _clamped(delay_s: float) -> float:
    """Keep the last read inside the deadline: the server ends the activity as soon as a delay would pass it."""
    latest_s = remaining_s() - SPARE_S
    return max(min(delay_s, latest_s) if latest_s > SPARE_S / 2 else delay_s, 0.05)
