"""The passes of the reconciler, noted in one row: `onetake doctor` reads how long the last good one is ago."""

from dataclasses import dataclass
from datetime import datetime

from onetake.ledger.database import Database

_LAST = """
select good_at, extract(epoch from clock_timestamp() - good_at)::float8 as age_s, looked_at, found, failed_at, error
from onetake.pass
"""


@dataclass(frozen=True)
class LastPass:
    """`age_s`: seconds since the last pass without an error, None when there was none yet. `error` is the last pass's,
    None when that was good."""

    good_at: datetime | None
    age_s: float | None
    looked_at: int
    found: int
    failed_at: datetime | None
    error: str | None


class Passes:
    """Notes passes and reads the last."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, *, looked_at: int, found: int, error: str | None) -> None:
        """Write down how a pass ended. Raises TryLater(`ledger_unavailable`)."""
        await self._database.row("select onetake.note_pass($1, $2, $3)", looked_at, found, error)

    async def last(self) -> LastPass | None:
        """The last pass; None when none was ever made. Raises TryLater(`ledger_unavailable`)."""
        row = await self._database.row(_LAST)
        return LastPass(**dict(row)) if row else None
