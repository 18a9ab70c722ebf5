"""Callback tokens and the inbox: what the gateway stores before it wakes anybody. Nothing in a callback is believed.

`signalled_at` of a row is empty while somebody is still to be woken for it. After the end of a generation that is its
recovery, when the hold is in suspense and not left to people, and otherwise nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from onetake.ledger.combining import Combining
from onetake.ledger.database import STATEMENT_TIMEOUT_S, Database

WAKE_EVERY_S: Final = 5.0  # at most one signal for a token in so long, of all gateways together

# Equal bodies are counted in one row; whoever has a token can still vary the body, so the rows are capped, and all
# further bodies of a token are counted in one more.
MAX_BODIES_PER_TOKEN: Final = 100

# A run that is ending hears nothing any more, and its end may be dated as early as its last statement began.
_DEAF_BEFORE_END: Final = timedelta(seconds=STATEMENT_TIMEOUT_S)

# Rows are written in one order, so that two gateways never wait for each other in a circle. `late`: a callback that
# comes after our own read has found the end announces it all the same; in the usual case there is no such row yet.
_TAKE: Final = """
with target as (
    select c.*, t.generation_id, t.attempt, g.tenant, g.workflow_id, g.plan #>> '{queues,base}' as base_queue,
        g.phase = 'done' as ended, onetake.awaits_vendor(h) as suspended
    from unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[])
        with ordinality as c (token_sha256, vendor, claimed_task_id, claimed_state, body_sha256, size_bytes, number)
    join onetake.callback_token t using (token_sha256)
    join onetake.submission s on s.generation_id = t.generation_id and s.attempt = t.attempt and s.vendor = c.vendor
    join onetake.hold h on h.generation_id = t.generation_id and h.attempt = t.attempt
    join onetake.generation g on g.id = t.generation_id
), body as (
    select token_sha256, body_sha256, min(vendor) as vendor, bool_and(ended and not suspended) as settled,
        min(claimed_task_id) as task_id, min(claimed_state) as state, max(size_bytes) as size_bytes,
        count(*) as times, min(number) as number, exists (
            select from onetake.callback_inbox i
            where i.token_sha256 = target.token_sha256 and i.body_sha256 = target.body_sha256) as known
    from target group by token_sha256, body_sha256
), capped as (
    select *, known or row_number() over (partition by token_sha256, known order by number) + (
        select count(*) from onetake.callback_inbox i where i.token_sha256 = body.token_sha256) <= $7 as fits
    from body
), stored as (
    insert into onetake.callback_inbox as i (token_sha256, body_sha256, vendor, claimed_task_id, claimed_state,
        size_bytes, seen, signalled_at)
    select token_sha256, case when fits then body_sha256 else $8 end as kept, min(vendor),
        min(task_id) filter (where fits), min(state) filter (where fits), max(size_bytes), sum(times),
        case when bool_and(settled) then now() end
    from capped group by token_sha256, kept order by token_sha256, kept
    on conflict (token_sha256, body_sha256) do update
    set seen = i.seen + excluded.seen, last_seen_at = greatest(i.last_seen_at, excluded.last_seen_at),
        signalled_at = excluded.signalled_at
), late as (
    update onetake.job_end e set announced_at = clock_timestamp()
    from (
        select e.generation_id, e.attempt from (select distinct generation_id, attempt from target) t
        join onetake.job_end e using (generation_id, attempt)
        where e.announced_at is null order by e.generation_id, e.attempt for update of e) unannounced
    where e.generation_id = unannounced.generation_id and e.attempt = unannounced.attempt
), turn as (
    update onetake.callback_token t set wake_after = now() + $9::interval
    from (
        select token_sha256 from onetake.callback_token
        where token_sha256 in (select token_sha256 from target where suspended or not ended)
            and (wake_after is null or wake_after <= now())
        order by token_sha256 for no key update skip locked) free
    where t.token_sha256 = free.token_sha256
    returning t.token_sha256
)
select number, token_sha256, generation_id, attempt, tenant, workflow_id, base_queue, ended, suspended,
    claimed_task_id, now() as heard_at,
    turn.token_sha256 is not null and number = min(number) over (partition by token_sha256) as has_turn
