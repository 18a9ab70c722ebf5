-- Money: budgets and the balances of their windows, holds and their one resolution, and the journal of both.

-- Percentages of a limit, each once, in order.
create function onetake.are_thresholds(p_thresholds smallint[]) returns boolean language sql immutable as $$
    select p_thresholds = array(select distinct t from unnest(p_thresholds) t where t between 1 and 100 order by t)
$$;

-- A policy. No row for a scope means that this scope sets no limit, and neither does one that was removed: it stays,
-- because holds name its windows. Keys of users and features are 'tenant/name'.
create table onetake.budget (
    id           bigint generated always as identity primary key,
    scope        text not null check (scope in ('tenant', 'user', 'feature', 'route', 'vendor')),
    scope_key    text not null,
    period       text not null check (period in ('day', 'month', 'total')),
    limit_micros bigint not null check (limit_micros >= 0),
    time_zone    text not null default 'UTC',
    thresholds   smallint[] not null default '{50,80,100}' check (onetake.are_thresholds(thresholds)),
    removed_at   timestamptz,
    unique (scope, scope_key, period)
);

-- The balances of one budget in one window of time; made on first use, never reset. `overrun_micros` is what is used
-- beyond the limit, exactly: zero unless a vendor charged more than was held, the limit was lowered or more was in use
-- when the budget was made. Holds that are older than the budget are `counted` after it was made. The use at which the
-- next threshold is to be recorded is `next_threshold_micros`: 0 when it is not worked out, null when all are recorded.
create table onetake.budget_window (
    id             bigint generated always as identity primary key,
    budget_id      bigint not null references onetake.budget,
    starts_at      timestamptz not null,
    ends_at        timestamptz not null,
    lock_rank      smallint not null,
    limit_micros   bigint not null check (limit_micros >= 0),
    held_micros    bigint not null default 0 check (held_micros >= 0),
    spent_micros   bigint not null default 0 check (spent_micros >= 0),
    overrun_micros bigint not null default 0 check (overrun_micros >= 0),
    counted        boolean not null default true,
    next_threshold_micros bigint default 0,
    unique (budget_id, starts_at),
    check (starts_at < ends_at),
    check (held_micros + spent_micros <= limit_micros + overrun_micros)
) with (fillfactor = 50);  -- room for the hot row's versions on its own page

-- No foreign keys here and in the journal: each would look up, for each row of a batch, what the function that writes
-- the row has just locked or written. onetake/ledger/invariants.py proves that no row lacks what it belongs to.
create table onetake.hold (
    generation_id text not null,
    attempt       int not null check (attempt > 0),
    amount_micros bigint not null check (amount_micros > 0),
    state         text not null default 'held' check (state in ('held', 'posted', 'released', 'suspended')),
    actual_micros bigint check (actual_micros >= 0),
    window_ids    bigint[] not null,  -- in lock order
    price_version text not null,
    unit          text not null,
    epoch         text not null default onetake.epoch(),  -- of the database that answered that the money is held
    created_at    timestamptz not null default now(),
    resolved_at   timestamptz,
    primary key (generation_id, attempt),
    check ((state = 'posted') = (actual_micros is not null)),
    check ((state = 'held') = (resolved_at is null))
) with (fillfactor = 80);

create trigger hold_is_kept before delete or truncate on onetake.hold
    for each statement execute function onetake.forbid();

create index hold_open on onetake.hold (created_at) where state in ('held', 'suspended');

-- The journal. Its ids are given while the windows are locked, so for each window they are in the order of the changes.
-- `available_micros` is what each window of the hold had left afterwards.
create table onetake.event (
    id               bigint generated always as identity primary key,
    generation_id    text not null,
    attempt          int not null,
    kind             text not null check (kind in
                     ('hold', 'post', 'release', 'overrun', 'suspense', 'review', 'suspense_resolved', 'correction')),
    amount_micros    bigint not null check (amount_micros >= 0),
    available_micros bigint[] not null,
    detail           jsonb,
    at               timestamptz not null default clock_timestamp(),
    unique (generation_id, attempt, kind)
);

