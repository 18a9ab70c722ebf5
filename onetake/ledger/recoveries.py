"""What is done for generations after their end, and for rows whose run never started or is gone."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import structlog
from pydantic import ValidationError

from onetake.core.contracts import (
    CorrectInput,
    ErrorInfo,
    GenerationRecord,
    GenerationRequest,
    Plan,
    RecoveryCase,
    Value,
)
from onetake.core.errors import Refused
from onetake.core.names import FIRST_ATTEMPT, HoldState
from onetake.ledger.database import Database, Row

PAGE: Final = 500

_log: Any = structlog.get_logger(__name__)

_CASE: Final = """
select g.id as generation_id, coalesce(h.attempt, $2) as attempt, g.tenant, g.plan::text as plan, h.state as hold,
       h.epoch, coalesce(s.vendor_task_id, g.vendor_task_id) as vendor_task_id, s.reported_micros, s.state as sent,
       g.status, g.phase, g.assets <> '[]' as has_clip,
       coalesce(g.error ->> 'code' = 'asset_unverified', false)
           or (g.status = 'canceled' and coalesce(h.state = 'posted', false)) as is_kept, exists (
           select from onetake.event e where e.generation_id = h.generation_id and e.attempt = h.attempt
           and e.kind = 'suspense_resolved') as was_decided
from onetake.generation g
left join onetake.hold h on h.generation_id = g.id
left join onetake.submission s on s.generation_id = h.generation_id and s.attempt = h.attempt
where g.id = $1 order by h.attempt desc limit 1
"""

_OPEN: Final = """
select g.id, g.tenant, g.workflow_id, g.status, g.idempotency_key is not null as has_key, g.cancel_requested,
       g.origin_run_id is not null or exists (select from onetake.hold h where h.generation_id = g.id) as started,
       g.request::text as request, g.plan::text as plan, g.plan #>> '{queues,base}' as base_queue, g.created_at,
       extract(epoch from clock_timestamp() - g.created_at)::float8 as age_s, g.route, g.vendor
from onetake.generation g
where g.status in ('queued', 'in_progress') and g.created_at < clock_timestamp() - $1::interval
  and (g.created_at, g.id) > (coalesce($2::timestamptz, '-infinity'), $3)
order by g.created_at, g.id limit $4
"""

_SUSPENDED: Final = """
select g.id, g.tenant, g.vendor, h.attempt, s.vendor_task_id as task_id,
       s.state in ('rejected', 'not_sent') as was_turned_away,
       g.plan #>> '{queues,base}' as base_queue, h.amount_micros, h.resolved_at,
       extract(epoch from clock_timestamp() - h.resolved_at)::float8 as age_s,
       coalesce((g.plan ->> 'lists_jobs')::boolean, false) as lists_jobs,
       exists (select from onetake.callback_token t join onetake.callback_inbox i using (token_sha256)
               where t.generation_id = g.id and t.attempt = h.attempt and i.claimed_task_id is not null) as is_claimed,
       (e.detail ->> 'reported_micros')::bigint as reported_micros,
       case when e.id is null then g.error ->> 'code' else 'vendor_cost_in_review' end as why,
       g.created_at as accepted_at, coalesce(j.failed, false) as job_failed,
       coalesce(j.shows_charge, false) as shows_charge
