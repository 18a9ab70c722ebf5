-- Vendors: what all workers know of one together: whether it is paused, and until when it asked to be left alone.

create table onetake.vendor_state (
    vendor text primary key,
    -- Paused: new generations are refused before a reservation; one a minute may probe.
    paused_code text,
    paused_since timestamptz,
    probe_after timestamptz,
    refusals_of_key int not null default 0,
    -- A 429 slows down all calls to the vendor, whoever makes them.
    quiet_until timestamptz,
    check ((paused_code is null) = (paused_since is null))
);

-- May a new generation go to this vendor? The one that moves `probe_after` on is the probe of this minute.
create function onetake.admit_to_vendor(
    p_vendor text, p_probe_gap interval, out verdict text, out code text, out since timestamptz)
language plpgsql as $$
declare
    v_state onetake.vendor_state;
begin
    select * into v_state from onetake.vendor_state s where s.vendor = p_vendor;
    code := v_state.paused_code;
    since := v_state.paused_since;
    if code is null then
        verdict := 'open';
        return;
    end if;
    update onetake.vendor_state s set probe_after = clock_timestamp() + p_probe_gap
    where s.vendor = p_vendor and s.paused_code is not null and s.probe_after <= clock_timestamp();
    verdict := case when found then 'probe' else 'paused' end;
end $$;

-- The outcome of a submission moves the circuit in the very transaction that records it, once.
create function onetake.vendor_learns() returns trigger language plpgsql as $$
declare
    v_code text := new.error ->> 'code';
begin
    if new.state = 'accepted' then
        update onetake.vendor_state s
        set paused_code = null, paused_since = null, probe_after = null, refusals_of_key = 0
        where s.vendor = new.vendor and (s.paused_code is not null or s.refusals_of_key > 0);
    elsif new.state = 'rejected' and v_code in ('vendor_account_empty', 'vendor_account_limit', 'vendor_auth') then
        insert into onetake.vendor_state as s (vendor, refusals_of_key)
        values (new.vendor, (v_code = 'vendor_auth')::int)
        on conflict (vendor) do update set refusals_of_key = s.refusals_of_key + excluded.refusals_of_key;
        update onetake.vendor_state s
        set paused_code = v_code, paused_since = coalesce(s.paused_since, clock_timestamp()),
            probe_after = greatest(s.probe_after, clock_timestamp())
        where s.vendor = new.vendor and (v_code <> 'vendor_auth' or s.refusals_of_key >= 3);
    end if;
    return null;
end $$;

create trigger vendor_learns after update of state on onetake.submission
for each row when (old.state is distinct from new.state and new.state in ('accepted', 'rejected'))
execute function onetake.vendor_learns();

-- Nobody calls the vendor before this; the longest wish wins.
create function onetake.quiet_vendor(p_vendor text, p_for interval) returns void language sql as $$
    insert into onetake.vendor_state as s (vendor, quiet_until) values (p_vendor, clock_timestamp() + p_for)
    on conflict (vendor) do update set quiet_until = greatest(s.quiet_until, excluded.quiet_until)
$$;