-- One resolution: a post may come with the release of the rest, a suspense stands alone.
create unique index event_post_or_suspense on onetake.event (generation_id, attempt) where kind in ('post', 'suspense');
create unique index event_release_or_suspense on onetake.event (generation_id, attempt)
    where kind in ('release', 'suspense');

create trigger event_is_append_only before update or delete or truncate on onetake.event
    for each statement execute function onetake.forbid();

-- The clock of budget windows: the database's, at the start of the transaction, and no worker's.
create function onetake.clock() returns timestamptz language sql stable as 'select now()';

-- When a day begins. Where clocks go back over midnight it comes twice, and PostgreSQL takes the second; twelve hours
-- after noon it is the first.
create function onetake.midnight(p_local timestamp, p_zone text) returns timestamptz language sql stable as $$
    select case when ((p_local - interval '12 hours') at time zone p_zone + interval '12 hours') at time zone p_zone
                     = p_local
        then (p_local - interval '12 hours') at time zone p_zone + interval '12 hours'
        else p_local at time zone p_zone end
$$;

create function onetake.window_start(p_period text, p_zone text, p_at timestamptz) returns timestamptz
language sql stable as $$
    select case p_period
        when 'total' then '-infinity'::timestamptz
        else onetake.midnight(date_trunc(p_period, p_at at time zone p_zone), p_zone)
    end
$$;

create function onetake.window_end(p_period text, p_zone text, p_at timestamptz) returns timestamptz
language sql stable as $$
    select case p_period
        when 'total' then 'infinity'::timestamptz
        else onetake.midnight(
            date_trunc(p_period, p_at at time zone p_zone) + ('1 ' || p_period)::interval, p_zone)
    end
$$;

-- Narrow scopes first, shared ones last, so that the lock that everybody wants is held shortest.
create function onetake.lock_rank(p_scope text) returns smallint language sql immutable as $$
    select array_position(array['user', 'feature', 'tenant', 'route', 'vendor'], p_scope)::smallint
$$;

-- Where budgets may apply. A generation without a user has no key there, and so no budget.
create function onetake.scopes_of(p_tenant text, p_user text, p_feature text, p_route text, p_vendor text)
returns table (scope text, scope_key text) language sql immutable rows 5 as $$
    select s.scope, s.scope_key from (values
        ('user', p_tenant || '/' || p_user), ('feature', p_tenant || '/' || p_feature),
        ('tenant', p_tenant), ('route', p_route), ('vendor', p_vendor)) as s (scope, scope_key)
$$;

-- The key of one scope. Null for a user or a feature that the generation does not name.
create function onetake.key_of(p_scope text, p_generation onetake.generation) returns text language sql immutable as $$
    select case p_scope
        when 'tenant' then (p_generation).tenant
        when 'user' then (p_generation).tenant || '/' || (p_generation).user_key
        when 'feature' then (p_generation).tenant || '/' || (p_generation).feature
        when 'route' then (p_generation).route
        when 'vendor' then (p_generation).vendor end
$$;

-- The budgets of one scope; `window_id` is null where today's window was not made yet. OFFSET 0 keeps each lookup an
-- index scan: a planner that joins them reads the whole table.
create function onetake.windows_of(p_scope text, p_scope_key text)
returns table (budget_id bigint, window_id bigint, lock_rank smallint, room_micros bigint)
language sql stable rows 1 as $$
    select b.id, w.id, w.lock_rank, w.limit_micros - w.held_micros - w.spent_micros
    from onetake.budget b
    left join onetake.budget_window w
        on w.budget_id = b.id and w.starts_at = onetake.window_start(b.period, b.time_zone, onetake.clock())
    where b.scope = p_scope and b.scope_key = p_scope_key and b.removed_at is null
    offset 0
$$;

