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
