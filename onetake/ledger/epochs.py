"""The epochs of the database, and what a failover took: what a run knows is written again."""

import json
from typing import Any, Final

import structlog

from onetake.core.contracts import Restored, RestoreInput
from onetake.ledger.database import Database
from onetake.ledger.generations import request_sha256

_RESTORE: Final = """
select onetake.restore($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) as was_lost
"""

_log: Any = structlog.get_logger(__name__)


class Epochs:
    """The port `Restorations`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> str:
        """The epoch of the database that answers; `unknown` where it does not tell."""
        return (await self._database.answer("select onetake.epoch() as epoch"))["epoch"]

    async def restore(self, order: RestoreInput) -> Restored:
        """Write the generation, its hold with its entry, and its submission, where they are missing. Repeatable.

        No budget and no policy refuses it: what it records has happened. A generation that has ended meanwhile stays as
        it is. An idempotency key that somebody has used since is left to them.
        """
        request, plan = order.request, order.plan
        row = await self._database.answer(
            _RESTORE,
            order.generation_id,
            request.tenant,
            order.workflow_id,
            request.idempotency_key,
            request_sha256(request),
            request.model_dump_json(),
            plan.model_dump_json(),
            plan.route,
            plan.vendor,
            request.user,
            request.feature,
            json.dumps(request.labels),
            order.attempt,
            order.epoch,
            order.submission,
            order.vendor_task_id,
        )
        if row["was_lost"]:
            _log.warning("ledger.restored", generation_id=order.generation_id, detail=", ".join(row["was_lost"]))
        return Restored(was_lost=tuple(row["was_lost"]))