-- The share lock makes a limit that is being changed wait or be seen.
create function onetake.open_windows(p_budget_ids bigint[]) returns void language sql as $$
    insert into onetake.budget_window (budget_id, starts_at, ends_at, lock_rank, limit_micros)
    select b.id, onetake.window_start(b.period, b.time_zone, onetake.clock()),
           onetake.window_end(b.period, b.time_zone, onetake.clock()), onetake.lock_rank(b.scope), b.limit_micros
    from (select * from onetake.budget where id = any (p_budget_ids)
          order by onetake.lock_rank(scope), id for share) b
    on conflict do nothing
$$;

create function onetake.refusal(p_window_id bigint, p_needed bigint, p_available bigint) returns jsonb
language sql stable as $$
    select jsonb_build_object(
        'scope', b.scope, 'scope_key', b.scope_key, 'period', b.period,
        'needed_micros', p_needed, 'available_micros', p_available,
        'starts_again_at', case when w.ends_at < 'infinity' then w.ends_at end)
    from onetake.budget_window w join onetake.budget b on b.id = w.budget_id where w.id = p_window_id
$$;

-- Make or change a limit; returns the windows whose older holds are to be counted now (`count_holds`). A limit below
-- what is in use books the difference as overrun, so that only new reservations are refused. A budget that is new, was
-- removed or moves to another time zone has holds that do not name its open window. The window that opens within a
-- minute is made too: a reservation may begin in it before this commits.
create function onetake.set_budget(
    p_scope text, p_scope_key text, p_period text, p_limit bigint, p_time_zone text, p_thresholds smallint[])
returns bigint[] language plpgsql as $$
declare
    v_before onetake.budget;
    v_budget_id bigint;
    v_knew_all boolean;
begin
    select * into v_before from onetake.budget b
    where b.scope = p_scope and b.scope_key = p_scope_key and b.period = p_period for no key update;
    v_knew_all := found and v_before.removed_at is null and v_before.time_zone = p_time_zone;
    insert into onetake.budget as b (scope, scope_key, period, limit_micros, time_zone, thresholds)
    values (p_scope, p_scope_key, p_period, p_limit, p_time_zone, p_thresholds)
    on conflict (scope, scope_key, period) do update
    set limit_micros = p_limit, time_zone = p_time_zone, thresholds = p_thresholds, removed_at = null
    returning b.id into v_budget_id;
    perform from onetake.budget_window w where w.budget_id = v_budget_id and w.ends_at > onetake.clock()
    order by w.lock_rank, w.id for no key update;
    update onetake.budget_window w
    set limit_micros = p_limit, overrun_micros = greatest(0, w.held_micros + w.spent_micros - p_limit),
        next_threshold_micros = 0
    where w.budget_id = v_budget_id and w.ends_at > onetake.clock();
    if not v_knew_all then
        insert into onetake.budget_window as w (budget_id, starts_at, ends_at, lock_rank, limit_micros, counted)
        select distinct v_budget_id, onetake.window_start(p_period, p_time_zone, moment),
               onetake.window_end(p_period, p_time_zone, moment), onetake.lock_rank(p_scope), p_limit, false
        from unnest(array[onetake.clock(), onetake.clock() + interval '1 minute']) as moment
        on conflict (budget_id, starts_at) do update set ends_at = excluded.ends_at, counted = false;
    end if;
    return array(select w.id from onetake.budget_window w where w.budget_id = v_budget_id and not w.counted
                 and w.ends_at > onetake.clock() order by w.id);
end $$;

-- Link the holds whose reservation lies in the window, and which do not name it, to that window, and add them to its
-- balances: one page of all holds, in the order of their keys. Returns the last key of the page; null at the end.
--
-- Each hold is counted once. Reservations that began after `set_budget` committed find the budget and count themselves;
-- those that began before have ended, because the caller waits for them. So the holds that this looks for are all
-- committed and grow no more, and reservations need neither a lock nor a look for it. A settlement locks its hold before
-- it reads the hold's windows, as this does: it comes before, and its result is counted, or after, and moves the window.
-- The locks are taken in the documented order: holds, then the window.
create function onetake.count_holds(
    p_window_id bigint, p_after_id text, p_after_attempt int, p_page int, out last_id text, out last_attempt int)
