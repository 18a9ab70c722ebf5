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
