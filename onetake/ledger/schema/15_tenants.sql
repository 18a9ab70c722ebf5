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