from target left join turn using (token_sha256)
"""

# `due`: nobody has been woken for it, or only a run that was ending. The row of one token is locked for a moment.
_TURN: Final = """
with heard as (
    select exists (
        select from onetake.callback_inbox i join onetake.callback_token t using (token_sha256)
        join onetake.generation g on g.id = t.generation_id
        where i.token_sha256 = $1 and (i.signalled_at is null or ($2 and i.signalled_at < g.ended_at + $3))) as due
), turn as (
    update onetake.callback_token t set wake_after = now() + $4::interval from heard
    where t.token_sha256 = $1 and heard.due and (t.wake_after is null or t.wake_after <= now())
    returning true
)
select due, exists (select from turn) as has_turn,
    extract(epoch from greatest(t.wake_after - now(), interval '0'))::float8 as wait_s
from heard, onetake.callback_token t where t.token_sha256 = $1
"""

_SIGNALLED: Final = """
update onetake.callback_inbox set signalled_at = now()
where id in (
    select i.id from onetake.callback_inbox i
    join onetake.callback_token t using (token_sha256)
    join onetake.generation g on g.id = t.generation_id
    where i.token_sha256 = $1 and i.signalled_at is null and i.last_seen_at <= $2 and g.phase <> 'done'
    order by i.body_sha256 for update of i)
"""

_RECOVERING: Final = """
update onetake.callback_inbox set signalled_at = greatest(now(), (
    select g.ended_at + $3 from onetake.callback_token t join onetake.generation g on g.id = t.generation_id
    where t.token_sha256 = $1))
where id in (
    select id from onetake.callback_inbox where token_sha256 = $1 and last_seen_at <= $2
    order by body_sha256 for update)
"""

# Heard before the end, and the end left nothing to look for.
_SETTLED: Final = """
update onetake.callback_inbox set signalled_at = now()
where id in (
    select i.id from onetake.callback_inbox i
    join onetake.callback_token t using (token_sha256)
    join onetake.hold h on h.generation_id = t.generation_id and h.attempt = t.attempt
    join onetake.generation g on g.id = t.generation_id
    where i.signalled_at is null and g.phase = 'done' and not onetake.awaits_vendor(h)
    for update of i skip locked)
"""

# The second half: what the run of a generation in suspense was told before it ended. It may have been ending already.
_UNSIGNALLED: Final = """
with due as (
    select i.token_sha256, i.claimed_task_id, i.last_seen_at from onetake.callback_inbox i
    where i.signalled_at is null
    union all
    select i.token_sha256, i.claimed_task_id, i.last_seen_at from onetake.hold h
    join onetake.generation g on g.id = h.generation_id
    join onetake.callback_token t on t.generation_id = h.generation_id and t.attempt = h.attempt
    join onetake.callback_inbox i using (token_sha256)
    where h.state = 'suspended' and i.signalled_at < g.ended_at + $3 and onetake.awaits_vendor(h)
), newest as (
    select distinct on (token_sha256) * from due order by token_sha256, last_seen_at desc
)
select token_sha256, t.generation_id, t.attempt, g.tenant, g.workflow_id, g.plan #>> '{queues,base}' as base_queue,
    g.phase = 'done' as ended, onetake.awaits_vendor(h) as suspended, claimed_task_id, last_seen_at as heard_at
