"""Generations, submissions, callbacks, budgets and the ledger: the tables.

Locks are always taken in one order, so that no two calls wait for each other: generation, submission, hold, then budget
windows by (lock_rank, id).
"""

from alembic import op

revision = "0001"
down_revision = None

GENERATIONS = """
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

-- The second barrier behind the functions: whoever writes, a phase never moves back and an end never changes.
create function onetake.forbid() returns trigger language plpgsql as $$
begin
    raise exception 'onetake: % of % is forbidden: %', tg_op, tg_table_name, tg_name using errcode = 'OT001';
end $$;

create trigger generation_only_moves_forward before update on onetake.generation for each row
    when (new.phase < old.phase or (old.phase = 'done' and new.status <> old.status))
    execute function onetake.forbid();
"""

MONEY = """
-- A policy. No row for a scope means that this scope sets no limit. Keys of users and features are 'tenant/name'.
create table onetake.budget (
    id           bigint generated always as identity primary key,
    scope        text not null check (scope in ('tenant', 'user', 'feature', 'route', 'vendor')),
    scope_key    text not null,
    period       text not null check (period in ('day', 'month', 'total')),
    limit_micros bigint not null check (limit_micros >= 0),
    time_zone    text not null default 'UTC',
    unique (scope, scope_key, period)
);

-- The balances of one budget in one window of time; made on first use, never reset. `overrun_micros` is what is used
-- beyond the limit, exactly: zero unless a vendor charged more than was held or the limit was lowered.
create table onetake.budget_window (
    id             bigint generated always as identity primary key,
    budget_id      bigint not null references onetake.budget,
    starts_at      timestamptz not null,
    ends_at        timestamptz not null,
    lock_rank      smallint not null,
    limit_micros   bigint not null check (limit_micros >= 0),
    held_micros    bigint not null default 0 check (held_micros >= 0),
    spent_micros   bigint not null default 0 check (spent_micros >= 0),
    overrun_micros bigint not null default 0 check (overrun_micros >= 0),
    unique (budget_id, starts_at),
    check (starts_at < ends_at),
    check (held_micros + spent_micros <= limit_micros + overrun_micros)
) with (fillfactor = 50);  -- room for the hot row's versions on its own page

create table onetake.hold (
    generation_id text not null references onetake.generation,
    attempt       int not null check (attempt > 0),
    amount_micros bigint not null check (amount_micros > 0),
    state         text not null default 'held' check (state in ('held', 'posted', 'released', 'suspended')),
    actual_micros bigint check (actual_micros >= 0),
    window_ids    bigint[] not null,  -- in lock order
    price_version text not null,
    unit          text not null,
    created_at    timestamptz not null default now(),
    resolved_at   timestamptz,
    primary key (generation_id, attempt),
    check ((state = 'posted') = (actual_micros is not null)),
    check ((state = 'held') = (resolved_at is null))
) with (fillfactor = 80);

create index hold_open on onetake.hold (created_at) where state in ('held', 'suspended');

-- The journal. Its ids are given while the windows are locked, so for each window they are in the order of the changes.
-- `available_micros` is what each window of the hold had left afterwards.
create table onetake.event (
    id               bigint generated always as identity primary key,
    generation_id    text not null,
    attempt          int not null,
    kind             text not null check (kind in
                     ('hold', 'post', 'release', 'overrun', 'suspense', 'suspense_resolved', 'correction')),
    amount_micros    bigint not null check (amount_micros >= 0),
    available_micros bigint[] not null,
    detail           jsonb,
    at               timestamptz not null default clock_timestamp(),
    unique (generation_id, attempt, kind),
    foreign key (generation_id, attempt) references onetake.hold
);

-- One resolution: a post may come with the release of the rest, a suspense stands alone.
create unique index event_post_or_suspense on onetake.event (generation_id, attempt) where kind in ('post', 'suspense');
create unique index event_release_or_suspense on onetake.event (generation_id, attempt)
    where kind in ('release', 'suspense');

create trigger event_is_append_only before update or delete or truncate on onetake.event
    for each statement execute function onetake.forbid();
"""

SUBMISSIONS = """
-- The intent: committed before the first byte leaves. It needs a hold, so nothing unpaid can be sent.
create table onetake.submission (
    generation_id   text not null,
    attempt         int not null,
    vendor          text not null,
    state           text not null default 'sending'
                    check (state in ('sending', 'not_sent', 'accepted', 'rejected', 'ambiguous')),
    request_sha256  bytea not null check (octet_length(request_sha256) = 32),
    seed            bigint,
    vendor_task_id  text,
    error           jsonb,
    reported_micros bigint,
    posts           int not null default 1,
    sent_at         timestamptz not null default clock_timestamp(),
    decided_at      timestamptz,
    primary key (generation_id, attempt),
    foreign key (generation_id, attempt) references onetake.hold,
    unique (vendor, vendor_task_id),
    check (state <> 'accepted' or vendor_task_id is not null)
);

create function onetake.submission_may_become(p_from text, p_to text) returns boolean language sql immutable as $$
    select p_from = p_to or (p_from, p_to) in (
        ('sending', 'not_sent'), ('sending', 'accepted'), ('sending', 'rejected'), ('sending', 'ambiguous'),
        ('not_sent', 'sending'), ('ambiguous', 'accepted'), ('ambiguous', 'rejected'))
$$;

create trigger submission_moves_as_allowed before update on onetake.submission for each row
    when (not onetake.submission_may_become(old.state, new.state)) execute function onetake.forbid();

create table onetake.callback_token (
    token_sha256  bytea primary key check (octet_length(token_sha256) = 32),
    generation_id text not null,
    attempt       int not null,
    post          int not null,
    created_at    timestamptz not null default now(),
    foreign key (generation_id, attempt) references onetake.submission
);
create index callback_token_of_submission on onetake.callback_token (generation_id, attempt);

-- What vendors, or somebody who has a token, told us. Nothing in it is believed. Equal bodies are counted in one row.
create table onetake.callback_inbox (
    id              bigint generated always as identity primary key,
    token_sha256    bytea not null references onetake.callback_token,
    vendor          text not null,
    claimed_task_id text check (length(claimed_task_id) <= 256),
    claimed_state   text check (length(claimed_state) <= 64),
    body_sha256     bytea not null check (octet_length(body_sha256) = 32),
    size_bytes      bigint not null,
    seen            bigint not null default 1,
    received_at     timestamptz not null default now(),
    last_seen_at    timestamptz not null default now(),
    signalled_at    timestamptz,
    unique (token_sha256, body_sha256)
);
create index callback_inbox_unsignalled on onetake.callback_inbox (last_seen_at) where signalled_at is null;
"""


def upgrade() -> None:
    op.execute(GENERATIONS)
    op.execute(MONEY)
    op.execute(SUBMISSIONS)
