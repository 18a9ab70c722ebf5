"""The control of the reservations: the functions of an earlier experiment (`control.sql`), in the same run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.stack import BenchError
from onetake.core.contracts import ReserveInput
from onetake.ledger.combining import Combining
from onetake.ledger.database import Database, connect_once

_SQL: Final = Path(__file__).with_name("control.sql")
_EACH: Final = 4


class Control:
    """Reserves in the control's own tables: by a call each, or by the combining writer's batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.combined = Combining(self._together)

    @classmethod
    async def prepared(cls, database: Database, url: str) -> "Control":
        """Make its tables in the database at `url`, which `database` is on."""
        session = await connect_once(url)
        await session.execute(_SQL.read_text(encoding="utf-8"))
        await session.close()
        return cls(database)

    async def one(self, order: ReserveInput) -> None:
        row = await self._database.answer(
            "select control.reserve($1, $2, $3) as held", _uuid(order), order.price.amount_micros, _windows(order)
        )
        if not row["held"]:
            raise BenchError("the control refused a reservation")

    async def _together(self, orders: list[ReserveInput]) -> Sequence[bool]:
        row = await self._database.answer(
            "select control.reserve_many($1, $2, $3, $4) as held",
            [_uuid(order) for order in orders],
            [order.price.amount_micros for order in orders],
            [window for order in orders for window in _windows(order)],
            _EACH,
        )
        return row["held"]


def _uuid(order: ReserveInput) -> str:
    return order.generation_id.removeprefix("gen_")


def _windows(order: ReserveInput) -> list[int]:
    """Of its user, route, feature and tenant, in lock order."""
    user, feature = order.user or "", order.feature or ""
    return [10000 + int(user[1:]), 20000 + int(order.route[1:]), 30000 + int(feature[1:]), 40000]
