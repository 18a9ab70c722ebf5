-- Thresholds: the shares of a budget's limit whose crossing is recorded, once a window.

-- Written by the transaction that crosses, while it holds the window's lock: no two write one key, and none waits.
-- `used_micros` is what was held and spent then. `logged_at` is null until a pass of the reconciler has logged it.
create table onetake.budget_threshold (
    window_id    bigint not null references onetake.budget_window,
    percent      smallint not null check (percent between 1 and 100),
    used_micros  bigint not null,
    limit_micros bigint not null,
    reached_at   timestamptz not null default clock_timestamp(),
    logged_at    timestamptz,
    primary key (window_id, percent),
    check (used_micros::numeric * 100 >= limit_micros::numeric * percent)
);

create index budget_threshold_unlogged on onetake.budget_threshold (reached_at) where logged_at is null;

create trigger budget_threshold_is_kept before delete or truncate on onetake.budget_threshold
    for each statement execute function onetake.forbid();

-- A record changes once: it is logged.
create trigger budget_threshold_is_logged_once before update on onetake.budget_threshold for each row
    when (old.logged_at is not null or (new.window_id, new.percent, new.used_micros, new.limit_micros, new.reached_at)
          is distinct from (old.window_id, old.percent, old.used_micros, old.limit_micros, old.reached_at))
    execute function onetake.forbid();

-- The use that reaches a threshold: of a limit of zero, the first micro.
create function onetake.threshold_micros(p_limit bigint, p_percent int) returns bigint language sql immutable as $$
    select greatest(1, ceil(p_limit::numeric * p_percent / 100))::bigint
$$;

-- Record what the window's use has reached, and work out what comes next. A limit or thresholds that are being changed
-- were committed before this has the window's lock, or wait for it and come here again.
create function onetake.record_thresholds() returns trigger language plpgsql as $$
begin
    insert into onetake.budget_threshold (window_id, percent, used_micros, limit_micros)
    select new.id, t.percent, new.held_micros + new.spent_micros, new.limit_micros
    from onetake.budget b cross join unnest(b.thresholds) as t (percent)
    where b.id = new.budget_id and b.removed_at is null
      and new.held_micros + new.spent_micros >= onetake.threshold_micros(new.limit_micros, t.percent)
    on conflict do nothing;
    new.next_threshold_micros := (
        select min(onetake.threshold_micros(new.limit_micros, t.percent))
        from onetake.budget b cross join unnest(b.thresholds) as t (percent)
        where b.id = new.budget_id and b.removed_at is null and not exists (
            select from onetake.budget_threshold r where r.window_id = new.id and r.percent = t.percent));
    return new;
end $$;

create trigger budget_window_records_thresholds before update on onetake.budget_window for each row
    when (new.held_micros + new.spent_micros >= new.next_threshold_micros)
    execute function onetake.record_thresholds();

-- Take what nobody has logged yet, oldest first: whoever takes it logs it.
create function onetake.take_thresholds(p_limit int)
returns table (scope text, scope_key text, period text, percent smallint, used_micros bigint, limit_micros bigint,
               starts_at timestamptz, reached_at timestamptz)
language sql as $$
    with due as (
        select t.window_id, t.percent from onetake.budget_threshold t
        where t.logged_at is null order by t.reached_at limit p_limit for update skip locked
    ), taken as (
        update onetake.budget_threshold t set logged_at = clock_timestamp()
        from due d where t.window_id = d.window_id and t.percent = d.percent returning t.*
    )
    select b.scope, b.scope_key, b.period, t.percent, t.used_micros, t.limit_micros, nullif(w.starts_at, '-infinity'),
           t.reached_at
    from taken t
    join onetake.budget_window w on w.id = t.window_id
    join onetake.budget b on b.id = w.budget_id
    order by t.reached_at, b.id, t.percent
$$;

-- `reached_percent` is the highest threshold that the open window has reached: as it was recorded, or as what is held
-- and spent says now, also in a window that nobody has used.
create view onetake.budget_balance as
select b.scope, b.scope_key as key, b.period, b.time_zone, b.thresholds, b.limit_micros, used.held_micros,
       used.spent_micros, used.overrun_micros, b.limit_micros - used.micros as available_micros,
       greatest(0, (
           select max(t) from unnest(b.thresholds) as t
           where used.micros >= onetake.threshold_micros(b.limit_micros, t)),
           (select max(r.percent) from onetake.budget_threshold r where r.window_id = w.id)) as reached_percent,
       nullif(onetake.window_start(b.period, b.time_zone, onetake.clock()), '-infinity') as starts_at,
       nullif(onetake.window_end(b.period, b.time_zone, onetake.clock()), 'infinity') as ends_at
from onetake.budget b
left join onetake.budget_window w
    on w.budget_id = b.id and w.starts_at = onetake.window_start(b.period, b.time_zone, onetake.clock())
cross join lateral (
    select coalesce(w.held_micros, 0) as held_micros, coalesce(w.spent_micros, 0) as spent_micros,
           coalesce(w.overrun_micros, 0) as overrun_micros,
           coalesce(w.held_micros + w.spent_micros, 0) as micros) used
where b.removed_at is null;