from onetake.hold h
join onetake.generation g on g.id = h.generation_id
left join onetake.event e on e.generation_id = h.generation_id and e.attempt = h.attempt and e.kind = 'review'
left join onetake.job_end j on j.generation_id = h.generation_id and j.attempt = h.attempt
left join onetake.submission s on s.generation_id = h.generation_id and s.attempt = h.attempt
where h.state = 'suspended' and g.phase = 'done' and h.generation_id > $1 and g.vendor = coalesce($3, g.vendor)
order by h.generation_id limit $2
"""

_NAMED: Final = """
select s.vendor_task_id as task_id, g.id, g.tenant, h.attempt, h.state as hold, h.amount_micros,
       coalesce(h.actual_micros, 0) as settled_micros, g.created_at,
       case when h.state = 'suspended' or e.id is not null then (g.plan #>> '{price,usd_per_credit}')::numeric
       end as usd_per_credit,
       e.id is not null as was_decided, coalesce(c.detail, e.detail) ->> 'who' as who,
       coalesce(c.detail, e.detail) ->> 'why' as why
from onetake.submission s
join onetake.generation g on g.id = s.generation_id
join onetake.hold h on h.generation_id = s.generation_id and h.attempt = s.attempt
left join onetake.event e on e.generation_id = h.generation_id and e.attempt = h.attempt
                         and e.kind = 'suspense_resolved'
left join onetake.event c on c.generation_id = h.generation_id and c.attempt = h.attempt and c.kind = 'correction'
where s.vendor = $1 and s.vendor_task_id = any($2::text[])
"""

# Temporal keeps a run for longer than an hour after its end.
_KNOWN_RUNS: Final = """
(select g.workflow_id from onetake.generation g
 where g.origin_run_id is not null and g.ended_at > clock_timestamp() - interval '1 hour'
 order by g.ended_at desc limit $1)
union all
(select g.workflow_id from onetake.generation g
 where g.origin_run_id is not null and g.status in ('queued', 'in_progress')
 order by g.created_at desc, g.id desc limit $1)
limit $1
"""


@dataclass(frozen=True)
class OpenRow:
    """A generation that has not ended. `started`: its workflow has reached the database, by its run id or by a hold;
    `request` and `plan` are None when today's program cannot read them."""

    id: str
    tenant: str
    workflow_id: str
    status: str
    started: bool
    has_key: bool
    cancel_requested: bool
    request: GenerationRequest | None
    plan: Plan | None
    base_queue: str | None
    created_at: datetime
    age_s: float
    route: str
    vendor: str


@dataclass(frozen=True)
class SuspendedRow:
    """A hold in suspense whose generation has ended, and what there is to find its job by. `was_turned_away`: an
    attempt has recorded after the end that the vendor took nothing. `reported_micros`: what the vendor says it charged,
    where that is too much to be booked without a person. `why`: the code of its error, or `vendor_cost_in_review`.
    `job_failed`: the vendor said last that the job has failed; `shows_charge`: and that it charged for it."""

    id: str
    tenant: str
    vendor: str
    attempt: int
    task_id: str | None
    was_turned_away: bool | None
    is_claimed: bool
    lists_jobs: bool
    base_queue: str | None
    amount_micros: int
    resolved_at: datetime
    age_s: float
    reported_micros: int | None
    why: str | None
    accepted_at: datetime
    job_failed: bool
    shows_charge: bool

    @property
    def age(self) -> str:
        """For how long it has been in suspense, in words."""
        minutes = int(self.age_s // 60)
        days, hours = divmod(minutes // 60, 24)
        return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


@dataclass(frozen=True)
class NamedRow:
    """A hold whose job a vendor calls by `task_id`. `usd_per_credit` is its plan's; `who` and `why` are of the
    decision about it, or of the correction of that. Both are None when it was never in suspense."""

    task_id: str
    id: str
    tenant: str
    attempt: int
    hold: HoldState
    amount_micros: int
    settled_micros: int
    created_at: datetime
    usd_per_credit: Decimal | None
    was_decided: bool
    who: str | None
    why: str | None


class Child(Value):
    """A generation that renders another one again."""

    parent_id: str
    id: str
    status: str


class Recoveries:
    """The port `RecoveryRecords`, and what the reconciler and replays read and do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def case(self, generation_id: str) -> RecoveryCase:
        """What is known of a generation that may be looked for again; with `refusal` when it may not.

        Raises Refused(`generation_not_found`).
        """
        row = await self._database.row(_CASE, generation_id, FIRST_ATTEMPT)
        if row is None:
            raise Refused("generation_not_found", generation_id)
        return RecoveryCase(
            generation_id=row["generation_id"],
            attempt=row["attempt"],
            tenant=row["tenant"],
            plan=Plan.model_validate_json(row["plan"]) if row["plan"] else None,
            hold=row["hold"],
            epoch=row["epoch"],
            vendor_task_id=row["vendor_task_id"],
            reported_micros=row["reported_micros"],
            is_kept=row["is_kept"],
            refusal=_refusal(row),
        )

    async def correct(self, order: CorrectInput) -> GenerationRecord:
        """Take a late clip: once; a repeat returns what the first one made.

        Raises Refused: `generation_running` (it has not ended), `nothing_to_replay` (its hold was released),
        `generation_not_found`.
        """
        row = await self._database.answer(
            "select note, record::text from onetake.correct($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            order.generation_id,
            order.attempt,
            order.actual_micros,
            order.basis,
            f"[{','.join(asset.model_dump_json() for asset in order.assets)}]",
            f"[{','.join(notice.model_dump_json() for notice in order.warnings)}]",
            order.vendor_task_id,
            order.who,
            order.why,
        )
        match row["note"]:
            case "unknown":
                raise Refused("generation_not_found", order.generation_id)
            case "open":
                raise Refused("generation_running", order.generation_id)
            case "not_paid":
                _log.warning("ledger.late_clip_of_a_released_hold", generation_id=order.generation_id)
                raise Refused("nothing_to_replay", "Its hold was released, yet the vendor has its clip.")
            case _:
                return GenerationRecord.model_validate_json(row["record"])

    async def expire(self, generation_id: str) -> bool:
        """End a row whose run never started as `failed/never_started`; False when it did start after all."""
        error = ErrorInfo.of("never_started").model_dump_json()
        row = await self._database.answer("select onetake.expire($1, $2) as expired", generation_id, error)
        return bool(row["expired"])

    async def open_rows(self, older_than_s: float) -> AsyncIterator[Sequence[OpenRow]]:
        """All generations that have not ended, in pages, the oldest first."""
        after: tuple[datetime | None, str] = (None, "")
        while True:
            rows = await self._database.rows(_OPEN, timedelta(seconds=older_than_s), *after, PAGE)
            if not rows:
                return
            after = rows[-1]["created_at"], rows[-1]["id"]
            yield [_open_row(row) for row in rows]

    async def suspended_rows(self, vendor: str | None = None) -> AsyncIterator[Sequence[SuspendedRow]]:
        """All holds in suspense of generations that have ended, or one vendor's, in pages."""
        after = ""
        while True:
            rows = await self._database.rows(_SUSPENDED, after, PAGE, vendor)
            if not rows:
                return
            after = rows[-1]["id"]
            yield [SuspendedRow(**dict(row)) for row in rows]

    async def suspended(self, vendor: str | None = None) -> list[SuspendedRow]:
        """All `suspended_rows` at once, the oldest first."""
        rows = [row async for page in self.suspended_rows(vendor) for row in page]
        return sorted(rows, key=lambda row: (row.resolved_at, row.id))

    async def named_rows(self, vendor: str, task_ids: Sequence[str]) -> Sequence[NamedRow]:
        """The holds of the jobs that the vendor calls by these ids, in no order; ids that nobody knows have none."""
        return [NamedRow(**dict(row)) for row in await self._database.rows(_NAMED, vendor, task_ids)]

    async def known_runs(self, limit: int) -> Sequence[str]:
        """Workflow ids that Temporal must know: of what has started and is open, or ended within the hour."""
        return [row["workflow_id"] for row in await self._database.rows(_KNOWN_RUNS, limit)]

    async def child_of(self, parent_id: str) -> Child | None:
        """The generation that renders this one again, if there is one."""
        row = await self._database.row(
            "select parent_id, id, status from onetake.generation where parent_id = $1 order by created_at limit 1",
            parent_id,
        )
        return Child.model_validate(dict(row)) if row else None


def _open_row(row: Row) -> OpenRow:
    fields: dict[str, Any] = dict(row)
    try:
        fields["request"] = GenerationRequest.model_validate_json(fields["request"])
        fields["plan"] = Plan.model_validate_json(fields["plan"]) if fields["plan"] else None
    except ValidationError:  # of another version: one row's text must not end the pass over all
        fields["request"], fields["plan"] = None, None
    return OpenRow(**fields)


def _refusal(row: Row) -> ErrorInfo | None:
    """Why a generation cannot be looked for again; None when it can."""
    if row["phase"] != "done":
        return ErrorInfo.of("generation_running")
    if row["status"] == "completed":
        return ErrorInfo.of("nothing_to_replay", "It is completed.")
    if row["has_clip"]:
        return ErrorInfo.of("nothing_to_replay", "It was canceled, and has its clip.")
    if row["plan"] is None or row["sent"] is None or row["sent"] == "not_sent":
        return ErrorInfo.of("nothing_to_replay", "Nothing was ever sent for it.")
    if row["hold"] == "released" and not row["was_decided"]:
        return ErrorInfo.of("nothing_to_replay", "It ended without cost: the vendor has no clip of it.")
    return None
