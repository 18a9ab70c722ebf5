"""The intent rows: the memory that stops a second POST. Every change of state is compare-and-set in the database."""

from onetake.contracts import ErrorInfo, Submission, SubmissionState
from onetake.errors import Failed
from onetake.ledger.database import Database, Row
from onetake.ports import Begun


class PostgresSubmissions:
    """The port `Submissions`."""

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
    ) -> Begun:
        """Commit the intent and the token's hash (sha256 of the token's UTF-8 bytes) before the first byte leaves.

        Fresh for exactly one caller for each POST: the first, and after `not_sent` the next. Otherwise, and when the
        generation has ended, the answer is what is stored (`not_sent` when nothing is). Without a hold the table
        refuses the intent: Failed(`internal_error`).
        """
        row = await self._database.answer(
            "select * from onetake.begin_submission($1, $2, $3, $4, $5, $6)",
            generation_id,
            attempt,
            vendor,
            token_sha256,
            request_sha256,
            seed,
        )
        return Begun(fresh=row["fresh"], submission=_submission(row) or Submission(state="not_sent"))

    async def record(
        self,
        generation_id: str,
        attempt: int,
        *,
        state: SubmissionState,
        vendor_task_id: str | None = None,
        error: ErrorInfo | None = None,
        reported_micros: int | None = None,
    ) -> Submission:
        """Compare-and-set the outcome and return what is stored now, which another attempt may have decided first.

        `accepted` also gives the generation the vendor's id and phase `generating`; `ambiguous` phase `resolving`.
        Raises Failed(`vendor_protocol_error`) when another generation owns the vendor's id.
        """
        row = await self._database.answer(
            "select * from onetake.record_submission($1, $2, $3, $4, $5, $6)",
            generation_id,
            attempt,
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


def _submission(row: Row) -> Submission | None:
    if row["state"] is None:
        return None
    return Submission(
        state=row["state"],
        vendor_task_id=row["vendor_task_id"],
        error=ErrorInfo.model_validate_json(row["error"]) if row["error"] else None,
        reported_micros=row["reported_micros"],
    )
