"""After a failover of the database: what a run knows of its generation is written again."""

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import Restored, RestoreInput
from onetake.core.errors import Failed, TryLater
from onetake.core.ports import Restorations


class Restore:
    """Writes what was lost. Repeatable."""

    def __init__(self, restorations: Restorations) -> None:
        self._restorations = restorations

    @activity.defn(name=names.RESTORE)
    async def restore(self, order: RestoreInput) -> Restored:
        """Write the generation, its hold and its submission where they are missing."""
        try:
            return await self._restorations.restore(order)
        except Failed as failure:  # as a settlement, it is never given up
            raise TryLater("ledger_unavailable", failure.detail) from None
