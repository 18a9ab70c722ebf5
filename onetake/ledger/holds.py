"""Holds and their one resolution.

A budget's row is locked until its commit is on disk, so reservations on one budget that commit one by one are as slow
as the disk. Those that wait at the same time are therefore combined.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import structlog

from onetake.core.contracts import (
    CorrectInput,
    GenerationRecord,
    GenerationResult,
    Reserved,
    ReserveInput,
    SettleInput,
    Value,
)
from onetake.core.errors import Failed, NoMoney, Refused
from onetake.core.money import format_usd
from onetake.ledger.combining import Combining
from onetake.ledger.database import Database, Row

_RESERVE: Final = "select * from onetake.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_RESERVE_MANY: Final = "select * from onetake.reserve_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

_log: Any = structlog.get_logger(__name__)


class Entry(Value):
    """One line of the journal. `available_micros` is what each budget of the hold had left afterwards."""

    id: int
    generation_id: str
    attempt: int
    kind: Literal["hold", "post", "release", "overrun", "suspense", "suspense_resolved", "correction"]
    amount_micros: int
    available_micros: tuple[int, ...]
    detail: dict[str, str] | None = None
    at: datetime


class Refusal(Value):
    """Which budget refused, and by how much."""

    scope: str
    scope_key: str
    period: str
    needed_micros: int
    available_micros: int
    starts_again_at: datetime | None = None

    def __str__(self) -> str:
        again = (
            f"starts again at {self.starts_again_at:%Y-%m-%d %H:%M %Z}" if self.starts_again_at else "never restarts"
        )
        return (
            f"The {self.period} budget of {self.scope} {self.scope_key} has {format_usd(self.available_micros)} left, "
            f"{format_usd(self.needed_micros)} is needed; it {again}."
        )


class PostgresLedger:
    """The port `Ledger`, and the decisions and reports about money that people ask for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._combined = Combining(self._reserve)

    async def reserve(self, order: ReserveInput) -> Reserved:
        """Hold the price on every budget that applies, or on none; the same (generation, attempt) keeps its first hold.

        A scope without a budget sets no limit. Raises NoMoney naming the budget, Refused(`canceled`) when the
        generation has ended, Refused(`generation_not_found`), Refused(`settings_invalid`) for a price of zero.
        """
        if order.price.amount_micros <= 0:
            raise Refused("settings_invalid", f"The price of {order.route} must be above zero.")
        return _reserved(order, await self._combined(order))

    async def settle(self, order: SettleInput) -> GenerationResult:
        """Resolve the hold and end the generation in one transaction, once; a repeat returns the first result.

        `post` posts `actual_micros` (None: what was held), releases the rest or books the overrun. `none` and `release`
        of a submission that is `sending` or `ambiguous`, and `none` of an accepted one, suspend instead: the cost
        shows it. `none` otherwise releases a hold whose reservation the caller never heard of.
        Raises Refused(`generation_not_found`).
        """
        row = await self._database.answer(
            "select note, record::text from onetake.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            order.generation_id,
            order.attempt,
            order.status,
            order.resolution,
            order.actual_micros,
            order.basis,
            order.error.model_dump_json() if order.error else None,
            _json_array(order.assets),
            _json_array(order.warnings),
            order.vendor_task_id,
        )
        if row["note"] not in ("settled", "repeated"):
            _log.warning(f"ledger.settle_{row['note']}", generation_id=order.generation_id, detail=order.resolution)
        return GenerationResult.model_validate_json(_found(row, order.generation_id))

    async def resolve_suspense(
        self,
        generation_id: str,
        attempt: int,
        *,
        to: Literal["posted", "released"],
        who: str,
        why: str,
        actual_micros: int | None = None,
    ) -> GenerationRecord:
        """Decide a hold in suspense, once; a repeat returns the first decision. `actual_micros` None posts what was
        held. Raises Refused(`generation_not_found`), Refused(`usage`) when the hold is not in suspense."""
        row = await self._database.answer(
            "select note, record::text from onetake.resolve_suspense($1, $2, $3, $4, $5, $6)",
            generation_id,
            attempt,
            to,
            actual_micros,
            who,
            why,
        )
        if row["note"] == "differs":
            _log.warning("ledger.resolve_suspense_differs", generation_id=generation_id, detail=to)
        if row["note"] == "not_suspended":
            raise Refused("usage", f"The amount of {generation_id} is not in suspense.")
        return GenerationRecord.model_validate_json(_found(row, generation_id))

    async def decide(self, order: CorrectInput) -> GenerationRecord | None:
        """`resolve_suspense` for a recovery, by whom and why it says; None when the hold is not in suspense."""
        try:
            return await self.resolve_suspense(
                order.generation_id,
                order.attempt,
                to="released" if order.resolution == "release" else "posted",
                who=order.who,
                why=order.why,
                actual_micros=order.actual_micros,
            )
        except Refused as refusal:
            if refusal.code != "usage":
                raise
            return None

    async def entries(self, generation_id: str) -> Sequence[Entry]:
        """The journal of one generation, oldest first; empty for an unknown one."""
        rows = await self._database.rows(
            "select to_jsonb(e)::text as entry from onetake.event e where generation_id = $1 order by id", generation_id
        )
        return [Entry.model_validate_json(row["entry"]) for row in rows]

    async def _reserve(self, orders: list[ReserveInput]) -> list[Row]:
        if len(orders) == 1:
            rows = await self._database.rows(_RESERVE, *_arguments(orders[0]))
        else:
            rows = await self._database.rows(_RESERVE_MANY, *zip(*map(_arguments, orders), strict=True))
        return rows


def _arguments(order: ReserveInput) -> tuple[object, ...]:
    return (
        order.generation_id,
        order.attempt,
        order.tenant,
        order.user,
        order.feature,
        order.route,
        order.vendor,
        order.price.amount_micros,
        order.price.unit,
        order.price.table_version,
    )


def _reserved(order: ReserveInput, row: Row) -> Reserved:
    match row["outcome"]:
        case "held":
            if row["held_micros"] != order.price.amount_micros:
                _log.warning("ledger.reserve_differs", generation_id=order.generation_id)
            return Reserved(amount_micros=row["held_micros"], budgets=row["budget_count"])
        case "refused":
            raise NoMoney(str(Refusal.model_validate_json(row["refusal"])))
        case "ended":
            raise Refused("canceled", f"{order.generation_id} has ended.")
        case "unknown":
            raise Refused("generation_not_found", order.generation_id)
        case outcome:
            raise Failed("internal_error", f"The database answered {outcome!r} to a reservation.")


def _found(row: Row, generation_id: str) -> str:
    if row["record"] is None:
        raise Refused("generation_not_found", generation_id)
    return row["record"]


def _json_array(values: Sequence[Value]) -> str:
    return f"[{','.join(value.model_dump_json() for value in values)}]"
