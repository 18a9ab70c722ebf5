"""The generation rows: accepted once, moved forward only, listed and searched.

The rows hold the request, so this module never puts one into an error or a log.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from onetake.core.contracts import GenerationRecord, GenerationRequest, Plan
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import Refused
from onetake.core.ids import generation_id_in, new_generation_id
from onetake.core.names import Phase, Status
from onetake.core.ports import Accepted
from onetake.ledger.database import Database, Row

_RECORD: Final = "select to_jsonb(r)::text as record from onetake.generation_record r"


@dataclass(frozen=True)
class AcceptedRow:
    """The row that stands for a request, with the plan that it keeps. `replayed`: it was there before, made by the same
    workflow or the same key."""

    id: str
    workflow_id: str
    replayed: bool
    plan: Plan | None


@dataclass(frozen=True)
class FirstRow:
    """What a key stands for. `plan` is None when the workflow refused the request before it had one."""

    id: str
    workflow_id: str
    status: Status
    plan: Plan | None


class PostgresGenerations:
    """The port `Generations`, and what the client and the command line read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def accept(self, request: GenerationRequest, *, workflow_id: str, run_id: str | None) -> Accepted:
        """`accept_once`, for a workflow, which learns the plan from the row."""
        row = await self.accept_once(request, workflow_id=workflow_id, run_id=run_id)
        return Accepted(row.id, row.plan)

    async def accept_once(
        self,
        request: GenerationRequest,
        *,
        workflow_id: str,
        run_id: str | None = None,
        plan: Plan | None = None,
        parent_id: str | None = None,
    ) -> AcceptedRow:
        """Write the row once. Repeats of the same workflow id, and a client's repeats of the same idempotency key,
        return the first row; run id and plan are kept from the first call that brings them, and the plan that is kept
        is returned. `parent_id` is the generation that is rendered again.

        Raises Refused: `idempotency_key_reused` (another request, or another workflow, under the key),
        `workflow_id_reused` (another request or another run under the workflow id), `request_invalid` (a NUL),
        `policy_refused` (a limit that the plan carries allows no more).
        """
        refuse_nul(request)
        crashpoint("accept.before_commit")
        row = await self._database.answer(
            "select * from onetake.accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
            generation_id_in(workflow_id, request.tenant) or new_generation_id(),
            request.tenant,
            workflow_id,
            run_id,
            request.idempotency_key,
            request_sha256(request),
            request.model_dump_json(),
            plan.model_dump_json() if plan else None,
            request.route,
            plan.vendor if plan else request.route.partition("/")[0],
            request.user,
            request.feature,
            json.dumps(request.labels),
            parent_id,
        )
        crashpoint("accept.after_commit")
        return _accepted(row)

    async def pin(self, generation_id: str, plan: Plan) -> Plan:
        """Keep the plan that is stored, with the given `reference_kinds`; store the given plan where there is none.
        Returns what is stored. Repeatable; once money was reserved a stored plan stays as it is.

        Raises Refused(`generation_not_found`), and Refused(`policy_refused`) when a first plan is one too many.
        """
        row = await self._database.answer(
            "select onetake.pin($1, $2)::text as plan", generation_id, plan.model_dump_json()
        )
        if row["plan"] is None:
            raise Refused("generation_not_found", generation_id)
        return Plan.model_validate_json(row["plan"])

    async def first_of(self, request: GenerationRequest) -> FirstRow | None:
        """The row that this request's idempotency key has made, with the plan that was pinned then; None without one.

        Raises Refused(`idempotency_key_reused`) when another request made it.
        """
        if request.idempotency_key is None:
            return None
        row = await self._database.row(
            """select id, workflow_id, status, plan::text, request_sha256 from onetake.generation
            where tenant = $1 and idempotency_key = $2""",
            request.tenant,
            request.idempotency_key,
        )
        if row is None:
            return None
        if row["request_sha256"] != request_sha256(request):
            raise Refused("idempotency_key_reused", f"It belongs to {row['id']}.")
        return FirstRow(row["id"], row["workflow_id"], row["status"], _plan(row))

    async def enter(self, generation_id: str, phase: Phase) -> None:
        """Move the phase forward, and a queued generation to `in_progress`; a move back changes nothing."""
        await self._database.row(
            """update onetake.generation set phase = $2::text::onetake.phase, status = 'in_progress', updated_at = now()
            where id = $1 and phase < $2::text::onetake.phase""",
            generation_id,
            phase,
        )

    async def get(self, generation_id: str, tenant: str | None = None) -> GenerationRecord | None:
        """One generation; None when there is none, or when it is another tenant's."""
        row = await self._database.row(
            f"{_RECORD} where id = $1 and tenant = coalesce($2, tenant)", generation_id, tenant
        )
        return _record(row["record"]) if row else None

    async def list(
        self,
        *,
        tenant: str | None = None,
        status: Status | None = None,
        vendor: str | None = None,
        error_code: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Sequence[GenerationRecord]:
        """The newest first, at most `limit`; `after` is the last id of the page before."""
        conditions: dict[str, object | None] = {
            "tenant = {}": tenant,
            "status = {}": status,
            "vendor = {}": vendor,
            "error ->> 'code' = {}": error_code,
            "created_at >= {}": since,
            "(created_at, id) < (select created_at, id from onetake.generation where id = {})": after,
        }
        given = [(condition, value) for condition, value in conditions.items() if value is not None]
        clauses = [condition.format(f"${number}") for number, (condition, _) in enumerate(given, start=1)]
        where = f"where {' and '.join(clauses)}" if clauses else ""
        rows = await self._database.rows(
            f"{_RECORD} {where} order by created_at desc, id desc limit ${len(given) + 1}",
            *(value for _, value in given),
            limit,
        )
        return [_record(row["record"]) for row in rows]

    async def request_of(self, generation_id: str) -> GenerationRequest:
        """What was asked for. Raises Refused(`generation_not_found`)."""
        row = await self._database.row("select request::text from onetake.generation where id = $1", generation_id)
        if row is None:
            raise Refused("generation_not_found", generation_id)
        return GenerationRequest.model_validate_json(row["request"])

    async def mark_cancel_requested(self, generation_id: str) -> bool:
        """Note that somebody asked for the end; False when the generation is over or unknown. Repeatable."""
        row = await self._database.row(
            """update onetake.generation set cancel_requested = true, updated_at = now()
            where id = $1 and phase <> 'done' returning true""",
            generation_id,
        )
        return row is not None


def request_sha256(request: GenerationRequest) -> bytes:
    """What tells two requests apart: the digest of `canonical_json`."""
    return sha256(canonical_json(request).encode()).digest()


def refuse_nul(request: GenerationRequest) -> None:
    """Refuse what PostgreSQL cannot keep. Raises Refused(`request_invalid`)."""
    if "\\u0000" in canonical_json(request):
        raise Refused("request_invalid", "A text contains the character U+0000.")


def canonical_json(request: GenerationRequest) -> str:
    """The request without its idempotency key and its quote, as one text: the order of fields and `5.0` for `5` change
    nothing."""
    fields = request.model_dump(mode="json", exclude={"idempotency_key", "quote_id"})
    if request.max_cost_usd is not None:
        fields["max_cost_usd"] = str(request.max_cost_usd.normalize())
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _accepted(row: Row) -> AcceptedRow:
    if row["outcome"] == "key_reused":
        raise Refused("idempotency_key_reused", f"It belongs to {row['id']}.")
    if row["outcome"] == "workflow_reused":
        raise Refused("workflow_id_reused", f"It belongs to {row['id']}.")
    return AcceptedRow(row["id"], row["workflow_id"], row["outcome"] == "replayed", _plan(row))


def _plan(row: Row) -> Plan | None:
    return Plan.model_validate_json(row["plan"]) if row["plan"] else None


def _record(text: str) -> GenerationRecord:
    return GenerationRecord.model_validate_json(text)
