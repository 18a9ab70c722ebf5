-- After a failover: what was committed and answered in an older epoch, and is not here, is written again.
--
-- A run knows its request, its plan, the epoch of its hold and what became of its submission. What it knows is a fact, so
-- nothing here is refused: the money is spent, whatever a budget says. All of it is repeatable.

-- Bring the intent row to what the run knows. An intent that is absent here, or whose last POST was turned away, proves
-- nothing in another epoch than that of its hold: a later one may have been lost. An acceptance without its id is in doubt
-- until it is recorded. Needs the generation's lock, and a hold.
create function onetake.relearn(
    p_generation_id text, p_attempt int, p_vendor text, p_request_sha256 bytea, p_sent text, p_vendor_task_id text)
returns void language plpgsql as $$
declare
    v_task_id text := nullif(p_vendor_task_id, '');
    v_sent text := case when p_sent in ('rejected', 'not_sent') or p_sent = 'accepted' and v_task_id is not null
                        then p_sent else 'ambiguous' end;
begin
    if v_sent = 'not_sent' then
        return;
    end if;
    insert into onetake.submission as s
        (generation_id, attempt, vendor, request_sha256, state, vendor_task_id, was_lost, decided_at)
    values (p_generation_id, p_attempt, p_vendor, p_request_sha256, v_sent, v_task_id, true, clock_timestamp())
    on conflict (generation_id, attempt) do nothing;
    if not found then
        update onetake.submission s
        set state = 'sending', posts = s.posts + 1, sent_at = clock_timestamp(), was_lost = true, decided_at = null,
            error = null
        where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state = 'not_sent';
        update onetake.submission s
        set state = v_sent, vendor_task_id = coalesce(v_task_id, s.vendor_task_id),
            decided_at = clock_timestamp()
        where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state <> v_sent
          and onetake.submission_may_become(s.state, v_sent);
    end if;
    update onetake.generation g
    set phase = greatest(g.phase, (case v_sent when 'accepted' then 'generating' when 'ambiguous' then 'resolving'
                                   else 'submitting' end)::onetake.phase),
        vendor_task_id = coalesce(v_task_id, g.vendor_task_id), status = 'in_progress', updated_at = now()
    where g.id = p_generation_id and g.phase <> 'done';
exception when unique_violation then  -- another submission owns the vendor's id: ours is in doubt
    perform onetake.relearn(p_generation_id, p_attempt, p_vendor, p_request_sha256, 'ambiguous', null);
end $$;

-- Write the generation, its hold with its entry, and its submission, where they are missing. The hold counts in the
-- windows of now, where its entry stands, beyond their limits if need be; without an epoch nothing was held. A key that
-- somebody has used since stays theirs. `was_lost` names what was missing.
create function onetake.restore(
    p_id text, p_tenant text, p_workflow_id text, p_key text, p_request_sha256 bytea, p_request jsonb, p_plan jsonb,
    p_route text, p_vendor text, p_user text, p_feature text, p_labels jsonb, p_attempt int, p_epoch text, p_sent text,
    p_vendor_task_id text, out was_lost text[])
language plpgsql as $$
declare
    v_amount bigint := (p_plan #>> '{price,amount_micros}')::bigint;
    v_phase onetake.phase;
    v_windows bigint[];
    v_missing bigint[];
    v_available bigint[];
    v_sent text;
begin
    was_lost := '{}';
    insert into onetake.generation (id, tenant, workflow_id, idempotency_key, request_sha256, request, plan, route,
        vendor, user_key, feature, labels, status)
    select p_id, p_tenant, p_workflow_id, case when not exists (
               select from onetake.generation g where g.tenant = p_tenant and g.idempotency_key = p_key) then p_key end,
           p_request_sha256, p_request, p_plan, p_route, p_vendor, p_user, p_feature, p_labels, 'in_progress'
    on conflict do nothing;
    if found then
        was_lost := was_lost || 'generation'::text;
    end if;
    select g.phase into v_phase from onetake.generation g where g.id = p_id for no key update;
    if not found then  -- the key was taken in this moment
        raise exception 'onetake: repeat' using errcode = 'serialization_failure';
    end if;
    if p_epoch is null or v_phase = 'done' then
        return;
    end if;

    if not exists (select from onetake.hold h where h.generation_id = p_id and h.attempt = p_attempt) then
        loop
            select array_agg(w.window_id order by w.lock_rank, w.window_id),
                   array_agg(w.budget_id) filter (where w.window_id is null)
            into v_windows, v_missing
            from onetake.scopes_of(p_tenant, p_user, p_feature, p_route, p_vendor) s
            cross join lateral onetake.windows_of(s.scope, s.scope_key) w;
            exit when v_missing is null;
            perform onetake.open_windows(v_missing);
        end loop;
        insert into onetake.hold (generation_id, attempt, amount_micros, window_ids, price_version, unit, epoch)
        values (p_id, p_attempt, v_amount, coalesce(v_windows, '{}'), p_plan #>> '{price,table_version}',
                p_plan #>> '{price,unit}', p_epoch);
        v_available := onetake.move_balances(coalesce(v_windows, '{}'), v_amount, 0);
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, detail)
        values (p_id, p_attempt, 'hold', v_amount, v_available, jsonb_build_object('restored_from', p_epoch));
        was_lost := was_lost || 'hold'::text;
    end if;

    select s.state into v_sent from onetake.submission s where s.generation_id = p_id and s.attempt = p_attempt;
    perform onetake.relearn(p_id, p_attempt, p_vendor, p_request_sha256, p_sent, p_vendor_task_id);
    if v_sent is distinct from (
        select s.state from onetake.submission s where s.generation_id = p_id and s.attempt = p_attempt) then
        was_lost := was_lost || 'submission'::text;
    end if;
end $$;
