"""Holds and their one resolution.

A budget's row is locked until its commit is on disk, so reservations on one budget that commit one by one are as slow
as the disk. Those that wait at the same time are therefore combined. Where a lock is held for long, only the tenants
that need it wait (`lanes.py`).
"""

import asyncio
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
from onetake.ledger.combining import LARGEST_BATCH, Combining
from onetake.ledger.database import Database, Locked, Row
from onetake.ledger.lanes import Lanes

_RESERVE: Final = "select * from onetake.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_RESERVE_MANY: Final = "select * from onetake.reserve_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
_SETTLE: Final = "select note, record::text from onetake.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
_STUCK: Final[Row] = {"outcome": "stuck"}

_log: Any = structlog.get_logger(__name__)


class Entry(Value):
    """One line of the journal. `available_micros` is what each budget of the hold had left afterwards."""

    id: int
    generation_id: str
    attempt: int
    kind: Literal["hold", "post", "release", "overrun", "suspense", "review", "suspense_resolved", "correction"]
    amount_micros: int
    available_micros: tuple[int, ...]
    detail: dict[str, str | int] | None = None
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
        self._reserving = Lanes(LARGEST_BATCH)
        self._alone = asyncio.Semaphore(max(1, database.size // 2))
        self._settling = Lanes(max(1, database.size - 1))  # settlements leave a connection to reservations

    async def reserve(self, order: ReserveInput) -> Reserved:
        """Hold the price on every budget that applies, or on none; the same (generation, attempt) keeps its first hold.

        A scope without a budget sets no limit. Raises NoMoney naming the budget, Refused(`canceled`) when the
        generation has ended, Refused(`generation_not_found`), Refused(`settings_invalid`) for a price of zero.
        """
        if order.price.amount_micros <= 0:
            raise Refused("settings_invalid", f"The price of {order.route} must be above zero.")

        async def quick() -> Row:
            row = await self._combined(order)
            if row["outcome"] == "stuck":
                raise Locked
            return await self._reserve_alone(order) if row["outcome"] == "locked" else row

        async def slow() -> Row:
            (row,) = await self._database.slowly(_RESERVE, *_arguments(order))
            return row

        return _reserved(order, await self._reserving.run(order.tenant, quick, slow))

    async def settle(self, order: SettleInput) -> GenerationResult:
        """Resolve the hold and end the generation in one transaction, once; a repeat returns the first result.

        `post` posts `actual_micros` (None: what was held), releases the rest or books the overrun. Beyond the plan's
        `reported_cost_most` it suspends instead and records both figures. `none` and `release`
        of a submission that is `sending` or `ambiguous`, and `none` of an accepted one, suspend instead: the cost
        shows it. `none` otherwise releases a hold whose reservation the caller never heard of. When the database has
        failed over since the hold, the submission is first brought to what the run knows of it, and is in doubt where
        the run knows nothing. Raises Refused(`generation_not_found`), Failed(`records_lost`) when the hold is missing.
        """
        arguments = _settlement(order)
        (row,) = await self._settling.run(
            order.tenant,
            lambda: self._database.quickly(_SETTLE, *arguments),
            lambda: self._database.slowly(_SETTLE, *arguments),
        )
        if row["note"] == "lost":
            raise Failed("records_lost")
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
        """Resolve a hold in suspense by a vendor's late answer, once; None when it is not in suspense.

        An `actual_micros` beyond the plan's `reported_cost_most` stays in suspense, with both figures in the journal.
        Raises Refused(`generation_not_found`).
        """
        row = await self._database.answer(
            "select note, record::text from onetake.decide_late($1, $2, $3, $4, $5, $6, $7)",
            order.generation_id,
            order.attempt,
            "released" if order.resolution == "release" else "posted",
            order.actual_micros,
            order.who,
            order.why,
            order.basis,
        )
        record = GenerationRecord.model_validate_json(_found(row, order.generation_id))
        if row["note"] in ("in_review", "differs"):
            _log.warning(
                f"ledger.decide_late_{row['note']}", generation_id=order.generation_id, detail=order.resolution
            )
        return None if row["note"] == "not_suspended" else record

    async def entries(self, generation_id: str) -> Sequence[Entry]:
        """The journal of one generation, oldest first; empty for an unknown one."""
        rows = await self._database.rows(
            "select to_jsonb(e)::text as entry from onetake.event e where generation_id = $1 order by id", generation_id
        )
        return [Entry.model_validate_json(row["entry"]) for row in rows]

    async def _reserve(self, orders: list[ReserveInput]) -> list[Row]:
        stuck = [self._reserving.is_stuck(order.tenant) for order in orders]
        free = [order for order, is_stuck in zip(orders, stuck, strict=True) if not is_stuck]
        rows = iter(await self._reserve_together(free))
        return [_STUCK if is_stuck else next(rows) for is_stuck in stuck]

    async def _reserve_alone(self, order: ReserveInput) -> Row:
        """After a batch has skipped it: what was locked for a moment is had now. Raises Locked when it is not."""
        async with self._alone:
            if self._reserving.is_stuck(order.tenant):
                raise Locked
            (row,) = await self._database.quickly(_RESERVE, *_arguments(order))
            return row

    async def _reserve_together(self, orders: list[ReserveInput]) -> list[Row]:
        if not orders:
            return []
        if len(orders) == 1:
            return await self._database.quickly(_RESERVE, *_arguments(orders[0]))
        columns = list(zip(*map(_arguments, orders), strict=True))
        try:
            return await self._database.quickly(_RESERVE_MANY, *columns, False)
        except Locked:
            return await self._database.quickly(_RESERVE_MANY, *columns, True)


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


def _settlement(order: SettleInput) -> tuple[object, ...]:
    return (
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
        order.epoch,
        order.submission,
    )


def _reserved(order: ReserveInput, row: Row) -> Reserved:
    match row["outcome"]:
        case "held":
            if row["held_micros"] != order.price.amount_micros:
                _log.warning("ledger.reserve_differs", generation_id=order.generation_id)
            return Reserved(amount_micros=row["held_micros"], budgets=row["budget_count"], epoch=row["epoch"])
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