language plpgsql as $$
declare
    v_window onetake.budget_window;
    v_budget onetake.budget;
    v_held bigint;
    v_spent bigint;
begin
    select * into strict v_window from onetake.budget_window w where w.id = p_window_id;
    select * into strict v_budget from onetake.budget b where b.id = v_window.budget_id;
    select page.generation_id, page.attempt into last_id, last_attempt
    from (
        select h.generation_id, h.attempt from onetake.hold h
        where (h.generation_id, h.attempt) > (p_after_id, p_after_attempt)
        order by h.generation_id, h.attempt limit p_page) page
    order by page.generation_id desc, page.attempt desc limit 1;
    if not found then
        update onetake.budget_window w set counted = true where w.id = p_window_id;
        return;
    end if;
    with older as (
        select h.generation_id, h.attempt from onetake.hold h join onetake.generation g on g.id = h.generation_id
        where (h.generation_id, h.attempt) > (p_after_id, p_after_attempt)
          and (h.generation_id, h.attempt) <= (last_id, last_attempt)
          and h.created_at >= v_window.starts_at and h.created_at < v_window.ends_at
          and onetake.key_of(v_budget.scope, g) = v_budget.scope_key
          and p_window_id <> all (h.window_ids)
        order by h.generation_id, h.attempt for no key update of h
    ), linked as (
        update onetake.hold h
        set window_ids = array(
            select w.id from onetake.budget_window w where w.id = any (h.window_ids || p_window_id)
            order by w.lock_rank, w.id)
        from older o where h.generation_id = o.generation_id and h.attempt = o.attempt
        returning h.state, h.amount_micros, h.actual_micros
    )
    select coalesce(sum(l.amount_micros) filter (where l.state = 'held'), 0),
           coalesce(sum(case l.state when 'suspended' then l.amount_micros else coalesce(l.actual_micros, 0) end), 0)
    into v_held, v_spent from linked l;
    perform onetake.move_balances(array[p_window_id], v_held, v_spent);
end $$;

-- outcome: held (also on a repeat), refused, ended (the generation is over) or unknown (no such generation). The row of
-- the generation is locked, so that an end and a second reservation wait, but not changed: `generation_record` shows
-- what a hold says of its phase.
create function onetake.reserve(
    p_generation_id text, p_attempt int, p_tenant text, p_user text, p_feature text, p_route text, p_vendor text,
    p_amount bigint, p_unit text, p_price_version text,
    out outcome text, out held_micros bigint, out budget_count int, out refusal jsonb, out epoch text)
language plpgsql as $$
#variable_conflict use_column
declare
    v_phase onetake.phase;
    v_windows bigint[];
    v_missing bigint[];
    v_tightest bigint;
    v_room bigint;
    v_rooms bigint[];
