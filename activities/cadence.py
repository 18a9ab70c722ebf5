"""When a job is read next: while callbacks arrive only to be safe, else near the usual time and at growing gaps."""

import secrets
from typing import Final

from onetake.core.contracts import Cadence, Plan
from onetake.core.ports import Pacing

SAFETY_GAP_S: Final = 108.0  # with the jitter between 108 and 119 s
FIRST_OF_USUAL: Final = 0.9  # a little before the usual end: who learned only from late reads would never read earlier
GAP_OF_AGE: Final = 0.15  # mean lateness is half a gap
JITTER: Final = 0.1


class ReadTimes:
    """Decides from the plan's documented cadence and what the deployment knows of the vendor."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing

    async def first_s(self, plan: Plan) -> float:
        """Seconds from acceptance to the first read. The documented one is the earliest, and the usual time counts up
        to half the deadline: after an outage of ours the latest renders seem to have taken hours."""
        pace = await self._pacing.pace(plan)
        if plan.callbacks and pace.callbacks_arrive:
            return _safety_gap_s(plan)
        usual_s = min(FIRST_OF_USUAL * (pace.usual_s or 0.0), plan.deadline_s / 2)
        return max(plan.cadence.first_read_s, usual_s)

    async def next_s(self, plan: Plan, waited_s: float) -> float:
        """Seconds to the next read of a job that was accepted `waited_s` seconds ago and is open."""
        pace = await self._pacing.pace(plan)
        if plan.callbacks and pace.callbacks_arrive:
            return _safety_gap_s(plan)
        return gap_s(plan.cadence, waited_s)


def gap_s(cadence: Cadence, waited_s: float) -> float:
    """The documented gap, which grows by the cadence's factor for each interval past the first read; for a job that is
    old already a part of its age."""
    intervals = max(0.0, (waited_s - cadence.first_read_s) / cadence.interval_s)
    documented_s = min(cadence.interval_s * cadence.growth ** min(intervals, 64.0), cadence.max_interval_s)
    return with_jitter(max(documented_s, GAP_OF_AGE * waited_s))


def _safety_gap_s(plan: Plan) -> float:
    return with_jitter(SAFETY_GAP_S * plan.time_scale)


def with_jitter(span_s: float) -> float:
    """Up to a tenth later, so that those who wait together do not come back together; never earlier, for what a vendor
    documents or asks for is a floor."""
    return span_s + jitter(span_s)


def jitter(span_s: float) -> float:
    """Up to a tenth of the span."""
    return span_s * JITTER * secrets.randbelow(1001) / 1000
