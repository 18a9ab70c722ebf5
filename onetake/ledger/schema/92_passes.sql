-- The passes of the reconciler: when the last good one was, and what the last one that failed said.

create table onetake.pass (
    is_only   boolean primary key default true check (is_only),
    good_at   timestamptz,
    looked_at int not null default 0,
    found     int not null default 0,
    failed_at timestamptz,
    error     text
);

-- Without an error the pass was good. An error stays until a pass is good again.
create function onetake.note_pass(p_looked_at int, p_found int, p_error text) returns void language sql as $$
    insert into onetake.pass as p (good_at, looked_at, found, failed_at, error)
    values (case when p_error is null then clock_timestamp() end, p_looked_at, p_found,
            case when p_error is not null then clock_timestamp() end, p_error)
    on conflict (is_only) do update set
        good_at = coalesce(excluded.good_at, p.good_at), looked_at = excluded.looked_at, found = excluded.found,
        failed_at = excluded.failed_at, error = excluded.error
$$;

-- What a pass reads: the rows that are open are found by `generation_open`.
create index generation_ended on onetake.generation (ended_at) where origin_run_id is not null;
create index hold_suspended on onetake.hold (generation_id) where state = 'suspended';