begin
    select g.phase, h.amount_micros, cardinality(h.window_ids), h.epoch
    into v_phase, held_micros, budget_count, epoch
    from onetake.generation g left join onetake.hold h on h.generation_id = g.id and h.attempt = p_attempt
    where g.id = p_generation_id;
    outcome := case when v_phase is null then 'unknown' when v_phase = 'done' then 'ended'
        when held_micros is not null then 'held' end;
    if outcome is not null then
        return;
    end if;

    loop
        select array_agg(w.window_id order by w.lock_rank, w.window_id),
               array_agg(w.budget_id) filter (where w.window_id is null),
               (array_agg(w.window_id order by w.room_micros))[1], min(w.room_micros)
        into v_windows, v_missing, v_tightest, v_room
        from onetake.scopes_of(p_tenant, p_user, p_feature, p_route, p_vendor) s
        cross join lateral onetake.windows_of(s.scope, s.scope_key) w;
        exit when v_missing is null;
        perform from onetake.generation g where g.id = p_generation_id for no key update;  -- keeps the order of locks
        perform onetake.open_windows(v_missing);
    end loop;
    if v_room < p_amount then  -- without a lock: a moment at which the budget was exhausted is a valid one to refuse
        outcome := 'refused'; refusal := onetake.refusal(v_tightest, p_amount, v_room); return;
    end if;

    perform from onetake.generation g where g.id = p_generation_id and g.phase <> 'done' for no key update;
    if not found then
        outcome := 'ended'; return;
    end if;
    select h.amount_micros, cardinality(h.window_ids), h.epoch into held_micros, budget_count, epoch
    from onetake.hold h where h.generation_id = p_generation_id and h.attempt = p_attempt;
    if found then  -- made while the lock was waited for
        outcome := 'held'; return;
    end if;
    select array_agg(locked.room order by locked.lock_rank, locked.id),
           (array_agg(locked.id order by locked.room))[1], min(locked.room)
    into v_rooms, v_tightest, v_room
    from (
        select w.id, w.lock_rank, w.limit_micros - w.held_micros - w.spent_micros as room
        from onetake.budget_window w
        where w.id = any (v_windows) order by w.lock_rank, w.id for no key update) locked;
    if v_room < p_amount then
        outcome := 'refused'; refusal := onetake.refusal(v_tightest, p_amount, v_room); return;
    end if;
    epoch := onetake.epoch();
    with held as (
        insert into onetake.hold (generation_id, attempt, amount_micros, window_ids, price_version, unit, epoch)
        values (p_generation_id, p_attempt, p_amount, coalesce(v_windows, '{}'), p_price_version, p_unit, epoch)
    ), logged as (
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros)
        values (p_generation_id, p_attempt, 'hold', p_amount,
                array(select r.room - p_amount from unnest(v_rooms) with ordinality as r (room, n) order by r.n))
    )
    update onetake.budget_window w set held_micros = w.held_micros + p_amount where w.id = any (v_windows);
    outcome := 'held'; held_micros := p_amount; budget_count := coalesce(cardinality(v_windows), 0);
end $$;

-- Many reservations in one transaction, so that they share one lock hand-off and one flush. Each is admitted or refused
-- on its own, in the order given; the same key may occur twice. Outcomes as above, one row for each item; with
-- p_skip_locked also `locked`: somebody else holds its generation or one of its windows, which are not waited for.
create function onetake.reserve_many(
    p_generation_ids text[], p_attempts int[], p_tenants text[], p_users text[], p_features text[], p_routes text[],
    p_vendors text[], p_amounts bigint[], p_units text[], p_price_versions text[],
    p_skip_locked boolean)
returns table (item int, outcome text, held_micros bigint, budget_count int, refusal jsonb, epoch text)
language plpgsql
set plan_cache_mode = force_generic_plan  -- or it plans anew for each batch, which takes longer than to run it
as $$
#variable_conflict use_column
declare
    v_open text[];           -- generations that have not ended and are locked now, by this call
    v_new int[];             -- items that have no hold yet, in order
    v_missing bigint[];
    v_slot_window bigint[];  -- the windows of all items, in lock order,
    v_before bigint[];       --   what each had left; null when somebody else holds it,
    v_room bigint[];         --   and has left
    v_pair_item int[];       -- pairs (item, window), ordered by item and lock order: the item,
    v_pair_slot int[];       --   the window's place in the three arrays above,
    v_pair_window bigint[];  --   the window,
    v_pair_after bigint[];   --   and what it had left after this item
    v_first int[] := array_fill(null::int, array[cardinality(p_generation_ids)]);  -- the first pair of an item,
    v_last int[] := v_first;                                                       --   and its last when it is admitted
    v_refused_by bigint[] := array_fill(null::bigint, array[cardinality(p_generation_ids)]);
    v_refused_room bigint[] := v_refused_by;
    v_item int;
    v_pair int := 1;
    v_fits boolean;
    v_admitted int := 0;
    v_epoch text := onetake.epoch();
