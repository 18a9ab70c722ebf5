"""After the end: one recorded correction, generations that render another again, and rows that never started."""

from alembic import op

revision = "0004"
down_revision = "0003"

CORRECTION = """
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

drop trigger generation_only_moves_forward on onetake.generation;
create trigger generation_only_moves_forward before update on onetake.generation for each row
    when (new.phase < old.phase or (old.phase = 'done' and new.status <> old.status))
    execute function onetake.guard_generation();

create index generation_parent on onetake.generation (parent_id) where parent_id is not null;

-- One generation as the outside sees it: column for column the contract GenerationRecord.
drop view onetake.generation_record;
create view onetake.generation_record as
select g.id, g.tenant, g.user_key as "user", g.feature, g.labels, g.route, g.vendor, g.status, g.phase, g.error,
       g.vendor_task_id, g.assets, g.warnings, g.workflow_id, g.created_at, g.ended_at, g.cancel_requested, g.parent_id,
       jsonb_build_object('reserved_micros', money.reserved, 'settled_micros', money.settled,
                          'suspense_micros', money.suspense, 'basis', g.basis) as cost,
       case when c.generation_id is not null then jsonb_build_object(
           'at', c.at, 'who', c.who, 'why', c.why, 'from_status', c.from_status, 'from_code', c.from_error ->> 'code')
       end as correction
from onetake.generation g
left join onetake.correction c on c.generation_id = g.id
cross join lateral (
    select coalesce(sum(h.amount_micros), 0)::bigint as reserved,
           coalesce(sum(h.actual_micros), 0)::bigint as settled,
           coalesce(sum(h.amount_micros) filter (where h.state = 'suspended'), 0)::bigint as suspense
    from onetake.hold h where h.generation_id = g.id) money;
"""

CORRECT = """
-- Take a late result. A failed generation becomes completed, a canceled one keeps its clip; the hold in suspense is
-- posted, a posted one stays as it is, and one that a person released is charged after all. Once: note is corrected,
-- repeated (it has its clip), open (it has not ended), not_paid (its hold was released: somebody must look) or unknown.
create function onetake.correct(
    p_generation_id text, p_attempt int, p_actual bigint, p_basis text, p_assets jsonb, p_warnings jsonb,
    p_vendor_task_id text, p_who text, p_why text, out note text, out record jsonb)
language plpgsql as $$
declare
    v_generation onetake.generation;
    v_hold onetake.hold;
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
    if note = 'corrected' then
        insert into onetake.correction (generation_id, who, why, from_status, from_error, to_status)
        values (p_generation_id, p_who, p_why, v_generation.status, v_generation.error,
                case v_generation.status when 'failed' then 'completed' else v_generation.status end);
        update onetake.generation g
        set status = case g.status when 'failed' then 'completed' else g.status end,
            error = case g.status when 'failed' then null else g.error end,
            basis = case v_hold.state when 'posted' then g.basis else p_basis end,
            assets = p_assets, warnings = p_warnings, vendor_task_id = p_vendor_task_id, updated_at = now()
        where g.id = p_generation_id;
        if v_hold.state = 'suspended' then
            perform onetake.resolve_suspense(p_generation_id, p_attempt, 'posted', p_actual, p_who, p_why);
        elsif v_hold.state = 'released' then
            v_actual := coalesce(p_actual, v_hold.amount_micros);
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

-- The row of a start that never reached Temporal: nothing was held and nothing sent. False when it did start.
create function onetake.expire(p_generation_id text, p_error jsonb) returns boolean language plpgsql as $$
begin
    update onetake.generation g
    set status = 'failed', phase = 'done', error = p_error, updated_at = now(), ended_at = now()
    where g.id = p_generation_id and g.status = 'queued' and g.origin_run_id is null
      and not exists (select from onetake.hold h where h.generation_id = g.id);
    return found;
end $$;
"""

CHILDREN = """
-- `accept`, for a generation that renders another one again.
create function onetake.accept_child(
    p_id text, p_tenant text, p_workflow_id text, p_run_id text, p_key text, p_request_sha256 bytea, p_request jsonb,
    p_plan jsonb, p_route text, p_vendor text, p_user text, p_feature text, p_labels jsonb, p_parent_id text,
    out outcome text, out id text, out workflow_id text)
language plpgsql as $$
declare
    v_accepted record;
begin
    select * into v_accepted from onetake.accept(p_id, p_tenant, p_workflow_id, p_run_id, p_key, p_request_sha256,
        p_request, p_plan, p_route, p_vendor, p_user, p_feature, p_labels);
    outcome := v_accepted.outcome; id := v_accepted.id; workflow_id := v_accepted.workflow_id;
    update onetake.generation g set parent_id = p_parent_id where outcome = 'created' and g.id = v_accepted.id;
end $$;
"""


def upgrade() -> None:
    for part in (CORRECTION, CORRECT, CHILDREN):
        op.execute(part)
