"""What is known of when jobs end: whether a vendor's callbacks arrive, and how long renders of a kind usually take.

Both are read from the ends that reads with our own key have found. A vendor's callbacks arrive when the last end with
an address for callbacks had been announced by one, or when one came after that.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Final, Generic, NamedTuple, TypeVar

from onetake.core.contracts import Pace, Plan, Value
from onetake.core.errors import OnetakeError
from onetake.ledger.database import Database

ARRIVAL_FRESH_S: Final = 5.0
USUAL_FRESH_S: Final = 60.0
LIMIT_S: Final = 2.0  # for one read: whoever asks would rather go on without an answer
MOST_KINDS: Final = 1000
FEWEST_RENDERS: Final = 5
LATEST_RENDERS: Final = 30

_PACE: Final = """
select coalesce(
    (select max(announced_at) from onetake.job_end where vendor = $1 and announced_at is not null) > coalesce(
        (select max(seen_at) from onetake.job_end where vendor = $1 and announced_at is null and callback_asked),
        '-infinity'), false) as arrive, (
    select case when count(*) >= $6 then percentile_cont(0.5) within group (order by latest.render_s) end from (
        select render_s from onetake.job_end
        where route = $2 and resolution = $3 and duration_s = $4 and not failed and render_s is not null
        order by seen_at desc limit $5) latest) as usual_s
"""

_RECORDS: Final = """
select v.vendor, announced.last as announced_at, since.first as unannounced_since, since.ends as unannounced, (
        select min(e.announced_at) from onetake.job_end e
        where e.vendor = v.vendor and e.announced_at > coalesce(unannounced.last, '-infinity')) as arriving_since
from unnest($1::text[]) as v (vendor)
cross join lateral (
    select max(e.announced_at) as last from onetake.job_end e
    where e.vendor = v.vendor and e.announced_at is not null) announced
cross join lateral (
    select max(e.seen_at) as last from onetake.job_end e
    where e.vendor = v.vendor and e.announced_at is null and e.callback_asked) unannounced
cross join lateral (
    select min(e.seen_at) as first, count(*) as ends from onetake.job_end e
    where e.vendor = v.vendor and e.announced_at is null and e.callback_asked
      and e.seen_at > coalesce(announced.last, '-infinity')) since
"""

Key = TypeVar("Key")
Known = TypeVar("Known")


class CallbackRecord(Value):
    """What is known of a vendor's callbacks: the last end that one announced, and since when they arrive, or None.

    `unannounced`: how many ends since the last announced one no callback told of, the first `unannounced_since`."""

    vendor: str
    announced_at: datetime | None = None
    arriving_since: datetime | None = None
    unannounced_since: datetime | None = None
    unannounced: int = 0


class _Kind(NamedTuple):
    """Renders that take about as long as each other."""

    vendor: str
    route: str
    resolution: str
    duration_s: int


class _Recent(Generic[Key, Known]):
    """What was read lately, each for its own time. The oldest makes room for the newest."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Key, tuple[Known, float]] = {}

    def __contains__(self, key: Key) -> bool:
        entry = self._entries.get(key)
        return entry is not None and self._clock() < entry[1]

    def last(self, key: Key) -> Known | None:
        entry = self._entries.get(key)
        return entry[0] if entry else None

    def keep(self, key: Key, known: Known, for_s: float) -> None:
        self._entries.pop(key, None)
        self._entries[key] = (known, self._clock() + for_s)
        if len(self._entries) > MOST_KINDS:
            del self._entries[next(iter(self._entries))]


class PostgresPacing:
    """The port `Pacing`, for all runs of one process: what it has read lately answers the others.

    `callbacks_asked`: this deployment gives vendors an address for callbacks. The two ages up to which an answer counts
    are scaled by `time_scale`; the usual time of renders is in real seconds, as they were measured.
    """

    def __init__(
        self,
        database: Database,
        *,
        callbacks_asked: bool,
        time_scale: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._callbacks_asked = callbacks_asked
        self._scale = time_scale
        self._arrival = _Recent[str, bool](clock)
        self._usual = _Recent[_Kind, float | None](clock)
        self._reads: dict[str | _Kind, asyncio.Task[None]] = {}

    async def pace(self, plan: Plan) -> Pace:
        """See `onetake.core.ports.Pacing.pace`. Callers that ask for the same at once share one read."""
        kind = _Kind(plan.vendor, plan.route, plan.resolution, plan.duration_s)
        expected = self._callbacks_asked and plan.callbacks
        if kind not in self._usual:
            await self._shared_read(kind, kind)
        elif expected and plan.vendor not in self._arrival:
            await self._shared_read(plan.vendor, kind)
        arrive = expected and self._arrival.last(plan.vendor) is True
        return Pace(callbacks_arrive=arrive, usual_s=self._usual.last(kind))

    async def _shared_read(self, key: str | _Kind, kind: _Kind) -> None:
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = asyncio.create_task(self._read(kind))
            read.add_done_callback(lambda _: self._reads.pop(key, None))
        await asyncio.shield(read)  # a caller that gives up does not take the answer from the others

    async def _read(self, kind: _Kind) -> None:
        arrive, usual_s, usual_fresh_s = False, None, ARRIVAL_FRESH_S
        try:
            async with asyncio.timeout(LIMIT_S):
                row = await self._database.answer(_PACE, *kind, LATEST_RENDERS, FEWEST_RENDERS)
            arrive, usual_s, usual_fresh_s = row["arrive"], row["usual_s"], USUAL_FRESH_S
        except (OnetakeError, TimeoutError):
            pass  # nothing is known, and the next to ask after a while looks again
        self._arrival.keep(kind.vendor, arrive, ARRIVAL_FRESH_S * self._scale)
        self._usual.keep(kind, usual_s, usual_fresh_s * self._scale)


async def callback_records(database: Database, vendors: Sequence[str]) -> dict[str, CallbackRecord]:
    """What is known of the callbacks of each of these vendors. Raises TryLater(`ledger_unavailable`)."""
    rows = await database.rows(_RECORDS, list(vendors))
    return {row["vendor"]: CallbackRecord.model_validate(dict(row)) for row in rows}
