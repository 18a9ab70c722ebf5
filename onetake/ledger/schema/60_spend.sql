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
