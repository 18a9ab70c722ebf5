"""What the database promises about what it has answered: whether a crash, or a failover, can undo it."""

from typing import Final

from onetake.core.contracts import Value
from onetake.ledger.database import Database

UNKNOWN_EPOCH: Final = "unknown"

# `reset_val` is what the server's configuration says: our own sessions do not go by `off`. Without the role pg_monitor
# the standbys can be counted, and what they are is null.
_DURABILITY: Final = """
select onetake.epoch() as epoch, current_setting('fsync') = 'on' as flushes,
       (select reset_val from pg_settings where name = 'synchronous_commit') as synchronous_commit,
       current_setting('synchronous_standby_names') as synchronous_standby_names,
       (select count(*) from pg_stat_replication) as standbys,
       (select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum')) as synchronous,
       (select count(*) from pg_stat_replication where sync_state is null) as hidden
"""


class Durability(Value):
    """How the database keeps what it has answered. `standbys` counts those that stream from it now, `synchronous` those
    of them that a commit waits for; what `hidden` ones are may not be seen by our user."""

    epoch: str
    flushes: bool
    synchronous_commit: str
    synchronous_standby_names: str
    standbys: int
    synchronous: int
    hidden: int

    @property
    def found(self) -> str:
        """It in words."""
        if not self.standbys:
            standbys = "no standby streams from it"
        elif self.hidden:
            standbys = f"{self.standbys} standbys stream from it; our user may not see how"
        else:
            others = self.standbys - self.synchronous
            standbys = f"{self.synchronous} synchronous and {others} asynchronous standbys stream from it"
        names = f", synchronous_standby_names = '{self.synchronous_standby_names}'"
        return f"synchronous_commit = {self.synchronous_commit}{names}; {standbys}"

    @property
    def doubts(self) -> tuple[str, ...]:
        """What can undo an answer, or hide that it was undone; empty when nothing is known to."""
        awaits = self.synchronous_commit in {"on", "remote_write", "remote_apply"} and self.synchronous_standby_names
        doubts = {
            "fsync = off: a crash of its machine can lose or damage everything": not self.flushes,
            "a failover to an asynchronous standby loses the last commits": bool(self.standbys) and not awaits,
            "it does not tell its timeline, so that a failover cannot be noticed": self.epoch == UNKNOWN_EPOCH,
        }
        return tuple(words for words, is_so in doubts.items() if is_so)


FIX: Final = (
    "Name a standby in synchronous_standby_names, with synchronous_commit = on; otherwise run `onetake reconcile"
    " --after-failover` after each failover."
)


async def durability_of(database: Database) -> Durability:
    """Ask the database. Raises TryLater(`ledger_unavailable`)."""
    return Durability.model_validate(dict(await database.answer(_DURABILITY)))