begin
    if p_skip_locked then
        v_open := array(
            select g.id from onetake.generation g where g.id = any (p_generation_ids) and g.phase <> 'done'
            order by g.id for no key update skip locked);
    else
        v_open := array(
            select g.id from onetake.generation g where g.id = any (p_generation_ids) and g.phase <> 'done'
            order by g.id for no key update);
    end if;
    select array_agg(fresh.item order by fresh.item) into v_new
    from (
        select distinct on (i.generation_id, i.attempt) i.item::int
        from unnest(p_generation_ids, p_attempts) with ordinality as i (generation_id, attempt, item)
        where i.generation_id = any (v_open) and not exists (
            select from onetake.hold h where h.generation_id = i.generation_id and h.attempt = i.attempt)
        order by i.generation_id, i.attempt, i.item) fresh;

    loop
        with scope as (
            select s.scope, s.scope_key, array_agg(i.item) as items from unnest(v_new) as i (item)
            cross join lateral onetake.scopes_of(
                p_tenants[i.item], p_users[i.item], p_features[i.item], p_routes[i.item], p_vendors[i.item]) s
            group by s.scope, s.scope_key
        ), slot as materialized (
            select s.items, w.budget_id, w.window_id,
                   (row_number() over (order by w.lock_rank, w.window_id))::int as slot
            from scope s cross join lateral onetake.windows_of(s.scope, s.scope_key) w
        ), pair as (
            select item, slot.slot, slot.window_id from slot cross join unnest(slot.items) as item)
        select array_agg(pair.item order by pair.item, pair.slot), array_agg(pair.slot order by pair.item, pair.slot),
               array_agg(pair.window_id order by pair.item, pair.slot),
               (select array_agg(slot.window_id order by slot.slot) from slot),
               (select array_agg(slot.budget_id) from slot where slot.window_id is null)
        into v_pair_item, v_pair_slot, v_pair_window, v_slot_window, v_missing from pair;
        exit when v_missing is null;
        perform onetake.open_windows(v_missing);
    end loop;

    if p_skip_locked then
        with free as (
            select w.id, w.limit_micros - w.held_micros - w.spent_micros as room from onetake.budget_window w
            where w.id = any (v_slot_window) order by w.lock_rank, w.id for no key update skip locked)
        select array_agg(free.room order by slot.number) into v_before
        from unnest(v_slot_window) with ordinality as slot (id, number) left join free using (id);
    else
        select array_agg(locked.room order by locked.lock_rank, locked.id) into v_before
        from (
            select w.id, w.lock_rank, w.limit_micros - w.held_micros - w.spent_micros as room
            from onetake.budget_window w
            where w.id = any (v_slot_window) order by w.lock_rank, w.id for no key update) locked;
    end if;
    v_room := v_before;
    v_pair_after := v_pair_window;
    foreach v_item in array coalesce(v_new, '{}') loop
        v_first[v_item] := v_pair;
        v_fits := true;
        while v_pair_item[v_pair] = v_item loop
            if v_room[v_pair_slot[v_pair]] is null then
                v_fits := false;
            elsif v_room[v_pair_slot[v_pair]] < p_amounts[v_item] then
                v_fits := false;
                if v_refused_by[v_item] is null then
                    v_refused_by[v_item] := v_pair_window[v_pair];
                    v_refused_room[v_item] := v_room[v_pair_slot[v_pair]];
                end if;
            end if;
            v_pair := v_pair + 1;
        end loop;
        if v_fits then
            v_last[v_item] := v_pair - 1;
            v_admitted := v_admitted + 1;
            for v_admit in v_first[v_item] .. v_pair - 1 loop
                v_room[v_pair_slot[v_admit]] := v_room[v_pair_slot[v_admit]] - p_amounts[v_item];
                v_pair_after[v_admit] := v_room[v_pair_slot[v_admit]];
            end loop;
        end if;
    end loop;

    with admitted as materialized (
        select a.*, v_pair_window[a.first:a.last] as windows, v_pair_after[a.first:a.last] as available
        from unnest(p_generation_ids, p_attempts, p_amounts, p_price_versions, p_units, v_first, v_last) with ordinality
            as a (generation_id, attempt, amount, price_version, unit, first, last, item)
        where a.last is not null
    ), held as (
        insert into onetake.hold (generation_id, attempt, amount_micros, window_ids, price_version, unit, epoch)
        select a.generation_id, a.attempt, a.amount, coalesce(a.windows, '{}'), a.price_version, a.unit, v_epoch
        from admitted a
    ), logged as (
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros)
        select a.generation_id, a.attempt, 'hold', a.amount, coalesce(a.available, '{}') from admitted a
        order by a.item
    )
    update onetake.budget_window w set held_micros = w.held_micros + t.before - t.after
    from unnest(v_slot_window, v_before, v_room) as t (window_id, before, after)
    where w.id = t.window_id and t.before > t.after;

    if v_admitted = cardinality(p_generation_ids) then
        return query
        select a.item::int, 'held', a.amount, a.last - a.first + 1, null::jsonb, v_epoch
        from unnest(p_amounts, v_first, v_last) with ordinality as a (amount, first, last, item) order by a.item;
        return;
    end if;
    return query
    select i.item::int,
           case when g.id is null then 'unknown' when g.phase = 'done' then 'ended'
                when h.generation_id is not null then 'held'
                when v_refused_by[i.first] is null then 'locked' else 'refused' end,
           h.amount_micros, cardinality(h.window_ids),
           case when h.generation_id is null and g.phase <> 'done' and v_refused_by[i.first] is not null
                then onetake.refusal(v_refused_by[i.first], p_amounts[i.item], v_refused_room[i.first]) end,
           h.epoch
    from (
        select k.*, (min(k.item) over (partition by k.generation_id, k.attempt))::int as first
        from unnest(p_generation_ids, p_attempts) with ordinality as k (generation_id, attempt, item)) i
    left join onetake.generation g on g.id = i.generation_id
    left join onetake.hold h on h.generation_id = i.generation_id and h.attempt = i.attempt
    order by i.item;
