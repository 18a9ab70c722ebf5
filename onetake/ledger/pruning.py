"""Forgets what callbacks left, long after their generations ended. Money and submissions stay for good."""

from typing import Final

from onetake.core.contracts import Value
from onetake.ledger.database import Database

PAGE: Final = 1000

# The same rows that the function takes, without taking them.
_COUNT: Final = """
select count(distinct t.token_sha256) as tokens, count(i.id) as callbacks
from onetake.callback_token t join onetake.generation g on g.id = t.generation_id
left join onetake.callback_inbox i on i.token_sha256 = t.token_sha256
where g.phase = 'done' and greatest(g.ended_at, t.created_at) < now() - $1::int * interval '1 day'
  and not exists (select from onetake.hold h where h.generation_id = g.id and h.state in ('held', 'suspended'))
  and not exists (select from onetake.callback_inbox n where n.token_sha256 = t.token_sha256
                  and n.last_seen_at >= now() - $1::int * interval '1 day')
"""


class Pruned(Value):
    """How many tokens of callbacks, and callbacks that came to them, are gone, or would be."""

    tokens: int
    callbacks: int


async def prune(database: Database, *, days: int, dry_run: bool) -> Pruned:
    """Forget the callbacks of generations that ended so many days ago and owe nothing. Repeatable, in small pieces.

    With `dry_run` it only counts. Raises TryLater(`ledger_unavailable`); what was forgotten until then stays so.
    """
    if dry_run:
        return Pruned(**dict(await database.answer(_COUNT, days)))
    tokens, callbacks = 0, 0
    while True:
        row = await database.answer("select * from onetake.prune_callbacks($1, $2)", days, PAGE)
        tokens, callbacks = tokens + row["tokens"], callbacks + row["callbacks"]
        if row["tokens"] < PAGE:
            return Pruned(tokens=tokens, callbacks=callbacks)
