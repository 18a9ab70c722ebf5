"""The ledger's callback inbox, and the one question that only the gateway asks of it."""

from typing import Final

from onetake.gateway.wakes import Wake
from onetake.ledger.callbacks import Callbacks
from onetake.ledger.database import Database

# The newest first: a workflow that is gone before its generation ended must not keep the others from being woken.
_UNSIGNALLED: Final = """
select token_sha256, generation_id, attempt, workflow_id, claimed_task_id
from (
    select distinct on (i.token_sha256)
        i.token_sha256, t.generation_id, t.attempt, g.workflow_id, i.claimed_task_id, i.last_seen_at
    from onetake.callback_inbox i
    join onetake.callback_token t using (token_sha256)
    join onetake.generation g on g.id = t.generation_id
    where i.signalled_at is null
      and i.last_seen_at < now() - make_interval(secs => $1)
      and g.phase <> 'done'
    order by i.token_sha256, i.last_seen_at desc
) newest
order by last_seen_at desc
limit $2
"""


class StoredCallbacks(Callbacks):
    """The inbox as the gateway needs it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._inbox = database

    async def unsignalled(self, *, older_than_s: float, limit: int) -> list[Wake]:
        """The newest callback of each token that never woke its workflow, while the generation goes on."""
        return [Wake(**dict(row)) for row in await self._inbox.rows(_UNSIGNALLED, older_than_s, limit)]
