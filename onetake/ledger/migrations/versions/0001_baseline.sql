-- Frozen: the schema as the first migration makes it. Today's is onetake/ledger/schema/*.sql.

-- Generations: accepted once, moved forward only.
--
-- Locks are always taken in one order, so that no two calls wait for each other: generation, submission, hold, then
-- budget windows by (lock_rank, id).

-- In the order in which a generation lives, so that phases compare with < and greatest().
create type onetake.phase as enum (
    'accepted', 'validating', 'reserving', 'submitting', 'resolving', 'generating', 'persisting', 'settling', 'done'
);

create table onetake.generation (
    id               text primary key check (id ~ '^gen_[0-9a-f-]{36}$'),
    tenant           text not null,
    workflow_id      text not null unique,
    origin_run_id    text,
    idempotency_key  text,
    request_sha256   bytea not null check (octet_length(request_sha256) = 32),
    request          jsonb not null,
    plan             jsonb,
    route            text not null,
    vendor           text not null,
    user_key         text,
    feature          text,
    labels           jsonb not null default '{}',
    status           text not null default 'queued'
                     check (status in ('queued', 'in_progress', 'completed', 'failed', 'canceled')),
    phase            onetake.phase not null default 'accepted',
    error            jsonb,
    vendor_task_id   text,
    assets           jsonb not null default '[]',
    warnings         jsonb not null default '[]',
    basis            text not null default 'estimate' check (basis in ('estimate', 'vendor_reported', 'pinned_price')),
    cancel_requested boolean not null default false,
    parent_id        text references onetake.generation,
    created_at       timestamptz not null default now(),
    pinned_at        timestamptz,  -- of a plan that came after the row
    updated_at       timestamptz not null default now(),
    ended_at         timestamptz,
    check ((phase = 'done') = (status in ('completed', 'failed', 'canceled'))),
    check ((phase = 'done') = (ended_at is not null))
) with (fillfactor = 80);

create unique index generation_idempotency_key on onetake.generation (tenant, idempotency_key)
    where idempotency_key is not null;
create index generation_newest_of_tenant on onetake.generation (tenant, created_at desc, id desc);
create index generation_newest on onetake.generation (created_at desc, id desc);
create index generation_failed on onetake.generation ((error ->> 'code'), created_at desc, id desc)
    where error ->> 'code' is not null;
create index generation_open on onetake.generation (created_at desc, id desc) where status in ('queued', 'in_progress');
create index generation_open_of_tenant on onetake.generation (tenant) where status in ('queued', 'in_progress');
create index generation_pinned_later on onetake.generation (pinned_at, tenant) where pinned_at is not null;
create index generation_parent on onetake.generation (parent_id) where parent_id is not null;

-- The second barrier behind the functions, whoever writes.
create function onetake.forbid() returns trigger language plpgsql as $$
begin
    raise exception 'onetake: % of % is forbidden: %', tg_op, tg_table_name, tg_name using errcode = 'OT001';
end $$;

create trigger generation_is_kept before delete or truncate on onetake.generation
    for each statement execute function onetake.forbid();

-- A phase never moves back. An end changes only from failed to completed, and only as its correction says.
create function onetake.guard_generation() returns trigger language plpgsql as $$
begin
    if new.phase < old.phase or not exists (
        select from onetake.correction c where c.generation_id = new.id
        and c.from_status = old.status and c.to_status = new.status) then
        raise exception 'onetake: update of generation is forbidden: %', tg_name using errcode = 'OT001';
    end if;
    return new;
end $$;

create trigger generation_only_moves_forward before update on onetake.generation for each row
    when (new.phase < old.phase or (old.phase = 'done' and new.status <> old.status))
    execute function onetake.guard_generation();

