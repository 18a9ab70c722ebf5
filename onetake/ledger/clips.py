"""What the rows of generations say of the clips in the bucket, for the one who sweeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from onetake.core.names import TERMINAL
from onetake.ledger.database import Database

_OWNERS: Final = """
select g.id, g.status, g.error ->> 'code' as error_code,
       array(select a ->> 'key' from jsonb_array_elements(g.assets) a) as keys
from onetake.generation g where g.id = any($1)
"""


@dataclass(frozen=True)
class Owner:
    """A generation to which objects belong: whether it has ended, why it failed, and the keys of its assets."""

    has_ended: bool
    error_code: str | None
    keys: frozenset[str]


class Clips:
    """Reads whose clips are whose."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owners(self, generation_ids: Sequence[str]) -> Mapping[str, Owner]:
        """Those of these generations that have a row."""
        rows = await self._database.rows(_OWNERS, list(generation_ids))
        return {row["id"]: Owner(row["status"] in TERMINAL, row["error_code"], frozenset(row["keys"])) for row in rows}
