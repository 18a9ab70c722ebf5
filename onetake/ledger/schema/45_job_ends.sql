-- Job ends: what reads with our own key found of them, and whether a callback had announced them.

-- One row a job, written by the first read that finds the end. Whether a vendor's callbacks arrive is read from these
-- rows: there is no row for each vendor that those who write ends would wait for. The function that writes them takes
-- them from the submission, which is never deleted: a foreign key would check that once more.
create table onetake.job_end (
    generation_id  text not null,
    attempt        int not null,
    vendor         text not null,
    route          text not null,
    resolution     text,
    duration_s     int,
    failed         boolean not null,  -- the vendor's last word
    shows_charge   boolean not null,  -- its last word, too: that it charged for a failed job, and did not refund it
    seen_at        timestamptz not null,
    render_s       float8,            -- from acceptance until then; null when no run was waiting any more
    callback_asked boolean not null,  -- the vendor was given an address for callbacks
    announced_at   timestamptz,       -- when the end was seen, or when the first callback came after that
    primary key (generation_id, attempt)
);

create index job_end_alike on onetake.job_end (route, resolution, duration_s, seen_at) include (render_s)
    where not failed and render_s is not null;
create index job_end_announced on onetake.job_end (vendor, announced_at) where announced_at is not null;
create index job_end_unannounced on onetake.job_end (vendor, seen_at) where announced_at is null and callback_asked;

-- Keep when the end was first seen, whether a callback had announced it then, and the vendor's last word about it. A
-- callback that commits in the same instant is missed, and the end counts as unannounced until the vendor repeats it.
create function onetake.note_job_end(p_generation_id text, p_attempt int, p_failed boolean, p_shows_charge boolean)
returns void language sql as $$
    insert into onetake.job_end as e (generation_id, attempt, vendor, route, resolution, duration_s, failed,
        shows_charge, seen_at, render_s, callback_asked, announced_at)
    select s.generation_id, s.attempt, s.vendor, g.route, g.plan ->> 'resolution', (g.plan ->> 'duration_s')::int,
        p_failed, p_shows_charge, seen.at,
        case when s.state = 'accepted' and g.phase <> 'done' then extract(epoch from seen.at - s.decided_at) end,
        callback.asked, case when callback.came then seen.at end
    from (select clock_timestamp() as at) seen
    join onetake.submission s on s.generation_id = p_generation_id and s.attempt = p_attempt
    join onetake.generation g on g.id = s.generation_id
    cross join lateral (
        select count(*) > 0 as asked, coalesce(bool_or(exists (
            select from onetake.callback_inbox i where i.token_sha256 = t.token_sha256)), false) as came
        from onetake.callback_token t where t.generation_id = s.generation_id and t.attempt = s.attempt) callback
    on conflict (generation_id, attempt) do update
    set failed = excluded.failed, shows_charge = excluded.shows_charge
    where (e.failed, e.shows_charge) <> (excluded.failed, excluded.shows_charge)
$$;