end $$;

-- Move the balances of a hold's windows, in lock order; what each has left afterwards.
create function onetake.move_balances(p_window_ids bigint[], p_held bigint, p_spent bigint) returns bigint[]
language plpgsql as $$
declare
    v_window bigint;
    v_room bigint;
    v_available bigint[] := '{}';
begin
    foreach v_window in array p_window_ids loop
        update onetake.budget_window w
        set held_micros = w.held_micros + p_held, spent_micros = w.spent_micros + p_spent,
            overrun_micros = greatest(0, w.held_micros + p_held + w.spent_micros + p_spent - w.limit_micros)
        where w.id = v_window returning w.limit_micros - w.held_micros - w.spent_micros into strict v_room;
        v_available := v_available || v_room;
    end loop;
    return v_available;
end $$;

create function onetake.state_after(p_resolution text) returns text language sql immutable as $$
    select case p_resolution when 'post' then 'posted' when 'release' then 'released' when 'suspend' then 'suspended'
    end
$$;

create function onetake.resolve_hold(p_hold onetake.hold, p_resolution text, p_actual bigint) returns void
language plpgsql as $$
declare
    v_amount bigint := p_hold.amount_micros;
    v_actual bigint := coalesce(p_actual, p_hold.amount_micros);
    v_available bigint[] := onetake.move_balances(p_hold.window_ids, -v_amount,
        case p_resolution when 'post' then v_actual when 'suspend' then v_amount else 0 end);
begin
    update onetake.hold h
    set state = onetake.state_after(p_resolution),
        actual_micros = case p_resolution when 'post' then v_actual end, resolved_at = now()
    where h.generation_id = p_hold.generation_id and h.attempt = p_hold.attempt;
    insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros)
    select p_hold.generation_id, p_hold.attempt, e.kind, e.amount, v_available
    from (values
        ('post', 'post', least(v_actual, v_amount), true),
        ('post', 'release', v_amount - v_actual, v_actual < v_amount),
        ('post', 'overrun', v_actual - v_amount, v_actual > v_amount),
        ('release', 'release', v_amount, true),
        ('suspend', 'suspense', v_amount, true)) as e (resolution, kind, amount, applies)
    where e.resolution = p_resolution and e.applies;
end $$;
