"""What must hold of the money at every instant, as queries that anybody may ask at any time."""

from datetime import date
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
           (g.plan ->> 'reported_cost_most')::numeric as most,
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
where kind = 'hold' and detail is null and 0 > any (available_micros)  -- what was lost is held again all the same
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
select 'I29 a cost beyond its bound was booked by itself: ' || subject from hold
where posted + coalesce(overrun, 0) > most * amount_micros or decided is null and corrected > most * amount_micros
union all
select 'I10 the generation is not what its correction made of it: ' || g.id
from onetake.correction c join onetake.generation g on g.id = c.generation_id where g.status <> c.to_status
union all
select 'I7 the generation ended and its hold is open: ' || subject from hold where phase = 'done' and state = 'held'
union all
select 'F035 released although something may have been sent: ' || subject from hold
where state = 'released' and sent in ('sending', 'ambiguous') and decided is null
union all
select 'I30 a hold of no generation: ' || h.generation_id from onetake.hold h
where not exists (select from onetake.generation g where g.id = h.generation_id)
union all
select 'I30 an entry of no hold: ' || e.generation_id || ' #' || e.attempt from onetake.event e
where not exists (
    select from onetake.hold h where h.generation_id = e.generation_id and h.attempt = e.attempt)
union all
select 'I1 the balances of window ' || w.id || ' are not the sum of its holds' from onetake.budget_window w
left join used u on u.window_id = w.id
where w.held_micros <> coalesce(u.held, 0) or w.spent_micros <> coalesce(u.spent, 0)
   or w.overrun_micros <> greatest(0, w.held_micros + w.spent_micros - w.limit_micros)
"""


# What the journal, the ends and the corrections say of each key, by one row for each: found without the triggers that
# write `onetake.spend`. `$1` is the first day that is compared; null compares all.
_SPEND: Final = """
with class as (
    select g.*, c.at as corrected_at, coalesce(c.from_status, g.status) as first_status,
           coalesce((select min(e.at) from onetake.event e where e.generation_id = g.id
                     and e.kind in ('post', 'release', 'suspense')), g.ended_at) as counted_at
    from onetake.generation g left join onetake.correction c on c.generation_id = g.id
), booking (at, generation_id, status_class, generations, delivered_ms, held, posted, released, overrun, suspended,
            decided, decided_posted, corrected, reports, reported, reported_held) as (
    select e.at, e.generation_id,
           case when e.kind = 'hold' then 'open' when e.at < c.corrected_at then c.first_status else c.status end, 0, 0,
           case e.kind when 'hold' then e.amount_micros else 0 end,
           case e.kind when 'post' then e.amount_micros else 0 end,
           case e.kind when 'release' then e.amount_micros else 0 end,
           case e.kind when 'overrun' then e.amount_micros else 0 end,
           case e.kind when 'suspense' then e.amount_micros else 0 end,
           case e.kind when 'suspense_resolved' then h.amount_micros else 0 end,
           case e.kind when 'suspense_resolved' then e.amount_micros else 0 end,
           case e.kind when 'correction' then e.amount_micros else 0 end,
           (c.basis = 'vendor_reported' and charged.first)::int,
           case when c.basis = 'vendor_reported' and (charged.first or e.kind = 'overrun')
               then e.amount_micros else 0 end,
           case when c.basis = 'vendor_reported' and charged.first then h.amount_micros else 0 end
    from onetake.event e join class c on c.id = e.generation_id
    join onetake.hold h on h.generation_id = e.generation_id and h.attempt = e.attempt
    cross join lateral (select e.kind in ('post', 'correction')
        or e.kind = 'suspense_resolved' and e.detail ->> 'to' = 'posted' as first) charged
    where $1::date is null or e.at >= $1::date::timestamp at time zone 'UTC'
    union all
    select counted_at, id, first_status, 1, case when corrected_at is null then onetake.delivered_ms(assets) else 0 end,
           0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    from class where phase = 'done' and ($1::date is null
        or ended_at >= ($1::date - 1)::timestamp at time zone 'UTC'
        and counted_at >= $1::date::timestamp at time zone 'UTC')
    union all
    select corrected_at, id, first_status, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    from class where corrected_at >= coalesce($1::date::timestamp at time zone 'UTC', '-infinity')
    union all
    select corrected_at, id, status, 1, onetake.delivered_ms(assets), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    from class where corrected_at >= coalesce($1::date::timestamp at time zone 'UTC', '-infinity')
), journal as (
    select (b.at at time zone 'UTC')::date as day, case when g.tenant in (select tenant from onetake.tenant_zone)
               then onetake.day_of(g.tenant, b.at) else (b.at at time zone 'UTC')::date end as local_day, g.tenant,
           coalesce(g.user_key, '') as user_key, coalesce(g.feature, '') as feature, g.route, g.vendor,
           split_part(g.route, '/', 2) as model, b.status_class,
           array[sum(b.generations), sum(b.delivered_ms), sum(b.held), sum(b.posted), sum(b.released), sum(b.overrun),
                 sum(b.suspended), sum(b.decided), sum(b.decided_posted), sum(b.corrected), sum(b.reports),
                 sum(b.reported), sum(b.reported_held)] as counted
    from booking b join onetake.generation g on g.id = b.generation_id
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9
), rollup as (
    select day, local_day, tenant, user_key, feature, route, vendor, model, status_class,
           array[sum(generations), sum(delivered_ms), sum(held_micros), sum(posted_micros), sum(released_micros),
                 sum(overrun_micros), sum(suspended_micros), sum(decided_micros), sum(decided_posted_micros),
                 sum(corrected_micros), sum(reported_count), sum(reported_micros), sum(reported_held_micros)] as counted
    from onetake.spend where day >= coalesce($1::date, '-infinity') group by 1, 2, 3, 4, 5, 6, 7, 8, 9
)
select concat_ws(' ', 'I2 spend is not what the journal says of', day, tenant, user_key, feature, route, status_class)
    as violation
from journal full join rollup
    using (day, local_day, tenant, user_key, feature, route, vendor, model, status_class)
where coalesce(journal.counted, array_fill(0::numeric, array[13]))
    <> coalesce(rollup.counted, array_fill(0::numeric, array[13]))
"""


async def violations(database: Database) -> list[str]:
    """Every broken rule with its subject; empty when the money is right. Reads all rows: not for a hot path."""
    rows = await database.rows(_VIOLATIONS)
    return [row["violation"] for row in rows] + await violations_of_spend(database)


async def violations_of_spend(database: Database, *, since: date | None = None) -> list[str]:
    """Every key of the rollup that differs from the journal, on all days or since that day in UTC."""
    return [row["violation"] for row in await database.rows(_SPEND, since)]
