-- Reviews: a cost that a vendor reports, beyond the plan's multiple of the hold, is booked by a person only.
--
-- It is decided here, beside the locked hold: every way by which a vendor's figure reaches the money ends in `settle`,
-- `correct` or `decide_late`, whoever calls them and whatever the caller's settings say.

-- Whether a vendor's figure must not be booked by itself. Once an amount was reviewed, no later figure decides it.
create function onetake.needs_review(p_plan jsonb, p_hold onetake.hold, p_reported bigint) returns boolean
language sql stable as $$
    select coalesce(p_reported > p_hold.amount_micros * (p_plan ->> 'reported_cost_most')::numeric, false)
        or exists (select from onetake.event e where e.generation_id = p_hold.generation_id
                   and e.attempt = p_hold.attempt and e.kind = 'review')
$$;

-- Whether a late answer of the vendor may still decide the hold: it is in suspense and not left to people.
create function onetake.awaits_vendor(p_hold onetake.hold) returns boolean language sql stable as $$
    select p_hold.state = 'suspended' and not exists (
        select from onetake.event e where e.generation_id = p_hold.generation_id and e.attempt = p_hold.attempt
        and e.kind = 'review')
$$;

-- Record both figures, once, in an entry that moves no money, and tell the generation's owner.
create function onetake.review(p_hold onetake.hold, p_reported bigint) returns void language plpgsql as $$
declare
    v_detail jsonb;
begin
    select e.detail into v_detail from onetake.event e
    where e.generation_id = p_hold.generation_id and e.attempt = p_hold.attempt and e.kind = 'review';
    if not found then
        v_detail := jsonb_build_object('reported_micros', p_reported, 'held_micros', p_hold.amount_micros);
        insert into onetake.event (generation_id, attempt, kind, amount_micros, available_micros, detail)
        values (p_hold.generation_id, p_hold.attempt, 'review', 0,
                onetake.move_balances(p_hold.window_ids, 0, 0), v_detail);
    end if;
    update onetake.generation g
    set updated_at = now(), warnings = g.warnings || jsonb_build_array(jsonb_build_object(
            'code', 'vendor_cost_in_review', 'message',
            format('the vendor reports %s where %s was held: more than the hold is booked only by a person',
                   onetake.in_usd((v_detail ->> 'reported_micros')::bigint), onetake.in_usd(p_hold.amount_micros))))
    where g.id = p_hold.generation_id and not g.warnings @> '[{"code": "vendor_cost_in_review"}]';
end $$;

create function onetake.in_usd(p_micros bigint) returns text language sql immutable as $$
    select '$' || case when p_micros % 10000 = 0 then round(p_micros / 1000000.0, 2)
                  else trim_scale(p_micros / 1000000.0) end
$$;

-- `resolve_suspense` by what a vendor answered late. A figure that needs a review leaves the amount in suspense: note
-- is in_review.
create function onetake.decide_late(
    p_generation_id text, p_attempt int, p_to text, p_actual bigint, p_who text, p_why text, p_basis text,
    out note text, out record jsonb)
language plpgsql as $$
declare
    v_plan jsonb;
    v_hold onetake.hold;
begin
    select g.plan into v_plan from onetake.generation g where g.id = p_generation_id for no key update;
    select * into v_hold from onetake.hold h
    where h.generation_id = p_generation_id and h.attempt = p_attempt for no key update;
    if v_hold.state = 'suspended' and p_to = 'posted' and onetake.needs_review(v_plan, v_hold, p_actual) then
        perform onetake.review(v_hold, p_actual);
        note := 'in_review';
        select to_jsonb(r) into record from onetake.generation_record r where r.id = p_generation_id;
    else
        select d.note, d.record into note, record
        from onetake.resolve_suspense(p_generation_id, p_attempt, p_to, p_actual, p_who, p_why, p_basis) d;
    end if;
end $$;
