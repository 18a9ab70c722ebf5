-- The control: the functions of the experiment that the ledger was designed after. They hold amounts on windows whose
-- ids the caller knows, and nothing else: no generations, no thresholds, no spend, no changes of limits.
create schema control;

create table control.budget_window (
    id           bigint primary key,
    lock_rank    smallint not null,
    limit_micros bigint not null check (limit_micros >= 0),
    held_micros  bigint not null default 0 check (held_micros >= 0),
    spent_micros bigint not null default 0 check (spent_micros >= 0),
    check (held_micros + spent_micros <= limit_micros)
) with (fillfactor = 50);

create table control.hold (
    generation_id uuid primary key,
    amount_micros bigint not null check (amount_micros > 0),
    state         smallint not null default 0 check (state between 0 and 3),
    window_ids    bigint[] not null,  -- in lock order
    expires_at    timestamptz not null default now() + interval '2 hours'
) with (fillfactor = 80);
create index hold_open on control.hold (expires_at) where state = 0;

create table control.event (
    id            bigint generated always as identity primary key,
    generation_id uuid not null,
    kind          smallint not null,
    amount_micros bigint not null,
    at            timestamptz not null default clock_timestamp(),
    unique (generation_id, kind)
);
create unique index event_one_outcome on control.event (generation_id) where kind in (1, 2);

-- Users 1 to 1000 hold first, then routes, features and the one tenant.
insert into control.budget_window (id, lock_rank, limit_micros)
select 10000 + n, 1, 4e15 from generate_series(0, 999) n
union all select 20000 + n, 2, 4e15 from generate_series(0, 5) n
union all select 30000 + n, 3, 4e15 from generate_series(0, 7) n
union all select 40000, 4, 4e15;

-- One reservation: true when it is held, also on a repeat.
create function control.reserve(p_generation_id uuid, p_amount bigint, p_windows bigint[]) returns boolean
language plpgsql as $$
declare
    v_window bigint;
begin
    perform from control.budget_window w
    where w.id = any (p_windows) and w.limit_micros - w.held_micros - w.spent_micros < p_amount;
    if found then
        return exists (select from control.hold h where h.generation_id = p_generation_id);
    end if;
    insert into control.hold (generation_id, amount_micros, window_ids) values (p_generation_id, p_amount, p_windows)
    on conflict do nothing;
    if not found then
        return true;
    end if;
    insert into control.event (generation_id, kind, amount_micros) values (p_generation_id, 0, p_amount);
    foreach v_window in array p_windows loop
        update control.budget_window w set held_micros = w.held_micros + p_amount
        where w.id = v_window and w.limit_micros - w.held_micros - w.spent_micros >= p_amount;
        if not found then
            raise exception 'control: window % is exhausted', v_window;
        end if;
    end loop;
    return true;
end $$;

-- Many in one transaction, with p_each windows for each: true for each that is held. Where all do not fit, none is:
-- the measurement never comes near a limit.
create function control.reserve_many(
    p_generation_ids uuid[], p_amounts bigint[], p_windows bigint[], p_each int) returns boolean[]
language plpgsql as $$
declare
    v_fresh boolean[];
begin
    with given as (
        select g.number, g.id, g.amount, p_windows[(g.number - 1) * p_each + 1 : g.number * p_each] as windows,
               row_number() over (partition by g.id order by g.number) = 1 as first
        from unnest(p_generation_ids, p_amounts) with ordinality as g (id, amount, number)
    ), held as (
        insert into control.hold (generation_id, amount_micros, window_ids)
        select id, amount, windows from given where first order by id on conflict do nothing returning generation_id
    )
    select array_agg(held.generation_id is not null and given.first order by given.number) into v_fresh
    from given left join held on held.generation_id = given.id;
    perform from (
        select from control.budget_window w where w.id = any (p_windows) order by w.lock_rank, w.id for update) locked;
    update control.budget_window w set held_micros = w.held_micros + needed.micros
    from (
        select p.id, sum(p_amounts[((p.number - 1) / p_each)::int + 1]) as micros
        from unnest(p_windows) with ordinality as p (id, number)
        where v_fresh[((p.number - 1) / p_each)::int + 1] group by p.id) needed
    where w.id = needed.id;
    insert into control.event (generation_id, kind, amount_micros)
    select g.id, 0, g.amount from unnest(p_generation_ids, p_amounts, v_fresh) as g (id, amount, fresh) where g.fresh;
    return array_fill(true, array[cardinality(p_generation_ids)]);
end $$;
