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