-- Raises OT403 when a limit that the plan carries allows no more.
-- outcome: created, replayed, key_reused or workflow_reused, with the row that decided it. A run id and a plan are kept
-- from the first call that brings one; `plan` is the one that is kept. The parent is the generation that is rendered
-- again.
create function onetake.accept(
    p_id text, p_tenant text, p_workflow_id text, p_run_id text, p_key text, p_request_sha256 bytea, p_request jsonb,
    p_plan jsonb, p_route text, p_vendor text, p_user text, p_feature text, p_labels jsonb, p_parent_id text,
    out outcome text, out id text, out workflow_id text, out plan jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
    v_row onetake.generation;
begin
    perform onetake.lock_limits(p_plan);
    insert into onetake.generation (id, tenant, workflow_id, origin_run_id, idempotency_key, request_sha256, request,
        plan, route, vendor, user_key, feature, labels, parent_id, status)
    values (p_id, p_tenant, p_workflow_id, p_run_id, p_key, p_request_sha256, p_request, p_plan, p_route, p_vendor,
        p_user, p_feature, p_labels, p_parent_id, case when p_run_id is null then 'queued' else 'in_progress' end)
    on conflict do nothing;
    if found then
        perform onetake.keep_limits(p_id, p_plan);
        outcome := 'created'; id := p_id; workflow_id := p_workflow_id; plan := p_plan; return;
    end if;

    select * into v_row from onetake.generation g where g.workflow_id = p_workflow_id for no key update;
    if found then
        outcome := case
            when v_row.request_sha256 <> p_request_sha256 and v_row.tenant = p_tenant and v_row.idempotency_key = p_key
                then 'key_reused'
            when v_row.request_sha256 <> p_request_sha256 or v_row.origin_run_id <> p_run_id then 'workflow_reused'
            else 'replayed' end;
    else
        select * into v_row from onetake.generation g
        where g.tenant = p_tenant and g.idempotency_key = p_key for no key update;
        if found then  -- a workflow of its own may not stand in for the generation that owns the key
            outcome := case when v_row.request_sha256 = p_request_sha256 and p_run_id is null
                then 'replayed' else 'key_reused' end;
        else
            select * into strict v_row from onetake.generation g where g.id = p_id;
            outcome := 'workflow_reused';
        end if;
    end if;
    id := v_row.id; workflow_id := v_row.workflow_id; plan := v_row.plan;
    if outcome = 'replayed' then
        plan := coalesce(v_row.plan, p_plan);
        update onetake.generation g
        set origin_run_id = coalesce(g.origin_run_id, p_run_id), plan = coalesce(g.plan, p_plan),
            pinned_at = case when g.plan is null and p_plan is not null then now() else g.pinned_at end,
            status = case when g.status = 'queued' and p_run_id is not null then 'in_progress' else g.status end,
            updated_at = now()
        where g.id = v_row.id
          and (g.origin_run_id is null and p_run_id is not null or g.plan is null and p_plan is not null);
        if v_row.plan is null then
            perform onetake.keep_limits(v_row.id, p_plan);
        end if;
    end if;
end $$;

-- Keep the plan that is stored, with the given kinds of references; store the given plan where there is none. Returns
-- what is stored; null for an unknown generation. An attempt at validation that was only stopped may come late: what
-- the run goes by already is not touched. Raises OT403 when a limit that a first plan carries allows no more.
create function onetake.pin(p_id text, p_plan jsonb) returns jsonb language plpgsql as $$
declare
    v_before jsonb;
    v_plan jsonb;
begin
    select g.plan into v_before from onetake.generation g where g.id = p_id;
    if v_before is null then
        perform onetake.lock_limits(p_plan);
    end if;
    select g.plan into v_before from onetake.generation g where g.id = p_id for no key update;
    update onetake.generation g
    set plan = case
            when g.plan is null then p_plan
            when exists (select from onetake.hold h where h.generation_id = p_id) then g.plan
            else jsonb_set(g.plan, '{reference_kinds}', p_plan -> 'reference_kinds') end,
        pinned_at = case when g.plan is null then now() else g.pinned_at end, updated_at = now()
    where g.id = p_id returning g.plan into v_plan;
    if v_before is null then
        perform onetake.keep_limits(p_id, v_plan);
    end if;
    return v_plan;
end $$;

-- The epoch: which life of the database this is.

-- It changes with the server, and with its timeline: that is, when a standby is promoted, or a copy is restored up to some
-- moment. Both may lack the last commits that were answered before. 'unknown' where the server does not tell its own. The
-- timeline is that of the next record, which a promotion changes at once; the control file follows with a checkpoint.
create function onetake.epoch() returns text language plpgsql stable as $$
begin
    return (select c.system_identifier from pg_control_system() c) || '-'
        || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
exception when others then  -- a service that keeps these functions to itself, or a standby
    return 'unknown';
end $$;

-- Tenants: where their days and months begin.

-- A zone counts for the months that begin a day or more after it was set, in any zone's calendar, so that a month that
-- has begun keeps its bounds. One set since '-infinity' counts for all months: nothing had been booked.
create table onetake.tenant_zone (
    tenant    text not null,
    since     timestamptz not null default clock_timestamp(),
    id        bigint generated always as identity,
    time_zone text not null,
    primary key (tenant, since, id)
);

create trigger tenant_zone_is_append_only before update or delete or truncate on onetake.tenant_zone
    for each statement execute function onetake.forbid();

-- The zone of the month that begins with p_month: the last one set a day before it began in UTC, so before it began
-- anywhere.
create function onetake.zone_of(p_tenant text, p_month date) returns text language sql stable as $$
    select coalesce((
        select z.time_zone from onetake.tenant_zone z
        where z.tenant = p_tenant and z.since < (p_month - 1)::timestamp at time zone 'UTC'
        order by z.since desc, z.id desc limit 1), 'UTC')
$$;

-- When a tenant's month begins; p_month is its first day.
create function onetake.month_start(p_tenant text, p_month date) returns timestamptz language sql stable as $$
    select p_month::timestamp at time zone onetake.zone_of(p_tenant, p_month)
$$;

-- The day of a moment in a tenant's calendar. Where its zone changes between two months, the last day of the one or the
-- first of the other is longer or shorter, so that every moment has one day and its month.
create function onetake.day_of(p_tenant text, p_at timestamptz) returns date language sql stable as $$
    select greatest(m.month, least(
        (m.month + interval '1 month')::date - 1, (p_at at time zone onetake.zone_of(p_tenant, m.month))::date))
    from (select (date_trunc('month', p_at, 'UTC') at time zone 'UTC' + n * interval '1 month')::date as month
          from generate_series(-1, 1) as n) m
    where onetake.month_start(p_tenant, m.month) <= p_at
    order by m.month desc limit 1
$$;

-- Between a zone that is set and a tenant's bookings: whoever books shares it, whoever sets a zone has it alone.
create function onetake.zone_lock(p_tenant text) returns bigint language sql immutable as $$
    select hashtextextended('onetake.tenant_zone ' || p_tenant, 0)
$$;

-- Set a tenant's zone; returns since when it counts. The zone that was set last is not set again. A tenant of which
-- nothing is booked yet has it from ever.
create function onetake.set_zone(p_tenant text, p_time_zone text) returns timestamptz language plpgsql as $$
declare
    v_last onetake.tenant_zone;
    v_since timestamptz;
begin
    perform pg_advisory_xact_lock(onetake.zone_lock(p_tenant));
    select * into v_last from onetake.tenant_zone z where z.tenant = p_tenant order by z.id desc limit 1;
    if v_last.time_zone = p_time_zone then
        return v_last.since;
    end if;
    v_since := case when exists (
        select from onetake.generation g where g.tenant = p_tenant and (
            g.phase = 'done' or exists (select from onetake.event e where e.generation_id = g.id)))
        then clock_timestamp() else '-infinity' end;
    insert into onetake.tenant_zone (tenant, since, time_zone) values (p_tenant, v_since, p_time_zone);
    return v_since;
end $$;

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

-- Submissions: the intent before each POST, its outcome, and what callbacks say of it.

-- The intent: committed before the first byte leaves. It needs a hold, so nothing unpaid can be sent.
create table onetake.submission (
    generation_id   text not null,
    attempt         int not null,
    vendor          text not null,
    state           text not null default 'sending'
                    check (state in ('sending', 'not_sent', 'accepted', 'rejected', 'ambiguous')),
    request_sha256  bytea not null check (octet_length(request_sha256) = 32),
    seed            bigint,
    account         jsonb,        -- what the vendor said of our account just before the POST
    account_at      timestamptz,  -- when nothing else of ours was under way there, before it was asked
    vendor_task_id  text,
    error           jsonb,
    reported_micros bigint,
    posts           int not null default 1,
    sent_at         timestamptz not null default clock_timestamp(),
    was_lost        boolean not null default false,  -- a run told of it after a failover: sent_at is when
    decided_at      timestamptz,
    primary key (generation_id, attempt),
    foreign key (generation_id, attempt) references onetake.hold,
    unique (vendor, vendor_task_id),
    check (state <> 'accepted' or vendor_task_id is not null),
    check ((account is null) = (account_at is null))
);

create index submission_of_vendor on onetake.submission (vendor, sent_at);

create function onetake.submission_may_become(p_from text, p_to text) returns boolean language sql immutable as $$
    select p_from = p_to or (p_from, p_to) in (
        ('sending', 'not_sent'), ('sending', 'accepted'), ('sending', 'rejected'), ('sending', 'ambiguous'),
        ('not_sent', 'sending'), ('ambiguous', 'accepted'), ('ambiguous', 'rejected'))
$$;

create trigger submission_moves_as_allowed before update on onetake.submission for each row
    when (not onetake.submission_may_become(old.state, new.state)) execute function onetake.forbid();

-- One for each address for callbacks that a vendor was given. A submission without one was given none.
create table onetake.callback_token (
    token_sha256  bytea primary key check (octet_length(token_sha256) = 32),
    generation_id text not null,
    attempt       int not null,
    post          int not null,
    created_at    timestamptz not null default now(),
    wake_after    timestamptz,  -- no gateway signals for it before then
    foreign key (generation_id, attempt) references onetake.submission
);
create index callback_token_of_submission on onetake.callback_token (generation_id, attempt);

-- What vendors, or somebody who has a token, told us. Nothing in it is believed. Equal bodies are counted in one row.
create table onetake.callback_inbox (
    id              bigint generated always as identity primary key,
    token_sha256    bytea not null references onetake.callback_token,
    vendor          text not null,
    claimed_task_id text check (length(claimed_task_id) <= 256),
    claimed_state   text check (length(claimed_state) <= 64),
    body_sha256     bytea not null check (octet_length(body_sha256) = 32),
    size_bytes      bigint not null,
    seen            bigint not null default 1,
    received_at     timestamptz not null default now(),
    last_seen_at    timestamptz not null default now(),
    signalled_at    timestamptz,
    unique (token_sha256, body_sha256)
);
create index callback_inbox_unsignalled on onetake.callback_inbox (last_seen_at) where signalled_at is null;

-- Whether no other submission can have moved our balance at the vendor since then. Only what ended well before, or was
-- refused before, is over: a job that failed, was canceled or given up may still be refunded, for a day, and so may a
-- submission that the vendor charged before the provider behind it refused the content or failed.
create function onetake.account_is_ours_alone(
    p_vendor text, p_since timestamptz, p_generation_id text, p_attempt int) returns boolean language sql volatile as $$
    select not exists (
        select from onetake.submission s join onetake.generation g on g.id = s.generation_id
        where s.vendor = p_vendor and s.sent_at > p_since - interval '1 day'
          and (s.generation_id, s.attempt) is distinct from (p_generation_id, p_attempt)
          and not (s.state in ('rejected', 'not_sent') and s.decided_at < p_since
              and coalesce(s.error ->> 'code', '') not in ('content_rejected', 'vendor_failed'))
          and not (g.status = 'completed' and g.ended_at < p_since and not exists (
              select from onetake.event e
              where e.generation_id = s.generation_id and e.attempt = s.attempt and e.at >= p_since)))
$$;

-- fresh: this call moved the row to `sending`, and nobody else may send; `post` counts the POSTs, this one included.
-- canceled: nothing was sent, and nothing will be. state is null when nothing was ever sent. The account is for a vendor
-- whose balance can prove something. p_epoch is that of the hold, as the run was told. In another one, whoever may have
-- been sent already (p_may_be_sent) is in doubt, whatever stands here; lost: there is no hold here, or no generation.
create function onetake.begin_submission(
    p_generation_id text, p_attempt int, p_vendor text, p_token_sha256 bytea, p_request_sha256 bytea, p_seed bigint,
    p_account jsonb, p_account_at timestamptz, p_epoch text, p_may_be_sent boolean,
    out fresh boolean, out state text, out vendor_task_id text, out error jsonb, out reported_micros bigint,
    out post int, out canceled boolean, out lost boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    v_phase onetake.phase;
    v_canceled boolean;
    v_post int;
begin
    select g.phase, g.cancel_requested into v_phase, v_canceled
    from onetake.generation g where g.id = p_generation_id for no key update;
    lost := v_phase is distinct from 'done' and not exists (
            select from onetake.hold h where h.generation_id = p_generation_id and h.attempt = p_attempt)
        and p_epoch <> onetake.epoch();
    if lost then
        return;
    elsif p_may_be_sent and p_epoch <> onetake.epoch() and v_phase <> 'done' then
        perform onetake.relearn(p_generation_id, p_attempt, p_vendor, p_request_sha256, 'ambiguous', null);
    end if;
    if v_phase <> 'done' and not v_canceled then
        insert into onetake.submission as s
            (generation_id, attempt, vendor, request_sha256, seed, account, account_at)
        values (p_generation_id, p_attempt, p_vendor, p_request_sha256, p_seed, p_account, p_account_at)
        on conflict (generation_id, attempt) do update
        set state = 'sending', posts = s.posts + 1, sent_at = clock_timestamp(), decided_at = null, error = null,
            vendor = p_vendor, request_sha256 = p_request_sha256, seed = p_seed, account = p_account,
            account_at = p_account_at
        where s.state = 'not_sent'
        returning s.posts into v_post;
    end if;
    fresh := v_post is not null;
    post := v_post;
    if fresh then
        insert into onetake.callback_token (token_sha256, generation_id, attempt, post)
        select p_token_sha256, p_generation_id, p_attempt, v_post where p_token_sha256 is not null;
        update onetake.generation g
        set phase = greatest(g.phase, 'submitting'), status = 'in_progress', updated_at = now()
        where g.id = p_generation_id and g.phase < 'submitting';
    end if;
    select s.state, s.vendor_task_id, s.error, s.reported_micros into state, vendor_task_id, error, reported_micros
    from onetake.submission s where s.generation_id = p_generation_id and s.attempt = p_attempt;
    canceled := v_canceled and not fresh and coalesce(state = 'not_sent', true);
end $$;

-- Compare and set: what is stored afterwards, which another call may have decided; state is null when nothing was
-- begun, or what was is lost. An outcome counts for the POST that it is about (null: for the last); where only an
-- earlier one stands here, a failover lost that POST's intent. An attempt that was only stopped may
-- still say of an earlier POST that nothing was sent; taken for the present one, that would let a third be sent. An
-- acceptance always counts. note: recorded; earlier (a later POST has begun); taken (another submission owns the
-- vendor's id). After the last two nothing was changed.
create function onetake.record_submission(
    p_generation_id text, p_attempt int, p_post int, p_state text, p_vendor_task_id text, p_error jsonb,
    p_reported_micros bigint,
    out note text, out state text, out vendor_task_id text, out error jsonb, out reported_micros bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    v_posts int;
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    select s.posts into v_posts from onetake.submission s
    where s.generation_id = p_generation_id and s.attempt = p_attempt;
    note := case when v_posts > p_post and p_state <> 'accepted' then 'earlier' else 'recorded' end;
    if v_posts < p_post then
        update onetake.submission s set state = 'sending', posts = p_post, decided_at = null, error = null
        where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state = 'not_sent';
    end if;
    if note = 'recorded' then
        update onetake.submission s
        set state = p_state, vendor_task_id = p_vendor_task_id, error = p_error, reported_micros = p_reported_micros,
            decided_at = clock_timestamp()
        where s.generation_id = p_generation_id and s.attempt = p_attempt
          and s.state <> p_state and p_state <> 'sending' and onetake.submission_may_become(s.state, p_state);
        if found and p_state in ('accepted', 'ambiguous') then
            update onetake.generation g
            set phase = greatest(
                    g.phase, (case p_state when 'accepted' then 'generating' else 'resolving' end)::onetake.phase),
                vendor_task_id = coalesce(p_vendor_task_id, g.vendor_task_id), updated_at = now()
            where g.id = p_generation_id;
        end if;
    end if;
    select s.state, s.vendor_task_id, s.error, s.reported_micros into state, vendor_task_id, error, reported_micros
    from onetake.submission s where s.generation_id = p_generation_id and s.attempt = p_attempt;
exception when unique_violation then  -- of (vendor, vendor_task_id): what this block changed is undone
    note := 'taken';
end $$;

-- After a failover: what was committed and answered in an older epoch, and is not here, is written again.
--
-- A run knows its request, its plan, the epoch of its hold and what became of its submission. What it knows is a fact, so
-- nothing here is refused: the money is spent, whatever a budget says. All of it is repeatable.

-- Bring the intent row to what the run knows. An intent that is absent here, or whose last POST was turned away, proves
-- nothing in another epoch than that of its hold: a later one may have been lost. An acceptance without its id is in doubt
-- until it is recorded. Needs the generation's lock, and a hold.
create function onetake.relearn(
    p_generation_id text, p_attempt int, p_vendor text, p_request_sha256 bytea, p_sent text, p_vendor_task_id text)
returns void language plpgsql as $$
declare
    v_task_id text := nullif(p_vendor_task_id, '');
    v_sent text := case when p_sent in ('rejected', 'not_sent') or p_sent = 'accepted' and v_task_id is not null
                        then p_sent else 'ambiguous' end;
begin
    if v_sent = 'not_sent' then
        return;
    end if;
    insert into onetake.submission as s
        (generation_id, attempt, vendor, request_sha256, state, vendor_task_id, was_lost, decided_at)
    values (p_generation_id, p_attempt, p_vendor, p_request_sha256, v_sent, v_task_id, true, clock_timestamp())
    on conflict (generation_id, attempt) do nothing;
    if not found then
        update onetake.submission s
        set state = 'sending', posts = s.posts + 1, sent_at = clock_timestamp(), was_lost = true, decided_at = null,
            error = null
        where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state = 'not_sent';
        update onetake.submission s
        set state = v_sent, vendor_task_id = coalesce(v_task_id, s.vendor_task_id),
            decided_at = clock_timestamp()
        where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state <> v_sent
          and onetake.submission_may_become(s.state, v_sent);
    end if;
    update onetake.generation g
    set phase = greatest(g.phase, (case v_sent when 'accepted' then 'generating' when 'ambiguous' then 'resolving'
                                   else 'submitting' end)::onetake.phase),
        vendor_task_id = coalesce(v_task_id, g.vendor_task_id), status = 'in_progress', updated_at = now()
    where g.id = p_generation_id and g.phase <> 'done';
exception when unique_violation then  -- another submission owns the vendor's id: ours is in doubt
    perform onetake.relearn(p_generation_id, p_attempt, p_vendor, p_request_sha256, 'ambiguous', null);
end $$;

-- Write the generation, its hold with its entry, and its submission, where they are missing. The hold counts in the
-- windows of now, where its entry stands, beyond their limits if need be; without an epoch nothing was held. A key that
-- somebody has used since stays theirs. `was_lost` names what was missing.
create function onetake.restore(
    p_id text, p_tenant text, p_workflow_id text, p_key text, p_request_sha256 bytea, p_request jsonb, p_plan jsonb,
    p_route text, p_vendor text, p_user text, p_feature text, p_labels jsonb, p_attempt int, p_epoch text, p_sent text,
    p_vendor_task_id text, out was_lost text[])
language plpgsql as $$
declare
    v_amount bigint := (p_plan #>> '{price,amount_micros}')::bigint;
    v_phase onetake.phase;
    v_windows bigint[];
    v_missing bigint[];
    v_available bigint[];
    v_sent text;
begin
    was_lost := '{}';
    insert into onetake.generation (id, tenant, workflow_id, idempotency_key, request_sha256, request, plan, route,
        vendor, user_key, feature, labels, status)
    select p_id, p_tenant, p_workflow_id, case when not exists (
               select from onetake.generation g where g.tenant = p_tenant and g.idempotency_key = p_key) then p_key end,
           p_request_sha256, p_request, p_plan, p_route, p_vendor, p_user, p_feature, p_labels, 'in_progress'
    on conflict do nothing;
    if found then
        was_lost := was_lost || 'generation'::text;
    end if;
    select g.phase into v_phase from onetake.generation g where g.id = p_id for no key update;
    if not found then  -- the key was taken in this moment
        raise exception 'onetake: repeat' using errcode = 'serialization_failure';
    end if;
    if p_epoch is null or v_phase = 'done' then
        return;
    end if;

    if not exists (select from onetake.hold h where h.generation_id = p_id and h.attempt = p_attempt) then
        loop
            select array_agg(w.window_id order by w.lock_rank, w.window_id),
                   array_agg(w.budget_id) filter (where w.window_id is null)
            into v_windows, v_missing
            from onetake.scopes_of(p_tenant, p_user, p_feature, p_route, p_vendor) s
            cross join lateral onetake.windows_of(s.scope, s.scope_key) w;
            exit when v_missing is null;
            perform onetake.open_windows(v_missing);
        end loop;
        insert into onetake.hold (generation_id, attempt, amount_micros, window_ids, price_version, unit, epoch)
        values (p_id, p_attempt, v_amount, coalesce(v_windows, '{}'), p_plan #>> '{price,table_version}',
                p_plan #>> '{price,unit}', p_epoch);
        v_available := onetake.move_balances(coalesce(v_windows, '{}'), v_amount, 0);
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, detail)
        values (p_id, p_attempt, 'hold', v_amount, v_available, jsonb_build_object('restored_from', p_epoch));
        was_lost := was_lost || 'hold'::text;
    end if;

    select s.state into v_sent from onetake.submission s where s.generation_id = p_id and s.attempt = p_attempt;
    perform onetake.relearn(p_id, p_attempt, p_vendor, p_request_sha256, p_sent, p_vendor_task_id);
    if v_sent is distinct from (
        select s.state from onetake.submission s where s.generation_id = p_id and s.attempt = p_attempt) then
        was_lost := was_lost || 'submission'::text;
    end if;
end $$;

-- Circuits: whether new generations go to a vendor, or to one of its models.

-- The circuit without a model is that of our account and key there: it stands for all models. Paused: new generations
-- are refused; one a minute may probe.
create table onetake.circuit (
    vendor       text not null,
    model        text not null default '',
    refusals     int not null default 0,  -- of our key, in a row
    paused_code  text,
    paused_since timestamptz,
    probe_after  timestamptz,
    probe_of     text,                    -- the generation that took the last probe
    primary key (vendor, model),
    check ((paused_code is null) = (paused_since is null))
);

create function onetake.model_of(p_generation_id text) returns text language sql stable as $$
    select g.plan ->> 'vendor_model' from onetake.generation g where g.id = p_generation_id
$$;

-- May this generation go to the vendor? open; due: it may probe; or paused. Nothing is changed.
create function onetake.admit_to_vendor(
    p_vendor text, p_generation_id text, out verdict text, out model text, out code text, out since timestamptz)
language plpgsql stable as $$
declare
    v_circuit onetake.circuit;
begin
    verdict := 'open';
    for v_circuit in
        select * from onetake.circuit c where c.vendor = p_vendor and c.paused_code is not null
          and c.model in ('', onetake.model_of(p_generation_id)) order by c.model
    loop
        continue when verdict = 'paused';
        model := v_circuit.model;
        code := v_circuit.paused_code;
        since := v_circuit.paused_since;
        verdict := case
            when v_circuit.probe_after <= clock_timestamp() or v_circuit.probe_of = p_generation_id then 'due'
            else 'paused' end;
    end loop;
end $$;

-- Take the probe of each circuit that is paused for this generation: probe, open (nothing is paused any more), or paused
-- (another generation took one first). A repeat for the same generation finds its own probe.
create function onetake.probe_vendor(
    p_vendor text, p_generation_id text, p_gap interval,
    out verdict text, out model text, out code text, out since timestamptz)
language plpgsql as $$
declare
    v_circuit onetake.circuit;
begin
    verdict := 'open';
    for v_circuit in
        select * from onetake.circuit c where c.vendor = p_vendor and c.paused_code is not null
          and c.model in ('', onetake.model_of(p_generation_id)) order by c.model for update
    loop
        continue when verdict = 'paused';
        model := v_circuit.model;
        code := v_circuit.paused_code;
        since := v_circuit.paused_since;
        if v_circuit.probe_after > clock_timestamp() and v_circuit.probe_of is distinct from p_generation_id then
            verdict := 'paused';
        else
            verdict := 'probe';
            update onetake.circuit c set probe_after = clock_timestamp() + p_gap, probe_of = p_generation_id
            where c.vendor = p_vendor and c.model = v_circuit.model
              and (c.probe_after <= clock_timestamp() or c.probe_of is distinct from p_generation_id);
        end if;
    end loop;
end $$;

-- Give back the probes that this generation took: its hold was refused, so that it sends nothing.
create function onetake.leave_probe(p_vendor text, p_generation_id text) returns void language plpgsql as $$
begin
    perform from onetake.circuit c
    where c.vendor = p_vendor and c.probe_of = p_generation_id order by c.model for update;
    update onetake.circuit c set probe_after = clock_timestamp(), probe_of = null
    where c.vendor = p_vendor and c.probe_of = p_generation_id and c.paused_code is not null;
end $$;

-- The outcome of a submission moves the circuits in the very transaction that records it, once. A refusal of the key for
-- one model says nothing of the others. An acceptance says that the account and this model are well.
create function onetake.circuits_learn() returns trigger language plpgsql as $$
declare
    v_code text := new.error ->> 'code';
    v_model text := case when new.error ->> 'about' = 'model' then onetake.model_of(new.generation_id) else '' end;
begin
    if new.state = 'accepted' then
        perform from onetake.circuit c
        where c.vendor = new.vendor and (c.paused_code is not null or c.refusals > 0)
          and c.model in ('', onetake.model_of(new.generation_id)) order by c.model for update;
        update onetake.circuit c
        set paused_code = null, paused_since = null, probe_after = null, probe_of = null, refusals = 0
        where c.vendor = new.vendor and (c.paused_code is not null or c.refusals > 0)
          and c.model in ('', onetake.model_of(new.generation_id));
    elsif new.state = 'rejected' and v_code in ('vendor_account_empty', 'vendor_account_limit', 'vendor_auth') then
        insert into onetake.circuit as c (vendor, model, refusals)
        values (new.vendor, coalesce(v_model, ''), (v_code = 'vendor_auth')::int)
        on conflict (vendor, model) do update set refusals = c.refusals + excluded.refusals;
        update onetake.circuit c
        set paused_code = v_code, paused_since = coalesce(c.paused_since, clock_timestamp()),
            probe_after = greatest(c.probe_after, clock_timestamp())
        where c.vendor = new.vendor and c.model = coalesce(v_model, '')
          and (v_code <> 'vendor_auth' or c.refusals >= 3);
    end if;
    return null;
end $$;

create trigger circuits_learn after update of state on onetake.submission
for each row when (old.state is distinct from new.state and new.state in ('accepted', 'rejected'))
execute function onetake.circuits_learn();

-- Claims: a vendor's answers about one job held against each other: the id that a POST was answered with, the ids that
-- callbacks with our tokens named, and when the vendor made the job.

create index callback_inbox_claim on onetake.callback_inbox (vendor, claimed_task_id) where claimed_task_id is not null;

-- Whether callbacks say that a job is another submission's: only tokens of others named it, or our own tokens named other
-- jobs only.
create function onetake.is_anothers(p_vendor text, p_task_id text, p_generation_id text, p_attempt int)
returns boolean language sql stable as $$
    select coalesce(
        (select not bool_or(i.claimed_task_id = p_task_id)
         from onetake.callback_token t join onetake.callback_inbox i using (token_sha256)
         where t.generation_id = p_generation_id and t.attempt = p_attempt and i.claimed_task_id is not null),
        exists (select from onetake.callback_inbox i where i.vendor = p_vendor and i.claimed_task_id = p_task_id))
$$;

-- Such a job is refused as one that another submission has: the outcome is in doubt then, and our own token resolves it.
create function onetake.id_is_ours() returns trigger language plpgsql as $$
begin
    if onetake.is_anothers(new.vendor, new.vendor_task_id, new.generation_id, new.attempt) then
        raise unique_violation using message = 'callbacks say that the job is another submission''s';
    end if;
    return null;
end $$;

create trigger id_is_ours after update of state on onetake.submission
for each row when (old.state is distinct from new.state and new.state = 'accepted')
execute function onetake.id_is_ours();

-- Give an accepted submission the job that its own token named, in place of another's; the id that it has afterwards. A
-- job that another submission has stays where it is.
create function onetake.reassign_submission(p_generation_id text, p_attempt int, p_wrong text, p_right text)
returns text language plpgsql as $$
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    update onetake.submission s set vendor_task_id = p_right
    where s.generation_id = p_generation_id and s.attempt = p_attempt
      and s.state = 'accepted' and s.vendor_task_id = p_wrong;
    if found then
        update onetake.generation g set vendor_task_id = p_right, updated_at = now() where g.id = p_generation_id;
    end if;
    return (select s.vendor_task_id from onetake.submission s
            where s.generation_id = p_generation_id and s.attempt = p_attempt);
exception when unique_violation then
    return p_wrong;
end $$;

-- Whether the token of a submission whose outcome is in doubt named the job, and none of ours did.
create function onetake.is_of_one_in_doubt(p_vendor text, p_task_id text, p_generation_id text, p_attempt int)
returns boolean language sql stable as $$
    select coalesce(bool_or(o.state in ('sending', 'ambiguous'))
        and not bool_or((t.generation_id, t.attempt) = (p_generation_id, p_attempt)), false)
    from onetake.callback_inbox i join onetake.callback_token t using (token_sha256)
    join onetake.submission o on o.generation_id = t.generation_id and o.attempt = t.attempt
    where i.vendor = p_vendor and i.claimed_task_id = p_task_id
$$;

-- Keep the end of a job, unless it is another submission's: only the token of one whose outcome is in doubt named it, or
-- it is older than our first POST. Then nothing is kept, and the answer is false. That our own token named other jobs
-- decides nothing here: anybody who has it may say so, and the run has looked into it. Each age is by one clock: the job's by the vendor's, the POST's by ours. When a
-- POST was that a failover took nobody knows, so no job is too old for it.
create function onetake.note_end_of_ours(
    p_generation_id text, p_attempt int, p_failed boolean, p_shows_charge boolean, p_age interval)
returns boolean language plpgsql as $$
begin
    if exists (
        select from onetake.submission s join onetake.hold h using (generation_id, attempt)
        where s.generation_id = p_generation_id and s.attempt = p_attempt
          and (p_age > clock_timestamp() - case when s.posts = 1 then s.sent_at else h.created_at end
              and not s.was_lost
              or onetake.is_of_one_in_doubt(s.vendor, s.vendor_task_id, s.generation_id, s.attempt)))
    then
        return false;
    end if;
    perform onetake.note_job_end(p_generation_id, p_attempt, p_failed, p_shows_charge);
    return true;
end $$;

-- Job ends: what reads with our own key found of them, and whether a callback had announced them.

-- One row a job, written by the first read that finds the end. Whether a vendor's callbacks arrive is read from these
-- rows: there is no row for each vendor that those who write ends would wait for. The function that writes them takes
-- them from the submission, which is never deleted: a foreign key would check that once more.
create table onetake.job_end (
    generation_id  text not null,
    attempt        int not null,
    vendor         text not null,
    route          text not null,
    resolution     text,
    duration_s     int,
    failed         boolean not null,  -- the vendor's last word
    shows_charge   boolean not null,  -- its last word, too: that it charged for a failed job, and did not refund it
    seen_at        timestamptz not null,
    render_s       float8,            -- from acceptance until then; null when no run was waiting any more
    callback_asked boolean not null,  -- the vendor was given an address for callbacks
    announced_at   timestamptz,       -- when the end was seen, or when the first callback came after that
    primary key (generation_id, attempt)
);

create index job_end_alike on onetake.job_end (route, resolution, duration_s, seen_at) include (render_s)
    where not failed and render_s is not null;
create index job_end_announced on onetake.job_end (vendor, announced_at) where announced_at is not null;
create index job_end_unannounced on onetake.job_end (vendor, seen_at) where announced_at is null and callback_asked;

-- Keep when the end was first seen, whether a callback had announced it then, and the vendor's last word about it. A
-- callback that commits in the same instant is missed, and the end counts as unannounced until the vendor repeats it.
create function onetake.note_job_end(p_generation_id text, p_attempt int, p_failed boolean, p_shows_charge boolean)
returns void language sql as $$
    insert into onetake.job_end as e (generation_id, attempt, vendor, route, resolution, duration_s, failed,
        shows_charge, seen_at, render_s, callback_asked, announced_at)
    select s.generation_id, s.attempt, s.vendor, g.route, g.plan ->> 'resolution', (g.plan ->> 'duration_s')::int,
        p_failed, p_shows_charge, seen.at,
        case when s.state = 'accepted' and g.phase <> 'done' then extract(epoch from seen.at - s.decided_at) end,
        callback.asked, case when callback.came then seen.at end
    from (select clock_timestamp() as at) seen
    join onetake.submission s on s.generation_id = p_generation_id and s.attempt = p_attempt
    join onetake.generation g on g.id = s.generation_id
    cross join lateral (
        select count(*) > 0 as asked, coalesce(bool_or(exists (
            select from onetake.callback_inbox i where i.token_sha256 = t.token_sha256)), false) as came
        from onetake.callback_token t where t.generation_id = s.generation_id and t.attempt = s.attempt) callback
    on conflict (generation_id, attempt) do update
    set failed = excluded.failed, shows_charge = excluded.shows_charge
    where (e.failed, e.shows_charge) <> (excluded.failed, excluded.shows_charge)
$$;

-- Rates: how many calls a second we allow ourselves at a vendor that has said that we are too fast.

-- One row a vendor and purpose, made by its first 429; without one nothing is counted and nobody waits. Reads and
-- submissions stand apart: a submission that is turned away silences no read. A rate is halved by a 429 and grows
-- evenly while calls are made. Calls may go while there are `tokens`; who is told to wait is given a moment of his own,
-- `promised_at` and later, so that those who wait do not come back together. Rates are in seconds of the plan's scale.
create table onetake.vendor_rate (
    vendor       text not null,
    purpose      text not null check (purpose in ('submit', 'read')),
    per_s        float8 not null check (per_s > 0),
    growth_per_s float8 not null,
    tokens       float8 not null,
    counted_at   timestamptz not null,
    promised_at  timestamptz not null,
    quiet_until  timestamptz not null,
    slowed_at    timestamptz not null,
    refusing_since timestamptz not null,  -- no submission was accepted since
    primary key (vendor, purpose)
);

-- Give a moment of his own to somebody who has to wait: seconds from now. Those for whom no moment is left within five
-- minutes (after a silence) are spread over the second half of them.
create function onetake.promise_call(p_vendor text, p_purpose text, p_scale float8) returns float8
language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_from timestamptz;
    v_moment timestamptz;
begin
    update onetake.vendor_rate r
    set promised_at = least(greatest(r.promised_at, r.quiet_until, v_now) + interval '1 second' * p_scale / r.per_s,
                            greatest(r.quiet_until, v_now) + interval '5 minutes')
    where r.vendor = p_vendor and r.purpose = p_purpose
    returning r.promised_at, greatest(r.quiet_until, v_now) into v_moment, v_from;
    return extract(epoch from v_from - v_now) + case
        when v_moment < v_from + interval '5 minutes' then extract(epoch from v_moment - v_from)
        else 150 + 150 * random() end;
end $$;

-- Seconds until the caller may call the vendor; 0: now, and the call is counted. p_returning: he has waited already, so
-- he goes before those who come for the first time. p_behind: he goes only when nobody else waits.
create function onetake.take_call(p_vendor text, p_purpose text, p_returning boolean, p_behind boolean, p_scale float8)
returns float8 language plpgsql as $$
declare
    v_now timestamptz;
    v_rate onetake.vendor_rate;
    v_passed_s float8;
begin
    perform from onetake.vendor_rate r
    where r.vendor = p_vendor and r.purpose = p_purpose
      and r.slowed_at > clock_timestamp() - interval '1 hour' * p_scale;
    if not found then
        return 0;
    end if;
    select * into v_rate from onetake.vendor_rate r
    where r.vendor = p_vendor and r.purpose = p_purpose for no key update;
    if not found then  -- forgotten while we waited for its lock
        return 0;
    end if;
    v_now := clock_timestamp();
    v_passed_s := extract(epoch from v_now - v_rate.counted_at) / p_scale;
    v_rate.per_s := least(100, v_rate.per_s + v_rate.growth_per_s * least(v_passed_s, 5));
    v_rate.tokens := least(greatest(2, v_rate.per_s / 4), v_rate.tokens + v_rate.per_s * v_passed_s);
    if v_rate.quiet_until <= v_now and v_rate.tokens >= 1
       and (v_rate.promised_at <= v_now or p_returning and not p_behind) then
        update onetake.vendor_rate r set per_s = v_rate.per_s, tokens = v_rate.tokens - 1, counted_at = v_now
        where r.vendor = p_vendor and r.purpose = p_purpose;
        return 0;
    end if;
    if p_behind then
        return extract(epoch from greatest(v_rate.promised_at, v_rate.quiet_until, v_now) - v_now)
            + p_scale * (5 + 5 * random());
    end if;
    update onetake.vendor_rate r set per_s = v_rate.per_s, tokens = v_rate.tokens, counted_at = v_now
    where r.vendor = p_vendor and r.purpose = p_purpose;
    return onetake.promise_call(p_vendor, p_purpose, p_scale);
end $$;

-- A 429: halve the rate, once for all calls that were under way together, and keep away as long as the vendor named
-- (null: it named no time; the longest wish wins). The rate before the first 429 is taken to be two submissions or ten
-- reads a second. An hour later all of this is forgotten.
create function onetake.halve_rate(p_vendor text, p_purpose text, p_silence interval, p_scale float8) returns void
language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_first float8 := case p_purpose when 'submit' then 1 else 5 end;
    v_quiet_until timestamptz := v_now + coalesce(p_silence, interval '0');
begin
    delete from onetake.vendor_rate r
    where r.vendor = p_vendor and r.purpose = p_purpose and r.slowed_at < v_now - interval '1 hour' * p_scale;
    insert into onetake.vendor_rate as r (vendor, purpose, per_s, growth_per_s, tokens, counted_at, promised_at,
        quiet_until, slowed_at, refusing_since)
    values (p_vendor, p_purpose, v_first, v_first / 40, 0, v_now, v_now, v_quiet_until, v_now, v_now)
    on conflict (vendor, purpose) do update
    set per_s = greatest(0.05, r.per_s / 2), growth_per_s = greatest(0.05, r.per_s / 2) / 40, tokens = 0,
        counted_at = v_now, slowed_at = v_now
    where r.slowed_at < v_now - greatest(interval '2 seconds' * p_scale, interval '0.25 seconds');
    update onetake.vendor_rate r set quiet_until = v_quiet_until
    where r.vendor = p_vendor and r.purpose = p_purpose and r.quiet_until < v_quiet_until;
end $$;

-- The same, and when the refused caller may come back, in seconds.
create function onetake.slow_down(p_vendor text, p_purpose text, p_silence interval, p_scale float8) returns float8
language plpgsql as $$
begin
    perform onetake.halve_rate(p_vendor, p_purpose, p_silence, p_scale);
    return onetake.promise_call(p_vendor, p_purpose, p_scale);
end $$;

-- The line: generations that wait for room at a vendor that takes only so many jobs at once, before their hold.

-- What a vendor has room for, learned from its 429s. Without a row it is taken to have room for all. The front of the
-- line tries `step` more after so many grants, or so long: `patience` times the usual. A try that is turned away doubles
-- the patience, one that is not doubles the step.
create table onetake.vendor_room (
    vendor     text primary key,
    jobs       int not null check (jobs > 0),
    step       int not null default 1,
    patience   int not null default 1,
    grants     int not null default 0,
    every_s    float8 not null,  -- between two grants, of late
    granted_at timestamptz not null default clock_timestamp(),
    tried_at   timestamptz not null default '-infinity',
    refused_at timestamptz not null default clock_timestamp()
);

-- Who waits, since its generation was accepted. A row that was not asked for in time counts no more; whoever comes back
-- later has its old place again. `granted_at`: its hold is on the way.
create table onetake.vendor_line (
    generation_id text primary key,
    vendor        text not null,
    tenant        text not null,
    since         timestamptz not null,
    place         int not null default 0,
    about_s       float8 not null default 0,
    asks_at       timestamptz not null default clock_timestamp(),
    granted_at    timestamptz
);
create index vendor_line_of_vendor on onetake.vendor_line (vendor);

-- The holds whose jobs take room at a vendor, or will: until the job's end was seen. `sent`: the vendor may have it.
create function onetake.jobs_of_holds(p_vendor text)
returns table (generation_id text, tenant text, held_at timestamptz, sent boolean) language sql stable as $$
    select h.generation_id, g.tenant, h.created_at, coalesce(s.state in ('sending', 'accepted', 'ambiguous'), false)
    from onetake.hold h
    join onetake.generation g on g.id = h.generation_id
    left join onetake.submission s on s.generation_id = h.generation_id and s.attempt = h.attempt
    where h.state = 'held' and g.vendor = p_vendor and not exists (
        select from onetake.job_end e where e.generation_id = h.generation_id and e.attempt = h.attempt)
$$;

-- Try whether the vendor has room for more by now; false when it is too early.
create function onetake.try_more(p_vendor text, p_scale float8) returns boolean language plpgsql as $$
begin
    update onetake.vendor_room r
    set step = case when r.tried_at > r.refused_at then least(2 * r.step, r.jobs) else 1 end,
        jobs = r.jobs + case when r.tried_at > r.refused_at then least(2 * r.step, r.jobs) else 1 end,
        patience = case when r.tried_at > r.refused_at then 1 else r.patience end,
        grants = 0, tried_at = clock_timestamp()
    where r.vendor = p_vendor and (r.grants >= r.jobs * r.patience
        or greatest(r.tried_at, r.refused_at) < clock_timestamp() - interval '1 minute' * p_scale * r.patience);
    return found;
end $$;

-- When somebody in a line asks again, in seconds: the front at every gap, the others after half of what they may wait.
create function onetake.pause_s(p_place int, p_every_s float8, p_gap_s float8) returns float8 language sql volatile as $$
    select greatest(p_gap_s, case when p_place > 3 then least(p_place * p_every_s / 2, 600) else 0 end)
        * (1 + random() / 10)
$$;

-- May a generation take its hold now? wait_s: 0 for yes, else when to ask again, with its place and about how long it
-- will wait. Tenants take turns: who has fewest jobs at the vendor goes first. Nothing is done for a paused vendor.
create function onetake.take_place(
    p_verdict text, p_vendor text, p_generation_id text, p_tenant text, p_gap_s float8, p_scale float8,
    out wait_s float8, out place int, out about_s float8)
language plpgsql as $$
#variable_conflict use_column
declare
    v_room onetake.vendor_room;
    v_taken int;
    v_unsent boolean;  -- some hold their price and wait, too
    v_now timestamptz;
begin
    wait_s := 0; place := 0; about_s := 0;
    if p_verdict = 'paused' or not exists (select from onetake.vendor_room r where r.vendor = p_vendor)
       or exists (select from onetake.hold h where h.generation_id = p_generation_id) then
        return;
    end if;
    select * into v_room from onetake.vendor_room r where r.vendor = p_vendor for no key update;
    if not found then
        return;
    end if;
    v_now := clock_timestamp();
    insert into onetake.vendor_line as l (generation_id, vendor, tenant, since)
    select p_generation_id, p_vendor, p_tenant, coalesce(
        (select g.created_at from onetake.generation g where g.id = p_generation_id), v_now)
    on conflict (generation_id) do update set asks_at = v_now;
    with gone as (
        delete from onetake.vendor_line l
        where l.vendor = p_vendor and l.generation_id <> p_generation_id
          and (exists (select from onetake.generation g where g.id = l.generation_id and g.phase = 'done')
               or case when l.granted_at is null
                  then l.asks_at < v_now - greatest(interval '1 second' * p_gap_s * 3, interval '15 seconds')
                  else l.granted_at < v_now - interval '1 minute'
                       or exists (select from onetake.hold h where h.generation_id = l.generation_id) end)
        returning l.generation_id, l.granted_at
    ), unused as (
        select count(*) as grants from gone g where g.granted_at is not null
          and not exists (select from onetake.hold h where h.generation_id = g.generation_id)
    )
    update onetake.vendor_room r set grants = greatest(0, r.grants - u.grants)
    from unused u where r.vendor = p_vendor and u.grants > 0;
    if exists (select from onetake.vendor_line l where l.generation_id = p_generation_id and l.granted_at is not null) then
        return;
    end if;

    with taken as (
        select j.generation_id, j.tenant, j.sent from onetake.jobs_of_holds(p_vendor) j
        union all
        select l.generation_id, l.tenant, true from onetake.vendor_line l
        where l.vendor = p_vendor and l.granted_at is not null
    ), shares as (
        select t.tenant, count(*) as jobs from taken t group by t.tenant
    ), turns as (
        select l.generation_id, l.since, coalesce(s.jobs, 0) + row_number() over (
            partition by l.tenant order by l.since, l.generation_id) as turn
        from onetake.vendor_line l left join shares s on s.tenant = l.tenant
        where l.vendor = p_vendor and l.granted_at is null
    ), places as (
        select t.generation_id, row_number() over (order by t.turn, t.since, t.generation_id) as place from turns t
    )
    select p.place, (select count(*) from taken), (select bool_or(not t.sent) from taken t)
    into place, v_taken, v_unsent from places p where p.generation_id = p_generation_id;

    if place <= v_room.jobs - v_taken or (
        place = 1 and v_unsent is not true and onetake.try_more(p_vendor, p_scale)) then
        if place = 1 and v_taken < v_room.jobs and v_room.refused_at < v_now - interval '1 hour' * p_scale
           and not exists (select from onetake.vendor_line l
                           where l.vendor = p_vendor and l.generation_id <> p_generation_id) then
            delete from onetake.vendor_room r where r.vendor = p_vendor;
            delete from onetake.vendor_line l where l.vendor = p_vendor;
        else
            update onetake.vendor_line l set granted_at = v_now where l.generation_id = p_generation_id;
            update onetake.vendor_room r
            set grants = r.grants + 1, granted_at = v_now,
                every_s = 0.9 * r.every_s + 0.1 * least(600, extract(epoch from v_now - r.granted_at))
            where r.vendor = p_vendor;
        end if;
        return;
    end if;
    about_s := place * v_room.every_s;
    wait_s := onetake.pause_s(place, v_room.every_s, p_gap_s);
    update onetake.vendor_line l
    set asks_at = v_now + interval '1 second' * wait_s, place = take_place.place, about_s = take_place.about_s
    where l.generation_id = p_generation_id;
end $$;

-- Seconds until a generation that holds its price may submit; 0: now. Holds go in their order: no more are sent than
-- the vendor has room for.
create function onetake.take_submission(
    p_vendor text, p_generation_id text, p_returning boolean, p_gap_s float8, p_scale float8) returns float8
language plpgsql as $$
declare
    v_room onetake.vendor_room;
    v_sent int;
    v_before int;
begin
    select * into v_room from onetake.vendor_room r where r.vendor = p_vendor;
    if found then
        select count(*) filter (where j.sent), count(*) filter (where not j.sent and (j.held_at, j.generation_id)
                < (select h.created_at, h.generation_id from onetake.hold h where h.generation_id = p_generation_id))
        into v_sent, v_before
        from onetake.jobs_of_holds(p_vendor) j where j.generation_id <> p_generation_id;
        if v_sent + v_before >= v_room.jobs and not (v_before = 0 and onetake.try_more(p_vendor, p_scale)) then
            return onetake.pause_s(v_sent + v_before - v_room.jobs + 1, v_room.every_s, p_gap_s);
        end if;
    end if;
    return onetake.take_call(p_vendor, 'submit', p_returning, false, p_scale);
end $$;

-- A submission was answered 429, and its own row says so already. A vendor that names a time, or has no other job of
-- ours, means our speed. So it is taken at first; but one that took nothing in the five seconds since its first 429
-- means the number of our jobs: it has room for those that it has. Returns when the refused caller may come back, in
-- seconds.
create function onetake.submission_refused(
    p_vendor text, p_generation_id text, p_silence interval, p_gap_s float8, p_scale float8) returns float8
language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_accepted_at timestamptz;
    v_is_full boolean;
    v_others int;
begin
    if p_silence is not null then
        return onetake.slow_down(p_vendor, 'submit', p_silence, p_scale);
    end if;
    select count(*) into v_others from onetake.jobs_of_holds(p_vendor) j
    where j.sent and j.generation_id <> p_generation_id;
    select max(s.sent_at) into v_accepted_at from onetake.submission s
    where s.vendor = p_vendor and s.state = 'accepted' and s.sent_at > v_now - interval '1 day';
    update onetake.vendor_room r
    set jobs = least(r.jobs, greatest(1, v_others)), grants = 0, refused_at = v_now,
        patience = case when r.tried_at > r.refused_at then least(16, 2 * r.patience) else r.patience end
    where r.vendor = p_vendor;
    v_is_full := found and v_others > 0;
    if not found and v_others > 0 then
        insert into onetake.vendor_room (vendor, jobs, every_s)
        select p_vendor, v_others, p_gap_s from onetake.vendor_rate r
        where r.vendor = p_vendor and r.purpose = 'submit' and r.slowed_at > v_now - interval '1 hour' * p_scale
          and r.refusing_since < v_now - greatest(interval '5 seconds' * p_scale, interval '0.25 seconds')
          and r.refusing_since > coalesce(v_accepted_at, '-infinity')
        on conflict do nothing;
        v_is_full := found;
        if found then
            delete from onetake.vendor_rate r where r.vendor = p_vendor and r.purpose = 'submit';
        end if;
    end if;
    if v_is_full then
        return p_gap_s * (1 + random() / 10);
    end if;
    perform onetake.halve_rate(p_vendor, 'submit', null, p_scale);
    update onetake.vendor_rate r set refusing_since = v_now
    where r.vendor = p_vendor and r.purpose = 'submit' and r.refusing_since <= v_accepted_at;
    return onetake.promise_call(p_vendor, 'submit', p_scale);
end $$;

-- Ends: how a generation ends, what may be changed afterwards, and what is shown of it.

-- The one change after a generation's end: a late result, found and stored by recovery. What it replaced stays here.
create table onetake.correction (
    generation_id text primary key references onetake.generation,
    at            timestamptz not null default clock_timestamp(),
    who           text not null,
    why           text not null,
    from_status   text not null,
    from_error    jsonb,
    to_status     text not null
);

create trigger correction_is_append_only before update or delete or truncate on onetake.correction
    for each statement execute function onetake.forbid();

-- One generation as the outside sees it: column for column the contract GenerationRecord. What holds money is about to be
-- submitted: a reservation does not write that into the row.
create view onetake.generation_record as
select g.id, g.tenant, g.user_key as "user", g.feature, g.labels, g.route, g.vendor,
       case when money.holds > 0 and g.status = 'queued' then 'in_progress' else g.status end as status,
       case when money.holds > 0 then greatest(g.phase, 'submitting') else g.phase end as phase, g.error,
       g.vendor_task_id, g.assets, g.warnings, g.workflow_id, g.created_at, g.ended_at, g.cancel_requested, g.parent_id,
       jsonb_build_object('reserved_micros', money.reserved, 'settled_micros', money.settled,
                          'suspense_micros', money.suspense, 'basis', g.basis) as cost,
       case when c.generation_id is not null then jsonb_build_object(
           'at', c.at, 'who', c.who, 'why', c.why, 'from_status', c.from_status, 'from_code', c.from_error ->> 'code')
       end as correction,
       case when g.phase <> 'done' and line.place > 0
            then jsonb_build_object('place', line.place, 'about_s', line.about_s) end as waiting
from onetake.generation g
left join onetake.vendor_line line on line.generation_id = g.id and line.granted_at is null
left join onetake.correction c on c.generation_id = g.id
cross join lateral (
    select count(*) as holds, coalesce(sum(h.amount_micros), 0)::bigint as reserved,
           coalesce(sum(h.actual_micros), 0)::bigint as settled,
           coalesce(sum(h.amount_micros) filter (where h.state = 'suspended'), 0)::bigint as suspense
    from onetake.hold h where h.generation_id = g.id) money;

-- End a generation and resolve its hold, once. note: settled; suspended_instead (a release was asked for while nobody
-- knows whether anything was sent); no_hold (money was to be moved and there is none); repeated; differs (repeated, but
-- asking for something else: the first result stands); in_review (the vendor's figure is too high to be booked); lost
-- (in another epoch than the hold's: it is not here, so nothing was changed); unknown. p_epoch is that of the hold, and
-- p_sent what became of the submission, as the run knows them; both are null from somebody who is not the run.
create function onetake.settle(
    p_generation_id text, p_attempt int, p_status text, p_resolution text, p_actual bigint, p_basis text,
    p_error jsonb, p_assets jsonb, p_warnings jsonb, p_vendor_task_id text, p_epoch text default null,
    p_sent text default null, out note text, out record jsonb)
language plpgsql as $$
declare
    v_generation onetake.generation;
    v_hold onetake.hold;
    v_sent text;
    v_epoch text;
    v_resolution text;
    v_review boolean;
begin
    select * into v_generation from onetake.generation g where g.id = p_generation_id for no key update;
    if not found then
        note := 'unknown'; return;
    end if;
    select h.epoch into v_epoch from onetake.hold h
    where h.generation_id = p_generation_id and h.attempt = p_attempt;
    if v_generation.phase <> 'done' and coalesce(p_epoch, v_epoch) <> onetake.epoch() then
        if v_epoch is null then
            note := 'lost'; return;
        end if;
        perform onetake.relearn(p_generation_id, p_attempt, v_generation.vendor, v_generation.request_sha256,
                                p_sent, p_vendor_task_id);
    end if;
    select s.state into v_sent from onetake.submission s
    where s.generation_id = p_generation_id and s.attempt = p_attempt;
    select * into v_hold from onetake.hold h
    where h.generation_id = p_generation_id and h.attempt = p_attempt for no key update;
    -- Nothing is released on a guess. A caller that read the vendor's own answer (accepted) names its task and may
    -- release; `none` says nothing about money, so after an acceptance it is a guess as well. And nothing is suspended
    -- that was provably never sent: no bytes leave without an intent row, and none begins after this.
    v_resolution := case
        when p_resolution in ('none', 'release') and v_sent in ('sending', 'ambiguous') then 'suspend'
        when p_resolution = 'none' and v_sent = 'accepted' then 'suspend'
        when p_resolution = 'release' and v_sent = 'accepted' and p_vendor_task_id is null then 'suspend'
        when p_resolution = 'suspend' and coalesce(v_sent, 'not_sent') = 'not_sent' then 'release'
        when p_resolution = 'none' then 'release'
        else p_resolution end;
    v_review := v_resolution = 'post' and onetake.needs_review(v_generation.plan, v_hold, p_actual);
    v_resolution := case when v_review then 'suspend' else v_resolution end;
    if v_generation.phase = 'done' then
        note := case when v_generation.status = p_status and (v_hold.state is null
            or v_hold.state = onetake.state_after(v_resolution)
            and (v_hold.actual_micros is null or v_hold.actual_micros = coalesce(p_actual, v_hold.amount_micros)))
            then 'repeated' else 'differs' end;
    else
        note := case when v_review then 'in_review'
            when v_resolution = 'suspend' and p_resolution <> 'suspend' then 'suspended_instead'
            when v_hold.state is null and p_resolution in ('post', 'suspend') then 'no_hold' else 'settled' end;
        update onetake.generation g
        set status = p_status, phase = 'done', error = p_error,
            basis = case v_resolution when 'post' then p_basis else 'pinned_price' end, assets = p_assets,
            warnings = p_warnings, vendor_task_id = coalesce(p_vendor_task_id, g.vendor_task_id),
            updated_at = now(), ended_at = now()
        where g.id = p_generation_id;
        -- After the end, which says what the money was spent on.
        if v_hold.state = 'held' then
            perform onetake.resolve_hold(v_hold, v_resolution, p_actual);
        end if;
        if v_review then
            perform onetake.review(v_hold, p_actual);
        end if;
    end if;
    select to_jsonb(r) into record from onetake.generation_record r where r.id = p_generation_id;
end $$;

-- Decide a hold in suspense, once. note: resolved, repeated, differs (the first decision stands), not_suspended or
-- unknown. p_basis is null from a person, whose amount is the vendor's report when it is the figure in review.
create function onetake.resolve_suspense(
    p_generation_id text, p_attempt int, p_to text, p_actual bigint, p_who text, p_why text,
    p_basis text default null, out note text, out record jsonb)
language plpgsql as $$
declare
    v_hold onetake.hold;
    v_actual bigint;
    v_is_reported boolean;
    v_available bigint[];
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    select * into v_hold from onetake.hold h
    where h.generation_id = p_generation_id and h.attempt = p_attempt for no key update;
    v_actual := case p_to when 'posted' then coalesce(p_actual, v_hold.amount_micros) else 0 end;
    if v_hold.state is null then
        note := 'unknown'; return;
    elsif v_hold.state = 'suspended' then
        v_is_reported := p_to = 'posted' and (p_basis = 'vendor_reported' or exists (
            select from onetake.event e where e.generation_id = p_generation_id and e.attempt = p_attempt
            and e.kind = 'review' and (e.detail ->> 'reported_micros')::bigint = v_actual));
        -- Before the entry, which is counted by it.
        update onetake.generation g
        set basis = case when v_is_reported then 'vendor_reported' else 'pinned_price' end, updated_at = now()
        where g.id = p_generation_id;
        v_available := onetake.move_balances(v_hold.window_ids, 0, v_actual - v_hold.amount_micros);
        update onetake.hold h set state = p_to, actual_micros = case p_to when 'posted' then v_actual end
        where h.generation_id = p_generation_id and h.attempt = p_attempt;
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, detail)
        values (p_generation_id, p_attempt, 'suspense_resolved', v_actual, v_available,
                jsonb_build_object('to', p_to, 'who', p_who, 'why', p_why));
        note := 'resolved';
    elsif exists (select from onetake.event e where e.generation_id = p_generation_id and e.attempt = p_attempt
                  and e.kind = 'suspense_resolved') then
        note := case when v_hold.state = p_to and coalesce(v_hold.actual_micros, 0) = v_actual
            then 'repeated' else 'differs' end;
    else
        note := 'not_suspended';
    end if;
    select to_jsonb(r) into record from onetake.generation_record r where r.id = p_generation_id;
end $$;

-- Take a late result. A failed generation becomes completed, a canceled one keeps its clip; the hold in suspense is
-- posted, a posted one stays as it is, and one that a person released is charged after all. A figure that needs a
-- review is not booked: the amount stays in suspense, and a released one is charged as held. Once: note is corrected,
-- repeated (it has its clip), open (it has not ended), not_paid (its hold was released: somebody must look) or unknown.
create function onetake.correct(
    p_generation_id text, p_attempt int, p_actual bigint, p_basis text, p_assets jsonb, p_warnings jsonb,
    p_vendor_task_id text, p_who text, p_why text, out note text, out record jsonb)
language plpgsql as $$
declare
    v_generation onetake.generation;
    v_hold onetake.hold;
    v_review boolean;
    v_actual bigint;
    v_available bigint[];
begin
    select * into v_generation from onetake.generation g where g.id = p_generation_id for no key update;
    select * into v_hold from onetake.hold h
    where h.generation_id = p_generation_id and h.attempt = p_attempt for no key update;
    note := case
        when v_generation.id is null then 'unknown'
        when v_generation.phase <> 'done' then 'open'
        when v_generation.status = 'completed' or v_generation.assets <> '[]'
            or exists (select from onetake.correction c where c.generation_id = p_generation_id) then 'repeated'
        when v_hold.state is null then 'not_paid'
        when v_hold.state = 'released' and not exists (
            select from onetake.event e where e.generation_id = p_generation_id and e.attempt = p_attempt
            and e.kind = 'suspense_resolved') then 'not_paid'
        else 'corrected' end;
    v_review := v_hold.state in ('suspended', 'released')
        and onetake.needs_review(v_generation.plan, v_hold, p_actual);
    if note = 'corrected' then
        insert into onetake.correction (generation_id, who, why, from_status, from_error, to_status)
        values (p_generation_id, p_who, p_why, v_generation.status, v_generation.error,
                case v_generation.status when 'failed' then 'completed' else v_generation.status end);
        update onetake.generation g
        set status = case g.status when 'failed' then 'completed' else g.status end,
            error = case g.status when 'failed' then null else g.error end,
            basis = case when v_review then 'pinned_price' when v_hold.state = 'posted' then g.basis else p_basis end,
            assets = p_assets, warnings = p_warnings, vendor_task_id = p_vendor_task_id, updated_at = now()
        where g.id = p_generation_id;
        if v_review then
            perform onetake.review(v_hold, p_actual);
        end if;
        if v_hold.state = 'suspended' then
            perform onetake.decide_late(p_generation_id, p_attempt, 'posted', p_actual, p_who, p_why, p_basis);
        elsif v_hold.state = 'released' then
            v_actual := case when v_review then v_hold.amount_micros else coalesce(p_actual, v_hold.amount_micros) end;
            v_available := onetake.move_balances(v_hold.window_ids, 0, v_actual);
            update onetake.hold h set state = 'posted', actual_micros = v_actual
            where h.generation_id = p_generation_id and h.attempt = p_attempt;
            insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, detail)
            values (p_generation_id, p_attempt, 'correction', v_actual, v_available,
                    jsonb_build_object('who', p_who, 'why', p_why));
        end if;
    end if;
    select to_jsonb(r) into record from onetake.generation_record r where r.id = p_generation_id;
end $$;

-- The row of a start that never reached Temporal: nothing was held and nothing sent. False when it did start. The lock is
-- a statement of its own, so that a reservation that was waited for is seen.
create function onetake.expire(p_generation_id text, p_error jsonb) returns boolean language plpgsql as $$
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    update onetake.generation g
    set status = 'failed', phase = 'done', error = p_error, updated_at = now(), ended_at = now()
    where g.id = p_generation_id and g.status = 'queued' and g.origin_run_id is null
      and not exists (select from onetake.hold h where h.generation_id = g.id);
    return found;
end $$;

-- Reviews: a cost that a vendor reports, beyond the plan's multiple of the hold, is booked by a person only.
--
-- It is decided here, beside the locked hold: every way by which a vendor's figure reaches the money ends in `settle`,
-- `correct` or `decide_late`, whoever calls them and whatever the caller's settings say.

-- Whether a vendor's figure must not be booked by itself. Once an amount was reviewed, no later figure decides it.
create function onetake.needs_review(p_plan jsonb, p_hold onetake.hold, p_reported bigint) returns boolean
language sql stable as $$
    select coalesce(p_reported > p_hold.amount_micros * (p_plan ->> 'reported_cost_most')::numeric, false)
        or exists (select from onetake.event e where e.generation_id = p_hold.generation_id
                   and e.attempt = p_hold.attempt and e.kind = 'review')
$$;

-- Whether a late answer of the vendor may still decide the hold: it is in suspense and not left to people.
create function onetake.awaits_vendor(p_hold onetake.hold) returns boolean language sql stable as $$
    select p_hold.state = 'suspended' and not exists (
        select from onetake.event e where e.generation_id = p_hold.generation_id and e.attempt = p_hold.attempt
        and e.kind = 'review')
$$;

-- Record both figures, once, in an entry that moves no money, and tell the generation's owner.
create function onetake.review(p_hold onetake.hold, p_reported bigint) returns void language plpgsql as $$
declare
    v_detail jsonb;
begin
    select e.detail into v_detail from onetake.event e
    where e.generation_id = p_hold.generation_id and e.attempt = p_hold.attempt and e.kind = 'review';
    if not found then
        v_detail := jsonb_build_object('reported_micros', p_reported, 'held_micros', p_hold.amount_micros);
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, detail)
        values (p_hold.generation_id, p_hold.attempt, 'review', 0,
                onetake.move_balances(p_hold.window_ids, 0, 0), v_detail);
    end if;
    update onetake.generation g
    set updated_at = now(), warnings = g.warnings || jsonb_build_array(jsonb_build_object(
            'code', 'vendor_cost_in_review', 'message',
            format('the vendor reports %s where %s was held: more than the hold is booked only by a person',
                   onetake.in_usd((v_detail ->> 'reported_micros')::bigint), onetake.in_usd(p_hold.amount_micros))))
    where g.id = p_hold.generation_id and not g.warnings @> '[{"code": "vendor_cost_in_review"}]';
end $$;

create function onetake.in_usd(p_micros bigint) returns text language sql immutable as $$
    select '$' || case when p_micros % 10000 = 0 then round(p_micros / 1000000.0, 2)
                  else trim_scale(p_micros / 1000000.0) end
$$;

-- `resolve_suspense` by what a vendor answered late. A figure that needs a review leaves the amount in suspense: note
-- is in_review.
create function onetake.decide_late(
    p_generation_id text, p_attempt int, p_to text, p_actual bigint, p_who text, p_why text, p_basis text,
    out note text, out record jsonb)
language plpgsql as $$
declare
    v_plan jsonb;
    v_hold onetake.hold;
begin
    select g.plan into v_plan from onetake.generation g where g.id = p_generation_id for no key update;
    select * into v_hold from onetake.hold h
    where h.generation_id = p_generation_id and h.attempt = p_attempt for no key update;
    if v_hold.state = 'suspended' and p_to = 'posted' and onetake.needs_review(v_plan, v_hold, p_actual) then
        perform onetake.review(v_hold, p_actual);
        note := 'in_review';
        select to_jsonb(r) into record from onetake.generation_record r where r.id = p_generation_id;
    else
        select d.note, d.record into note, record
        from onetake.resolve_suspense(p_generation_id, p_attempt, p_to, p_actual, p_who, p_why, p_basis) d;
    end if;
end $$;

-- Spend: how many generations, seconds and dollars each day had, by whom and where. A fact of its own, written in the
-- transaction that moves the money, and never summed over the journal; onetake/ledger/invariants.py proves both equal.

-- The days are those of the booking, in UTC and in the tenant's calendar: what is decided late stands where it was
-- decided. A user or a feature that is not named is ''. `status_class` is open for what is held, and what the
-- generation was after the booking for all else. Its rows are locked last and never waited for: whoever finds all slots
-- of a key locked adds one, so a key has at most as many as it had transactions at one time.
create table onetake.spend (
    day                   date not null,
    local_day             date not null,
    tenant                text not null,
    user_key              text not null,
    feature               text not null,
    route                 text not null,
    vendor                text not null,
    model                 text not null,
    status_class          text not null check (status_class in ('open', 'completed', 'failed', 'canceled')),
    slot                  bigint not null generated always as identity,
    generations           bigint not null default 0,
    delivered_ms          bigint not null default 0,
    held_micros           bigint not null default 0,
    posted_micros         bigint not null default 0,
    released_micros       bigint not null default 0,
    overrun_micros        bigint not null default 0,
    suspended_micros      bigint not null default 0,
    decided_micros        bigint not null default 0,  -- what left suspense, as it was held,
    decided_posted_micros bigint not null default 0,  --   and what of it was charged
    corrected_micros      bigint not null default 0,
    reported_count        bigint not null default 0,  -- charges that the vendor itself reported,
    reported_micros       bigint not null default 0,  --   what they were,
    reported_held_micros  bigint not null default 0,  --   and what had been held for them
    primary key (tenant, day, user_key, feature, slot)
) with (fillfactor = 80);

-- For reports of a period, and for the proof of the last days alone: rows of one day lie together.
create index spend_day on onetake.spend using brin (day) with (autosummarize = on);
create index event_at on onetake.event using brin (at) with (autosummarize = on);
create index generation_ended_at on onetake.generation using brin (ended_at) with (autosummarize = on);

create trigger spend_is_kept before delete or truncate on onetake.spend
    for each statement execute function onetake.forbid();

-- What is booked of anything but a hold.
create type onetake.booking as (
    at timestamptz, tenant text, user_key text, feature text, route text, vendor text, status_class text,
    generations bigint, delivered_ms bigint, posted_micros bigint, released_micros bigint, overrun_micros bigint,
    suspended_micros bigint, decided_micros bigint, decided_posted_micros bigint, corrected_micros bigint,
    reported_count bigint, reported_micros bigint, reported_held_micros bigint
);

-- Add a booking to the row of its key. The triggers set how it is planned: once, when the tables may still be small, and
-- never so that it reads one whole.
create function onetake.book_spend(p onetake.booking) returns void language plpgsql as $$
declare
    v_day date := (p.at at time zone 'UTC')::date;
    v_local_day date := v_day;
begin
    perform pg_advisory_xact_lock_shared(onetake.zone_lock(p.tenant));
    if exists (select from onetake.tenant_zone z where z.tenant = p.tenant) then
        v_local_day := onetake.day_of(p.tenant, p.at);
    end if;
    update onetake.spend s
    set generations = s.generations + p.generations, delivered_ms = s.delivered_ms + p.delivered_ms,
        posted_micros = s.posted_micros + p.posted_micros, released_micros = s.released_micros + p.released_micros,
        overrun_micros = s.overrun_micros + p.overrun_micros, suspended_micros = s.suspended_micros + p.suspended_micros,
        decided_micros = s.decided_micros + p.decided_micros,
        decided_posted_micros = s.decided_posted_micros + p.decided_posted_micros,
        corrected_micros = s.corrected_micros + p.corrected_micros, reported_count = s.reported_count + p.reported_count,
        reported_micros = s.reported_micros + p.reported_micros,
        reported_held_micros = s.reported_held_micros + p.reported_held_micros
    where s.ctid = (
        select r.ctid from onetake.spend r
        where r.tenant = p.tenant and r.day = v_day and r.user_key = coalesce(p.user_key, '')
          and r.feature = coalesce(p.feature, '') and r.local_day = v_local_day and r.route = p.route
          and r.vendor = p.vendor and r.status_class = p.status_class
        order by r.slot limit 1 for no key update skip locked);
    if not found then
        insert into onetake.spend (
            day, local_day, tenant, user_key, feature, route, vendor, model, status_class, generations, delivered_ms,
            posted_micros, released_micros, overrun_micros, suspended_micros, decided_micros, decided_posted_micros,
            corrected_micros, reported_count, reported_micros, reported_held_micros)
        values (v_day, v_local_day, p.tenant, coalesce(p.user_key, ''), coalesce(p.feature, ''), p.route, p.vendor,
            split_part(p.route, '/', 2), p.status_class, p.generations, p.delivered_ms, p.posted_micros,
            p.released_micros, p.overrun_micros, p.suspended_micros, p.decided_micros, p.decided_posted_micros,
            p.corrected_micros, p.reported_count, p.reported_micros, p.reported_held_micros);
    end if;
end $$;

-- Every entry of the journal, whoever writes it. Holds come many at once, and are booked in one statement for all their
-- keys. The first entry of a resolution also counts the end of its generation. The basis says whether the vendor itself
-- reported what is charged.
create function onetake.book_entries() returns trigger language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_holds bigint;
    v_others bigint;
    v_booking onetake.booking;
begin
    select count(*) filter (where e.kind = 'hold'), count(*) filter (where e.kind <> 'hold') into v_holds, v_others
    from added e;
    if v_holds > 0 then
        -- A statement of its own: what follows must see the zone that somebody set while this waited.
        perform pg_advisory_xact_lock_shared(onetake.zone_lock(t.tenant)) from (
            select distinct g.tenant from added e join onetake.generation g on g.id = e.generation_id
            where e.kind = 'hold' order by g.tenant) t;
        with entry as materialized (
            select (e.at at time zone 'UTC')::date as day, date_trunc('minute', e.at) as minute, g.tenant,
                   coalesce(g.user_key, '') as user_key, coalesce(g.feature, '') as feature, g.route, g.vendor,
                   e.amount_micros
            from added e join onetake.generation g on g.id = e.generation_id where e.kind = 'hold'
        ), minute as materialized (
            select m.tenant, m.minute, case
                when exists (select from onetake.tenant_zone z where z.tenant = m.tenant)
                then onetake.day_of(m.tenant, m.minute) else (m.minute at time zone 'UTC')::date end as local_day
            from (select distinct e.tenant, e.minute from entry e) m
        ), placed as materialized (
            select d.*, (
                select s.ctid from onetake.spend s
                where s.tenant = d.tenant and s.day = d.day and s.user_key = d.user_key and s.feature = d.feature
                  and s.local_day = d.local_day and s.route = d.route and s.vendor = d.vendor
                  and s.status_class = 'open'
                order by s.slot limit 1 for no key update skip locked) as place
            from (
                select e.day, m.local_day, e.tenant, e.user_key, e.feature, e.route, e.vendor,
                       sum(e.amount_micros)::bigint as held
                from entry e join minute m using (tenant, minute) group by 1, 2, 3, 4, 5, 6, 7) d
        ), booked as (
            update onetake.spend s set held_micros = s.held_micros + p.held from placed p where s.ctid = p.place
            returning p.place
        )
        -- A key without a row, and one whose row another transaction wrote since this statement began: it is locked as it
        -- is now, which the update, reading as of the beginning, does not find.
        insert into onetake.spend (
            day, local_day, tenant, user_key, feature, route, vendor, model, status_class, held_micros)
        select p.day, p.local_day, p.tenant, p.user_key, p.feature, p.route, p.vendor, split_part(p.route, '/', 2),
               'open', p.held
        from placed p where not exists (select from booked b where b.place = p.place);
    end if;
    if v_others = 0 then
        return null;
    end if;
    for v_booking in
        select e.at, g.tenant, g.user_key, g.feature, g.route, g.vendor, g.status,
               counted.ends, case counted.ends when 1 then onetake.delivered_ms(g.assets) else 0 end,
               case e.kind when 'post' then e.amount_micros else 0 end,
               case e.kind when 'release' then e.amount_micros else 0 end,
               case e.kind when 'overrun' then e.amount_micros else 0 end,
               case e.kind when 'suspense' then e.amount_micros else 0 end,
               case e.kind when 'suspense_resolved' then h.amount_micros else 0 end,
               case e.kind when 'suspense_resolved' then e.amount_micros else 0 end,
               case e.kind when 'correction' then e.amount_micros else 0 end,
               counted.reports,
               case when g.basis = 'vendor_reported' and (counted.reports = 1 or e.kind = 'overrun')
                   then e.amount_micros else 0 end,
               counted.reports * h.amount_micros
        from added e
        join onetake.generation g on g.id = e.generation_id
        join onetake.hold h on h.generation_id = e.generation_id and h.attempt = e.attempt
        cross join lateral (select
            ((h.state, e.kind) in (('posted', 'post'), ('released', 'release'), ('suspended', 'suspense')))::int as ends,
            (g.basis = 'vendor_reported' and (e.kind in ('post', 'correction')
                or e.kind = 'suspense_resolved' and e.detail ->> 'to' = 'posted'))::int as reports) counted
        where e.kind <> 'hold'
    loop
        perform onetake.book_spend(v_booking);
    end loop;
    return null;
end $$;

create trigger entries_are_spend after insert on onetake.event referencing new table as added
    for each statement execute function onetake.book_entries();

create function onetake.delivered_ms(p_assets jsonb) returns bigint language sql immutable as $$
    select coalesce(sum(round((a ->> 'duration_s')::numeric * 1000)), 0)::bigint from jsonb_array_elements(p_assets) a
$$;

-- The end of a generation that holds nothing; and what a correction made of one, on that day.
create function onetake.book_end() returns trigger language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_at timestamptz := new.ended_at;
begin
    if old.phase = 'done' then
        select c.at into strict v_at from onetake.correction c where c.generation_id = new.id;
        perform onetake.book_spend((v_at, old.tenant, old.user_key, old.feature, old.route, old.vendor, old.status,
            -1, -onetake.delivered_ms(old.assets), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)::onetake.booking);
    elsif exists (select from onetake.hold h where h.generation_id = new.id and h.state = 'held') then
        return null;  -- its resolution follows and counts the end
    end if;
    perform onetake.book_spend((v_at, new.tenant, new.user_key, new.feature, new.route, new.vendor, new.status,
        1, onetake.delivered_ms(new.assets), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)::onetake.booking);
    return null;
end $$;

create trigger end_is_spend after update on onetake.generation for each row
    when (new.phase = 'done' and (
        old.phase <> 'done' or old.status <> new.status or old.assets is distinct from new.assets))
    execute function onetake.book_end();

-- Policies: what may be asked for, by whom and of which routes; and who changed them, when and why.

-- A null says nothing on its point. A route pattern is a route's name in which * stands for any text. Keys of users and
-- features are 'tenant/name'; that of everyone is empty.
create table onetake.policy (
    id                     bigint generated always as identity primary key,
    scope                  text not null check (scope in ('everyone', 'tenant', 'user', 'feature')),
    scope_key              text not null,
    route_pattern          text not null check (route_pattern ~ '^[A-Za-z0-9._/*-]+$'),
    allowed                boolean,
    most_seconds           int check (most_seconds > 0),
    highest_resolution     text,
    most_micros            bigint check (most_micros >= 0),
    most_open              int check (most_open >= 0),
    most_starts_per_minute int check (most_starts_per_minute >= 0),
    watermark              text check (watermark in ('forced', 'forbidden')),
    sound                  text check (sound in ('forced', 'forbidden')),
    prompt_extend          text check (prompt_extend in ('forced', 'forbidden')),
    unique (scope, scope_key, route_pattern),
    check ((scope = 'everyone') = (scope_key = '')),
    check (num_nonnulls(allowed, most_seconds, highest_resolution, most_micros, most_open, most_starts_per_minute,
        watermark, sound, prompt_extend) > 0)
);

create table onetake.policy_change (
    id            bigint generated always as identity primary key,
    at            timestamptz not null default clock_timestamp(),
    who           text not null,
    why           text not null,
    scope         text not null,
    scope_key     text not null,
    route_pattern text not null,
    before        jsonb,
    after         jsonb
);

create trigger policy_change_is_append_only before update or delete or truncate on onetake.policy_change
    for each statement execute function onetake.forbid();

-- Say something on the points that p_points names; a JSON null takes a point back, all others stay. Nothing is changed,
-- and nothing written down, when it says that already. `after` is null when nothing is left to say: nothing is kept.
create function onetake.set_policy(
    p_scope text, p_scope_key text, p_route_pattern text, p_points jsonb, p_who text, p_why text,
    out before jsonb, out after jsonb)
language plpgsql as $$
declare
    v_old onetake.policy;
    v_new onetake.policy;
begin
    -- Not the row's lock: there may be no row yet, and two changes are written down one after the other.
    perform pg_advisory_xact_lock(hashtextextended('onetake.policy ' || p_scope || ' ' || p_scope_key, 0));
    select * into v_old from onetake.policy p
    where p.scope = p_scope and p.scope_key = p_scope_key and p.route_pattern = p_route_pattern for update;
    before := case when found then onetake.points_of(v_old) end;
    v_new := jsonb_populate_record(v_old, p_points);
    after := nullif(onetake.points_of(v_new), '{}');
    if before is not distinct from after then
        return;
    end if;
    if after is null then
        delete from onetake.policy p where p.id = v_old.id;
    elsif before is null then
        insert into onetake.policy (scope, scope_key, route_pattern, allowed, most_seconds, highest_resolution,
            most_micros, most_open, most_starts_per_minute, watermark, sound, prompt_extend)
        values (p_scope, p_scope_key, p_route_pattern, v_new.allowed, v_new.most_seconds, v_new.highest_resolution,
            v_new.most_micros, v_new.most_open, v_new.most_starts_per_minute, v_new.watermark, v_new.sound,
            v_new.prompt_extend);
    else
        update onetake.policy p
        set allowed = v_new.allowed, most_seconds = v_new.most_seconds,
            highest_resolution = v_new.highest_resolution, most_micros = v_new.most_micros,
            most_open = v_new.most_open, most_starts_per_minute = v_new.most_starts_per_minute,
            watermark = v_new.watermark, sound = v_new.sound, prompt_extend = v_new.prompt_extend
        where p.id = v_old.id;
    end if;
    insert into onetake.policy_change (who, why, scope, scope_key, route_pattern, before, after)
    values (p_who, p_why, p_scope, p_scope_key, p_route_pattern, before, after);
end $$;

create function onetake.points_of(p_policy onetake.policy) returns jsonb language sql immutable as $$
    select jsonb_strip_nulls(to_jsonb(p_policy)) - '{id,scope,scope_key,route_pattern}'::text[]
$$;

-- Limits on numbers of generations, which a plan carries. They are kept in the transaction that gives a generation its
-- first plan: whoever is under the same limit waits for its end, so the counts are exact. The lock is that of what is
-- counted, and not of the policy's row: one that was removed and set again has another. These locks come before those of
-- rows, in one order.
create function onetake.lock_limits(p_plan jsonb) returns void language plpgsql as $$
declare
    v_lock bigint;
begin
    for v_lock in
        select distinct hashtextextended(concat_ws(' ', 'onetake.limit', l ->> 'scope', l ->> 'pattern', l ->> 'key'), 0)
        from jsonb_array_elements(p_plan -> 'limits') l order by 1
    loop
        perform pg_advisory_xact_lock(v_lock);
    end loop;
end $$;

-- Raises OT403 with the limit when this generation is one too many of those that have a plan. It starts when its plan is
-- kept: with its row, or later.
create function onetake.keep_limits(p_generation_id text, p_plan jsonb) returns void language plpgsql as $$
declare
    v_limit jsonb;
    v_count bigint;
begin
    for v_limit in select l from jsonb_array_elements(p_plan -> 'limits') l loop
        select count(*) into v_count from onetake.generation g
        where g.plan is not null
          and g.route like replace(replace(v_limit ->> 'pattern', '_', '\_'), '*', '%')
          and (v_limit ->> 'scope' = 'everyone' or g.tenant = split_part(v_limit ->> 'key', '/', 1))
          and (v_limit ->> 'scope' in ('everyone', 'tenant')
               or onetake.key_of(v_limit ->> 'scope', g) = v_limit ->> 'key')
          and case v_limit ->> 'counts'
              when 'open' then g.status in ('queued', 'in_progress')
              else g.created_at > onetake.clock() - interval '1 minute'
                  or g.pinned_at > onetake.clock() - interval '1 minute' end;
        if v_count > (v_limit ->> 'most')::bigint then
            raise exception 'onetake: a policy allows no more' using errcode = 'OT403', detail = v_limit::text;
        end if;
    end loop;
end $$;

-- Quotes: a plan and its price, held for a quarter of an hour for one request of one tenant.
create table onetake.quote (
    id             text primary key check (id ~ '^quo_[0-9a-f-]{36}$'),
    tenant         text not null,
    request_sha256 bytea not null check (octet_length(request_sha256) = 32),
    plan           jsonb not null,
    made_at        timestamptz not null,
    expires_at     timestamptz not null check (expires_at > made_at)
);

create index quote_oldest on onetake.quote (expires_at);

create trigger quote_never_changes before update on onetake.quote for each row execute function onetake.forbid();

create function onetake.make_quote(
    p_id text, p_tenant text, p_request_sha256 bytea, p_plan jsonb, out expires_at timestamptz)
language sql as $$
    insert into onetake.quote (id, tenant, request_sha256, plan, made_at, expires_at)
    values (p_id, p_tenant, p_request_sha256, p_plan, onetake.clock(), onetake.clock() + interval '15 minutes')
    returning expires_at
$$;

-- An expired quote is kept for a day, so that who comes late is told the price of today.
create function onetake.forget_quotes(p_most int) returns bigint language sql as $$
    with old as (
        select q.id from onetake.quote q where q.expires_at < onetake.clock() - interval '1 day'
        order by q.expires_at limit p_most for update skip locked),
    gone as (delete from onetake.quote q using old where q.id = old.id returning 1)
    select count(*) from gone
$$;

-- The days on which somebody was told that a route's reported costs had drifted in a week.
create table onetake.drift_alarm (
    route text not null,
    week  date not null,
    day   date not null,
    primary key (route, week, day)
);

-- The passes of the reconciler: when the last good one was, and what the last one that failed said.

create table onetake.pass (
    is_only   boolean primary key default true check (is_only),
    good_at   timestamptz,
    looked_at int not null default 0,
    found     int not null default 0,
    failed_at timestamptz,
    error     text
);

-- Without an error the pass was good. An error stays until a pass is good again.
create function onetake.note_pass(p_looked_at int, p_found int, p_error text) returns void language sql as $$
    insert into onetake.pass as p (good_at, looked_at, found, failed_at, error)
    values (case when p_error is null then clock_timestamp() end, p_looked_at, p_found,
            case when p_error is not null then clock_timestamp() end, p_error)
    on conflict (is_only) do update set
        good_at = coalesce(excluded.good_at, p.good_at), looked_at = excluded.looked_at, found = excluded.found,
        failed_at = excluded.failed_at, error = excluded.error
$$;

-- What a pass reads: the rows that are open are found by `generation_open`.
create index generation_ended on onetake.generation (ended_at) where origin_run_id is not null;
create index hold_suspended on onetake.hold (generation_id) where state = 'suspended';

-- The backups of this database: when each kind last ended well. The scripts in deployment/backup write it.

create table onetake.backup (
    kind     text primary key check (kind in ('base', 'incremental', 'archive')),
    ended_at timestamptz not null,
    label    text not null default ''
);

-- Who makes backups may note them, and read nothing of the ledger.
create function onetake.note_backup(p_kind text, p_label text) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into onetake.backup as b (kind, ended_at, label) values (p_kind, clock_timestamp(), p_label)
    on conflict (kind) do update set ended_at = excluded.ended_at, label = excluded.label
$$;

revoke execute on function onetake.note_backup(text, text) from public;

-- By what a gateway is known: `onetake doctor` sends a number that nobody knew through the public address, and the
-- answer shows that it came to a gateway on this database, in the life that it has now.

create table onetake.secret (
    the_only boolean primary key default true check (the_only),
    value    text not null default gen_random_uuid()::text || gen_random_uuid()::text
);

insert into onetake.secret default values;

create function onetake.whoami(p_nonce text) returns text language sql stable as $$
    select encode(sha256(convert_to(concat_ws('/', value, onetake.epoch(), p_nonce), 'UTF8')), 'hex')
    from onetake.secret
$$;

-- What nobody needs any more of callbacks: their tokens and what came with them. Entries, holds and submissions stay.

-- Forget so many tokens at most, those of the oldest generations first: of such as ended days ago and have no hold that is
-- open or in suspense. A token whose callback is coming in this very instant is left to the next time: it is skipped while
-- that callback is being stored, and looked at once more when it can get no other.
create function onetake.prune_callbacks(p_days int, p_most int, out tokens bigint, out callbacks bigint)
language plpgsql as $$
declare
    old bytea[];
begin
    select array_agg(each.token_sha256) into old from (
        select t.token_sha256
        from onetake.callback_token t join onetake.generation g on g.id = t.generation_id
        where g.phase = 'done' and greatest(g.ended_at, t.created_at) < now() - p_days * interval '1 day'
          and not exists (
              select from onetake.hold h where h.generation_id = g.id and h.state in ('held', 'suspended'))
          and not exists (
              select from onetake.callback_inbox i where i.token_sha256 = t.token_sha256
                and i.last_seen_at >= now() - p_days * interval '1 day')
        order by t.generation_id, t.token_sha256 limit p_most
        for update of t skip locked
    ) each;
    select array_agg(each) into old from unnest(old) each
    where not exists (
        select from onetake.callback_inbox i where i.token_sha256 = each
          and i.last_seen_at >= now() - p_days * interval '1 day');
    delete from onetake.callback_inbox where token_sha256 = any (old);
    get diagnostics callbacks = row_count;
    delete from onetake.callback_token where token_sha256 = any (old);
    get diagnostics tokens = row_count;
end
$$;
