"""The intent rows: the memory that stops a second POST. Every change of state is compare-and-set in the database."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from pydantic import ValidationError

from onetake.core.contracts import ErrorInfo, GenerationRequest, Submission
from onetake.core.errors import Failed
from onetake.core.ids import made_at
from onetake.core.names import RefusedOf, SubmissionState
from onetake.core.ports import Account, Begun, Bracket, Sent, Undisturbed
from onetake.ledger.database import Database, Row

MOST_CLAIMS: Final = 16

_SENT: Final = """
select g.request::text as request, s.seed, s.sent_at, s.was_lost, g.created_at, exists (
    select from onetake.submission t join onetake.generation o on o.id = t.generation_id
    where t.vendor = s.vendor and t.request_sha256 = s.request_sha256 and t.state = 'sending' and o.phase <> 'done'
      and (t.generation_id, t.attempt) <> (s.generation_id, s.attempt)) as equal_is_sending
from onetake.submission s join onetake.generation g on g.id = s.generation_id
where s.generation_id = $1 and s.attempt = $2
"""

_READ: Final = """
select case when coalesce(s.state, 'not_sent') = 'not_sent' and $3 <> onetake.epoch() then 'ambiguous' else s.state
       end as state, s.vendor_task_id, s.error, s.reported_micros
from (select) as one left join onetake.submission s on s.generation_id = $1 and s.attempt = $2
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


LONGEST_AGE_S: Final = 10.0 * 365 * 86_400  # of a job, by what a vendor says of its creation


class PostgresSubmissions:
    """The ports `Submissions`, `Evidence` and `JobEnds`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        generation_id: str,
        attempt: int,
        *,
        vendor: str,
        token_sha256: bytes | None,
        request_sha256: bytes,
        seed: int | None,
        bracket: Bracket | None = None,
        epoch: str | None = None,
        may_be_sent: bool = False,
    ) -> Begun:
        """Commit the intent and the token's hash (sha256 of the token's UTF-8 bytes) before the first byte leaves.
        Without a token the vendor is given no address for callbacks, and none is expected of it.

        Fresh for exactly one caller for each POST: the first, and after `not_sent` the next. Otherwise, and when the
        generation has ended, the answer is what is stored (`not_sent` when nothing is). Without a hold the table
        refuses the intent: Failed(`internal_error`).

        When the database has failed over since the hold, whose `epoch` is given: never fresh if it `may_be_sent`
        already, but `ambiguous`, which is stored; Failed(`records_lost`) when the hold is missing.
        """
        row = await self._database.surely(
            "select * from onetake.begin_submission($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            generation_id,
            attempt,
            vendor,
            token_sha256,
            request_sha256,
            seed,
            _json_of(bracket.account) if bracket else None,
            bracket.at if bracket else None,
            epoch,
            may_be_sent,
        )
        if row["lost"]:
            raise Failed("records_lost")
        submission = _submission(row) or Submission(state="not_sent")
        return Begun(fresh=row["fresh"], submission=submission, post=row["post"] or 1, canceled=bool(row["canceled"]))

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
        about: RefusedOf = "account",
    ) -> Submission:
        """Compare-and-set the outcome and return what is stored now, which another attempt may have decided first.

        `post` is the POST that it is the outcome of; once a later one has begun, nothing but an acceptance counts.
        `about` says which circuit a refusal of our key moves.

        `accepted` also gives the generation the vendor's id and phase `generating`; `ambiguous` phase `resolving`.
        Raises Failed(`vendor_protocol_error`) when another generation owns the vendor's id, or when callbacks say so:
        another's token named it and none of ours did, or ours named other ids only. Raises Failed(`records_lost`) when
        there is no such submission.
        """
        row = await self._database.surely(
            "select * from onetake.record_submission($1, $2, $3, $4, $5, $6, $7)",
            generation_id,
            attempt,
            post,
            state,
            vendor_task_id,
            json.dumps(error.model_dump() | {"about": about}) if error else None,
            reported_micros,
        )
        if row["note"] == "taken":
            raise Failed("vendor_protocol_error", "The task id that it named is another submission's.")
        stored = _submission(row)
        if stored is None:
            raise Failed("records_lost")
        return stored

    async def read(self, generation_id: str, attempt: int, *, epoch: str | None = None) -> Submission:
        """How the submission stands; `not_sent` when it was never begun. In another epoch than that of the hold, a row
        that is absent, or says `not_sent`, proves nothing: then it is `ambiguous`."""
        row = await self._database.answer(_READ, generation_id, attempt, epoch)
        return _submission(row) or Submission(state="not_sent")

    async def claims(self, generation_id: str, attempt: int) -> tuple[str, ...]:
        """The vendor ids that callbacks with this attempt's tokens have named, the first first; unverified, and no more
        than a vendor has reason to name: each costs a read."""
        rows = await self._database.rows(
            """select i.claimed_task_id from onetake.callback_inbox i join onetake.callback_token t using (token_sha256)
            where t.generation_id = $1 and t.attempt = $2 and i.claimed_task_id is not null
            group by i.claimed_task_id order by min(i.id) limit $3""",
            generation_id,
            attempt,
            MOST_CLAIMS,
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
        sent_at = min(row["created_at"], made_at(generation_id)) if row["was_lost"] else row["sent_at"]
        return Sent(request, row["seed"], sent_at, row["equal_is_sending"])

    async def unowned(self, generation_id: str, attempt: int, task_ids: Sequence[str]) -> tuple[str, ...]:
        """Those of the vendor's ids that belong to no other submission, in the same order."""
        rows = await self._database.rows(_UNOWNED, generation_id, attempt, list(task_ids))
        return tuple(row["task_id"] for row in rows)

    async def undisturbed(self, generation_id: str, attempt: int) -> Undisturbed | None:
        """Our account before the POST; None when it was not read, the outcome is known, the generation has ended, or
        another submission may have moved the balance since."""
        row = await self._database.row(_UNDISTURBED, generation_id, attempt)
        return Undisturbed(_account(row["account"]), row["post_is_over"]) if row else None

    async def note_end(
        self, generation_id: str, attempt: int, *, failed: bool, shows_charge: bool, least_age_s: float | None = None
    ) -> bool:
        """Keep whether the job has failed, and whether the vendor shows a charge for it. Repeatable.

        The first call also keeps when the end was seen, and whether a callback had announced it. False, and nothing is
        kept, when it is another's job: tokens say so, or one of at least this age is older than our POST."""
        row = await self._database.answer(
            "select onetake.note_end_of_ours($1, $2, $3, $4, $5) as is_ours",
            generation_id,
            attempt,
            failed,
            shows_charge,
            None if least_age_s is None else timedelta(seconds=min(least_age_s, LONGEST_AGE_S)),
        )
        return bool(row["is_ours"])

    async def reassign(self, generation_id: str, attempt: int, *, wrong: str, right: str) -> str:
        """Give an accepted submission the job that its own token named; the id that it has afterwards, which is the old
        one when another submission has the new. Repeatable."""
        row = await self._database.answer(
            "select onetake.reassign_submission($1, $2, $3, $4) as task_id", generation_id, attempt, wrong, right
        )
        return row["task_id"]

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