from newest
join onetake.callback_token t using (token_sha256)
join onetake.hold h on h.generation_id = t.generation_id and h.attempt = t.attempt
join onetake.generation g on g.id = t.generation_id
where last_seen_at < now() - $1::interval and (g.phase <> 'done' or onetake.awaits_vendor(h))
order by last_seen_at desc limit $2
"""


@dataclass(frozen=True)
class Wake:
    """Whom a callback concerns. The claimed id is unverified.

    Until the generation has ended its workflow is woken; then its recovery when the hold is `suspended`: in suspense
    and not left to people; else nobody. `has_turn`: whoever heard it may wake at once, and is the only one.
    """

    token_sha256: bytes
    generation_id: str
    attempt: int
    tenant: str
    workflow_id: str
    base_queue: str | None
    ended: bool
    suspended: bool
    claimed_task_id: str | None
    heard_at: datetime
    has_turn: bool = False

    @property
    def is_due(self) -> bool:
        """Whether there is anybody to wake."""
        return self.suspended or not self.ended


@dataclass(frozen=True)
class _Callback:
    token_sha256: bytes
    vendor: str
    claimed_task_id: str | None
    claimed_state: str | None
    body_sha256: bytes
    size_bytes: int


class Callbacks:
    """What the gateway needs of the database."""

    def __init__(self, database: Database, *, wake_every_s: float = WAKE_EVERY_S) -> None:
        self._database = database
        self._wake_every_s = wake_every_s
        self._combined = Combining(self._take)

    async def take(
        self,
        vendor: str,
        token: str,
        *,
        claimed_task_id: str | None,
        claimed_state: str | None,
        body_sha256: bytes,
        size_bytes: int,
    ) -> Wake | None:
        """Store a callback, in one commit with those that come at the same time, and say whom it concerns; None for a
        token we never gave this vendor.

        Claims that are too long (256 and 64 characters) or unprintable are dropped. Repeats are counted.
        """
        task_id, state = _storable(claimed_task_id, 256), _storable(claimed_state, 64)
        return await self._combined(_Callback(token_sha256(token), vendor, task_id, state, body_sha256, size_bytes))

    async def turn_s(self, wake: Wake) -> float | None:
        """Take the turn to wake for this token: 0 when it is taken, else the seconds until it can be; None when
        nothing is left to wake for, because another gateway has done it. Raises TryLater(`ledger_unavailable`)."""
        interval = timedelta(seconds=self._wake_every_s)
        row = await self._database.answer(_TURN, wake.token_sha256, wake.suspended, _DEAF_BEFORE_END, interval)
        if not row["due"]:
            return None
        return 0.0 if row["has_turn"] else max(row["wait_s"], self._wake_every_s / 10)

    async def woken(self, wake: Wake) -> None:
        """Note that somebody was woken for everything that came with this token up to `wake`.

        A signal to a run that has ended meanwhile does not count: who is to be woken has changed.
        """
        if wake.suspended:
            await self._database.row(_RECOVERING, wake.token_sha256, wake.heard_at, _DEAF_BEFORE_END)
        else:
            await self._database.row(_SIGNALLED, wake.token_sha256, wake.heard_at)

    async def unsignalled(self, *, older_than_s: float, limit: int) -> Sequence[Wake]:
        """The newest callback of each token for which somebody is still to be woken, unless it is younger: then whoever
        took it wakes. The newest token comes first: a workflow that is gone before its generation ended must not keep
        the others from being woken."""
        await self._database.rows(_SETTLED)
        rows = await self._database.rows(_UNSIGNALLED, timedelta(seconds=older_than_s), limit, _DEAF_BEFORE_END)
        return [Wake(**dict(row)) for row in rows]

    async def _take(self, callbacks: list[_Callback]) -> list[Wake | None]:
        columns = zip(*(vars(each).values() for each in callbacks), strict=True)
        interval = timedelta(seconds=self._wake_every_s)
        rows = await self._database.rows(_TAKE, *map(list, columns), MAX_BODIES_PER_TOKEN, b"\0" * 32, interval)
        wakes: list[Wake | None] = [None] * len(callbacks)
        for row in rows:
            fields = dict(row)
            number = fields.pop("number")
            wakes[number - 1] = Wake(**fields)
        return wakes


def token_sha256(token: str) -> bytes:
    """How a token is stored; what came in a URL may be no proper text."""
    return sha256(token.encode(errors="replace")).digest()


def _storable(text: str | None, limit: int) -> str | None:
    return text if text and len(text) <= limit and text.isprintable() else None
