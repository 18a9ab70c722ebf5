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
