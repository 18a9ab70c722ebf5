-- Generations: accepted once, moved forward only.
--
-- These files are today's schema, applied in the order of their names into the schema `onetake`. A database is brought
-- there by the migrations beside this folder: change the text here and write a migration, a test compares the two.
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
