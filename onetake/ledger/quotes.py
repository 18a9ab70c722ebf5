"""The quotes: prices that hold for a quarter of an hour by the database's clock."""

from datetime import datetime
from typing import Final

from onetake.core.contracts import GenerationRequest, Plan
from onetake.ledger.database import Database
from onetake.ledger.generations import refuse_nul, request_sha256

FORGOTTEN_AT_ONCE: Final = 5000


class PostgresQuotes:
    """Writes quotes and forgets old ones; `onetake.ledger.terms` reads them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def make(self, quote_id: str, request: GenerationRequest, plan: Plan) -> datetime:
        """Keep the plan for this request of this tenant. Returns when the quote expires.

        Raises Refused(`request_invalid`) for a NUL, and TryLater(`ledger_unavailable`).
        """
        refuse_nul(request)
        row = await self._database.answer(
            "select onetake.make_quote($1, $2, $3, $4) as expires_at",
            quote_id,
            request.tenant,
            request_sha256(request),
            plan.model_dump_json(),
        )
        return row["expires_at"]

    async def forget(self) -> int:
        """Delete quotes that expired more than a day ago, at most `FORGOTTEN_AT_ONCE`. Returns how many. Repeatable."""
        row = await self._database.answer("select onetake.forget_quotes($1) as count", FORGOTTEN_AT_ONCE)
        return int(row["count"])
