"""The intent rows: the memory that stops a second POST. Every change of state is compare-and-set in the database."""

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from pydantic import ValidationError

from onetake.core.contracts import ErrorInfo, GenerationRequest, Submission
from onetake.core.errors import Failed
from onetake.core.names import SubmissionState
from onetake.core.ports import Account, Begun, Bracket, Sent, Undisturbed
from onetake.ledger.database import Database, Row

_SENT: Final = """
select g.request::text as request, s.seed, s.sent_at, exists (
    select from onetake.submission t join onetake.generation o on o.id = t.generation_id
    where t.vendor = s.vendor and t.request_sha256 = s.request_sha256 and t.state = 'sending' and o.phase <> 'done'
      and (t.generation_id, t.attempt) <> (s.generation_id, s.attempt)) as equal_is_sending
from onetake.submission s join onetake.generation g on g.id = s.generation_id
where s.generation_id = $1 and s.attempt = $2
"""

_UNOWNED: Final = """
select n.task_id from unnest($3::text[]) with ordinality as n (task_id, place)
join onetake.submission s on s.generation_id = $1 and s.attempt = $2
where not exists (
    select from onetake.submission o where o.vendor = s.vendor and o.vendor_task_id = n.task_id
      and (o.generation_id, o.attempt) <> (s.generation_id, s.attempt))
order by n.place
"""

# Whoever lost an answer wrote an error with it. A row that another attempt found has none: its sender may only be
# stopped, and go on to send.
_UNDISTURBED: Final = """
select s.account::text as account, s.error is not null as post_is_over
from onetake.submission s join onetake.generation g on g.id = s.generation_id
where s.generation_id = $1 and s.attempt = $2 and s.state = 'ambiguous' and s.account is not null
  and g.phase <> 'done' and onetake.account_is_ours_alone(s.vendor, s.account_at, s.generation_id, s.attempt)
"""


class PostgresSubmissions:
    """The ports `Submissions` and `Evidence`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        generation_id: str,
        attempt: int,
        *,
        vendor: str,
        token_sha256: bytes,
        request_sha256: bytes,
        seed: int | None,
        bracket: Bracket | None = None,
    ) -> Begun:
        """Commit the intent and the token's hash (sha256 of the token's UTF-8 bytes) before the first byte leaves.

        Fresh for exactly one caller for each POST: the first, and after `not_sent` the next. Otherwise, and when the
        generation has ended, the answer is what is stored (`not_sent` when nothing is). Without a hold the table
        refuses the intent: Failed(`internal_error`).
        """
        row = await self._database.answer(
            "select * from onetake.begin_submission($1, $2, $3, $4, $5, $6, $7, $8)",
            generation_id,
            attempt,
            vendor,
            token_sha256,
            request_sha256,
            seed,
            _json_of(bracket.account) if bracket else None,
            bracket.at if bracket else None,
        )
        submission = _submission(row) or Submission(state="not_sent")
        return Begun(fresh=row["fresh"], submission=submission, post=row["post"] or 1)

    async def idle_at(self, vendor: str) -> datetime | None:
        """The time now, when no submission to the vendor could still change our balance there; else None."""
        row = await self._database.row(
            """select t.at from (select clock_timestamp() as at) t
            where onetake.account_is_ours_alone($1, t.at, null, null)""",
            vendor,
        )
        return row["at"] if row else None

    async def record(
        self,
        generation_id: str,
        attempt: int,
        *,
        state: SubmissionState,
        vendor_task_id: str | None = None,
        error: ErrorInfo | None = None,
        reported_micros: int | None = None,
        post: int | None = None,
    ) -> Submission:
        """Compare-and-set the outcome and return what is stored now, which another attempt may have decided first.

        `post` is the POST that it is the outcome of; once a later one has begun, nothing but an acceptance counts.

        `accepted` also gives the generation the vendor's id and phase `generating`; `ambiguous` phase `resolving`.
        Raises Failed(`vendor_protocol_error`) when another generation owns the vendor's id.
        """
        row = await self._database.answer(
            "select * from onetake.record_submission($1, $2, $3, $4, $5, $6, $7)",
            generation_id,
            attempt,
            post,
            state,
            vendor_task_id,
            error.model_dump_json() if error else None,
            reported_micros,
        )
        if row["note"] == "taken":
            raise Failed("vendor_protocol_error", "It gave one task id to two submissions.")
        stored = _submission(row)
        if stored is None:
            raise Failed("internal_error", "An outcome was recorded for a submission that was never begun.")
        return stored

    async def read(self, generation_id: str, attempt: int) -> Submission | None:
        """How the submission stands; None when it was never begun."""
        row = await self._database.row(
            """select state, vendor_task_id, error, reported_micros from onetake.submission
            where generation_id = $1 and attempt = $2""",
            generation_id,
            attempt,
        )
        return _submission(row) if row else None

    async def claims(self, generation_id: str, attempt: int) -> tuple[str, ...]:
        """The vendor ids that callbacks with this attempt's tokens have named, the first first; unverified."""
        rows = await self._database.rows(
            """select i.claimed_task_id from onetake.callback_inbox i join onetake.callback_token t using (token_sha256)
            where t.generation_id = $1 and t.attempt = $2 and i.claimed_task_id is not null
            group by i.claimed_task_id order by min(i.id)""",
            generation_id,
            attempt,
        )
        return tuple(row["claimed_task_id"] for row in rows)

    async def sent(self, generation_id: str, attempt: int) -> Sent | None:
        """What was sent; None when nothing was begun, or when today's program cannot read the request."""
        row = await self._database.row(_SENT, generation_id, attempt)
        if row is None:
            return None
        try:
            request = GenerationRequest.model_validate_json(row["request"])
        except ValidationError:
            return None
        return Sent(request, row["seed"], row["sent_at"], row["equal_is_sending"])

    async def unowned(self, generation_id: str, attempt: int, task_ids: Sequence[str]) -> tuple[str, ...]:
        """Those of the vendor's ids that belong to no other submission, in the same order."""
        rows = await self._database.rows(_UNOWNED, generation_id, attempt, list(task_ids))
        return tuple(row["task_id"] for row in rows)

    async def undisturbed(self, generation_id: str, attempt: int) -> Undisturbed | None:
        """Our account before the POST; None when it was not read, the outcome is known, the generation has ended, or
        another submission may have moved the balance since."""
        row = await self._database.row(_UNDISTURBED, generation_id, attempt)
        return Undisturbed(_account(row["account"]), row["post_is_over"]) if row else None

    async def note(self, generation_id: str, attempt: int, error: ErrorInfo) -> None:
        """Replace what is told of an unknown outcome; a known one keeps its error."""
        await self._database.row(
            """update onetake.submission set error = $3
            where generation_id = $1 and attempt = $2 and state = 'ambiguous' and error is not null""",
            generation_id,
            attempt,
            error.model_dump_json(),
        )


def _json_of(account: Account) -> str:
    return json.dumps({"balance": str(account.balance), "charged": str(account.charged)})


def _account(text: str) -> Account:
    stored = json.loads(text)
    return Account(Decimal(stored["balance"]), Decimal(stored["charged"]))


def _submission(row: Row) -> Submission | None:
    if row["state"] is None:
        return None
    return Submission(
        state=row["state"],
        vendor_task_id=row["vendor_task_id"],
        error=ErrorInfo.model_validate_json(row["error"]) if row["error"] else None,
        reported_micros=row["reported_micros"],
    )
