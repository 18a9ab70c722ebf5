"""What must hold of the money at every instant, as one query that anybody may ask at any time."""

from typing import Final

from onetake.ledger.database import Database

_VIOLATIONS: Final = """
with journal as (
    select generation_id, attempt,
           sum(amount_micros) filter (where kind = 'hold') as held,
           sum(amount_micros) filter (where kind = 'post') as posted,
           sum(amount_micros) filter (where kind = 'release') as released,
           sum(amount_micros) filter (where kind = 'overrun') as overrun,
           sum(amount_micros) filter (where kind = 'suspense') as suspended,
           sum(amount_micros) filter (where kind = 'suspense_resolved') as decided,
           sum(amount_micros) filter (where kind = 'correction') as corrected
    from onetake.event group by generation_id, attempt
), hold as (
    select h.*, h.generation_id || ' #' || h.attempt as subject, g.phase, s.state as sent, s.sent_at,
           (g.plan -> 'price' ->> 'amount_micros')::bigint as pinned,
           case h.state when 'suspended' then h.amount_micros else coalesce(h.actual_micros, 0) end as spent,
           j.held, j.posted, j.released, j.overrun, j.suspended, j.decided, j.corrected
    from onetake.hold h join onetake.generation g on g.id = h.generation_id
    left join journal j using (generation_id, attempt)
    left join onetake.submission s using (generation_id, attempt)
), used as (
    select window_id, sum(amount_micros) filter (where state = 'held') as held, sum(spent) as spent
    from hold cross join unnest(window_ids) as window_id group by window_id
)
select 'I1 a hold took a budget below zero: ' || generation_id as violation from onetake.event
where kind = 'hold' and 0 > any (available_micros)
union all
select 'I2 the journal does not add up to the hold: ' || subject from hold
where held is distinct from amount_micros
   or state <> 'held' and coalesce(posted, 0) + coalesce(released, 0) + coalesce(suspended, 0) <> amount_micros
   or overrun is not null and posted is distinct from amount_micros
union all
select 'I3 the hold and its journal disagree about its resolution: ' || subject from hold
where state = 'held' and coalesce(posted, released, suspended, decided) is not null
   or state = 'suspended' and (suspended is null or decided is not null)
   or state = 'posted' and actual_micros is distinct from coalesce(corrected, decided, posted + coalesce(overrun, 0))
   or state = 'released' and coalesce(decided, 0) <> 0
   or suspended is not null and coalesce(posted, released) is not null
   or decided is not null and suspended is null
union all
select 'I5 the intent is older than its hold: ' || subject from hold where sent_at < created_at
union all
select 'I28 the hold is not the price that was pinned: ' || subject from hold where amount_micros <> pinned
union all
select 'I10 the generation is not what its correction made of it: ' || g.id
from onetake.correction c join onetake.generation g on g.id = c.generation_id where g.status <> c.to_status
union all
select 'I7 the generation ended and its hold is open: ' || subject from hold where phase = 'done' and state = 'held'
union all
select 'F035 released although something may have been sent: ' || subject from hold
where state = 'released' and sent in ('sending', 'ambiguous') and decided is null
union all
select 'I1 the balances of window ' || w.id || ' are not the sum of its holds' from onetake.budget_window w
left join used u on u.window_id = w.id
where w.held_micros <> coalesce(u.held, 0) or w.spent_micros <> coalesce(u.spent, 0)
   or w.overrun_micros <> greatest(0, w.held_micros + w.spent_micros - w.limit_micros)
"""


async def violations(database: Database) -> list[str]:
    """Every broken rule with its subject; empty when the money is right. Reads all rows: not for a hot path."""
    return [row["violation"] for row in await database.rows(_VIOLATIONS)]
