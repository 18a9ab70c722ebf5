"""How fast each vendor may be called, for all workers together: see `47_rates.sql` and `48_line.sql` of the schema."""

from datetime import timedelta

from onetake.ledger.database import Database


class PostgresRates:
    """The port `Rates`. Each call is one statement, which counts what it allows."""

    def __init__(self, database: Database, *, time_scale: float = 1.0) -> None:
        self._database = database
        self._scale = time_scale

    async def read_turn_s(self, vendor: str, *, returning: bool = False, behind: bool = False) -> float:
        """See `onetake.core.ports.Rates`. Raises TryLater(`ledger_unavailable`), as all do."""
        sql = "select onetake.take_call($1, 'read', $2, $3, $4) as wait_s"
        return await self._seconds(sql, vendor, returning, behind, self._scale)

    async def read_refused(self, vendor: str, silence_s: float | None) -> float:
        sql = "select onetake.slow_down($1, 'read', $2, $3) as wait_s"
        return await self._seconds(sql, vendor, _interval(silence_s), self._scale)

    async def submit_turn_s(self, vendor: str, generation_id: str, *, returning: bool, gap_s: float) -> float:
        sql = "select onetake.take_submission($1, $2, $3, $4, $5) as wait_s"
        return await self._seconds(sql, vendor, generation_id, returning, gap_s, self._scale)

    async def submission_refused(
        self, vendor: str, generation_id: str, silence_s: float | None, *, gap_s: float
    ) -> float:
        sql = "select onetake.submission_refused($1, $2, $3, $4, $5) as wait_s"
        return await self._seconds(sql, vendor, generation_id, _interval(silence_s), gap_s, self._scale)

    async def _seconds(self, sql: str, *arguments: object) -> float:
        return (await self._database.answer(sql, *arguments))["wait_s"]


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
