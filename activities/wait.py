"""Phase four: one authoritative status read. What keeps us from it is a retry that the server times; so is an open job
where the order asks to stay until it is over."""

from temporalio import activity

from activities.cadence import ReadTimes, gap_s, with_jitter
from activities.heartbeat import Memory, elapsed_s, remaining_s
from onetake.core.contracts import Message, PersistInput, Plan, ReadInput, StatusReading
from onetake.core.errors import Failed, TryLater
from onetake.core.ports import JobEnds, Rates, VendorClient, VendorStatus

SPARE_S = 2.0
MISSING_TOLERATED_S = 60.0
MISSING_PROVEN_S = 120.0
MISSING_PROVEN_READS = 3
SHOWN_PROVEN_S = 120.0  # how long a clip must stand beside a word that says that the job is still at work
REFUSED_RETRY_S = 300.0
LONGEST_THROTTLE_S = 300.0


class Streak(Message):
    """What the vendor answered to the last reads: since when, in seconds after acceptance, and how often in a row it
    did not know the job; since when it shows a clip under a word that does not say that the job is over; and how often
    in a row it was too busy."""

    since_s: float | None = None
    reads: int = 0
    shown_since_s: float | None = None
    throttled: int = 0


class ReadStatus:
    """Reads one vendor's jobs with our own key."""

    def __init__(self, vendor: str, client: VendorClient, rates: Rates, ends: JobEnds, times: ReadTimes) -> None:
        self._vendor = vendor
        self._client = client
        self._rates = rates
        self._ends = ends
        self._times = times

    async def read_status(self, order: ReadInput) -> StatusReading:
        """Read once. An open job is answered with the time of the next read; with `until_over` it raises TryLater with
        that delay, inside the deadline. So does a vendor that cannot be asked, or does not know the job yet."""
        waited_s = order.elapsed_s + elapsed_s()
        reading, least_age_s = await self._read(order, waited_s)
        if reading.state == "open":
            again_s = await self._times.next_s(order.plan, waited_s)
            if order.until_over:
                raise _later(again_s, reading.vendor_state)
            return reading.model_copy(update={"again_s": again_s})
        if reading.state in {"succeeded", "failed"}:
            await note_end(self._ends, order, reading, least_age_s)
        return reading

    async def _read(self, order: ReadInput, waited_s: float) -> tuple[StatusReading, float | None]:
        """What the vendor says, and how old the job is at least."""
        returning = activity.info().attempt > 1
        wait_s = await self._rates.read_turn_s(self._vendor, returning=returning, behind=order.behind)
        if wait_s > 0:
            raise TryLater("vendor_throttled", "(others are first)", after_s=_clamped(wait_s))
        try:
            status = await self._client.read_status(order.plan, order.vendor_task_id)
        except TryLater as error:
            least_s = 0.0
            if error.code == "vendor_throttled":
                least_s = await self._rates.read_refused(self._vendor, error.after_s)
            raise self._after(order, error, waited_s, least_s) from None
        if status.shows_clip:
            return self._shown(order, status, waited_s), status.least_age_s
        if status.reading.state != "missing":
            if activity.info().heartbeat_details:
                activity.heartbeat()  # it was missing or throttled, and is there: forget that
            return status.reading, status.least_age_s
        return self._missing(order, status.reading, waited_s), None

    def _shown(self, order: ReadInput, status: VendorStatus, waited_s: float) -> StatusReading:
        """A clip under an odd word is believed when a later read shows it again: no job stays open for a spelling.
        Beside a word for work it may be a preview, so that it must stand there for longer."""
        plan, memory = order.plan, Memory()
        before = memory.recall(Streak) or Streak()
        since_s = waited_s if before.shown_since_s is None else before.shown_since_s
        proven_s = SHOWN_PROVEN_S * plan.time_scale if status.still_working else 0.0
        if before.shown_since_s is not None and waited_s - since_s >= proven_s:
            return status.reading.model_copy(update={"state": "succeeded"})
        memory.keep(Streak(shown_since_s=since_s))
        raise _later(with_jitter(plan.cadence.interval_s), status.reading.vendor_state)

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

    def _after(self, order: ReadInput, error: TryLater, waited_s: float, least_s: float) -> TryLater:
        """An outage of the vendor never fails a generation before its deadline. Who was refused for being too fast
        keeps away longer each time, and keeps nobody else away by that."""
        gap = gap_s(order.plan.cadence, waited_s)
        delay_s = max(with_jitter(error.after_s), order.plan.cadence.interval_s) if error.after_s else gap
        if error.code == "vendor_auth":
            delay_s = REFUSED_RETRY_S * order.plan.time_scale
        if error.code == "vendor_throttled" and error.after_s is None:
            delay_s = _doubled(order.plan, delay_s)
        return TryLater(error.code, error.detail, after_s=_clamped(max(delay_s, least_s)))


async def note_end(
    ends: JobEnds, order: ReadInput | PersistInput, reading: StatusReading, least_age_s: float | None
) -> None:
    """Keep what the vendor says of the end of a job that is over. Repeatable.

    Raises Failed(`vendor_protocol_error`) when the job is another's, by its age or by what tokens named."""
    failed, charged = reading.state == "failed", reading.refunded is False
    if not await ends.note_end(
        order.generation_id, order.attempt, failed=failed, shows_charge=charged, least_age_s=least_age_s
    ):
        raise Failed("vendor_protocol_error", "(The job that it named is another submission's.)")


def _doubled(plan: Plan, delay_s: float) -> float:
    """The gap after a 429 that names none: doubled for each in a row."""
    memory = Memory()
    before = memory.recall(Streak) or Streak()
    memory.keep(before.model_copy(update={"throttled": before.throttled + 1}))
    return min(delay_s * 2.0 ** min(before.throttled + 1, 16), LONGEST_THROTTLE_S * plan.time_scale)


def _later(delay_s: float, vendor_state: str = "") -> TryLater:
    return TryLater("not_ready", f"(state: {vendor_state})" if vendor_state else "", after_s=_clamped(delay_s))


def _clamped(delay_s: float) -> float:
    """Keep the last read inside the deadline: the server ends the activity as soon as a delay would pass it."""
    latest_s = remaining_s() - SPARE_S
    return max(min(delay_s, latest_s) if latest_s > SPARE_S / 2 else delay_s, 0.05)
