-- Quotes: a plan and its price, held for a quarter of an hour for one request of one tenant.
create table onetake.quote (
    id             text primary key check (id ~ '^quo_[0-9a-f-]{36}$'),
    tenant         text not null,
    request_sha256 bytea not null check (octet_length(request_sha256) = 32),
    plan           jsonb not null,
    made_at        timestamptz not null,
    expires_at     timestamptz not null check (expires_at > made_at)
);

create index quote_oldest on onetake.quote (expires_at);

create trigger quote_never_changes before update on onetake.quote for each row execute function onetake.forbid();

create function onetake.make_quote(
    p_id text, p_tenant text, p_request_sha256 bytea, p_plan jsonb, out expires_at timestamptz)
language sql as $$
    insert into onetake.quote (id, tenant, request_sha256, plan, made_at, expires_at)
    values (p_id, p_tenant, p_request_sha256, p_plan, onetake.clock(), onetake.clock() + interval '15 minutes')
    returning expires_at
$$;

-- An expired quote is kept for a day, so that who comes late is told the price of today.
create function onetake.forget_quotes(p_most int) returns bigint language sql as $$
    with old as (
        select q.id from onetake.quote q where q.expires_at < onetake.clock() - interval '1 day'
        order by q.expires_at limit p_most for update skip locked),
    gone as (delete from onetake.quote q using old where q.id = old.id returning 1)
    select count(*) from gone
$$;

-- The days on which somebody was told that a route's reported costs had drifted in a week.
create table onetake.drift_alarm (
    route text not null,
    week  date not null,
    day   date not null,
    primary key (route, week, day)
);
