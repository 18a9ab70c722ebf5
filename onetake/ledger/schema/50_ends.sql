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
