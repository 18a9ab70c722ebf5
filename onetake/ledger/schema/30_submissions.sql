-- Submissions: the intent before each POST, its outcome, and what callbacks say of it.

-- The intent: committed before the first byte leaves. It needs a hold, so nothing unpaid can be sent.
create table onetake.submission (
    generation_id   text not null,
    attempt         int not null,
    vendor          text not null,
    state           text not null default 'sending'
                    check (state in ('sending', 'not_sent', 'accepted', 'rejected', 'ambiguous')),
    request_sha256  bytea not null check (octet_length(request_sha256) = 32),
    seed            bigint,
    account         jsonb,        -- what the vendor said of our account just before the POST
    account_at      timestamptz,  -- when nothing else of ours was under way there, before it was asked
    vendor_task_id  text,
    error           jsonb,
    reported_micros bigint,
    posts           int not null default 1,
    sent_at         timestamptz not null default clock_timestamp(),
    was_lost        boolean not null default false,  -- a run told of it after a failover: sent_at is when
    decided_at      timestamptz,
    primary key (generation_id, attempt),
    foreign key (generation_id, attempt) references onetake.hold,
    unique (vendor, vendor_task_id),
    check (state <> 'accepted' or vendor_task_id is not null),
    check ((account is null) = (account_at is null))
);

create index submission_of_vendor on onetake.submission (vendor, sent_at);

create function onetake.submission_may_become(p_from text, p_to text) returns boolean language sql immutable as $$
    select p_from = p_to or (p_from, p_to) in (
        ('sending', 'not_sent'), ('sending', 'accepted'), ('sending', 'rejected'), ('sending', 'ambiguous'),
        ('not_sent', 'sending'), ('ambiguous', 'accepted'), ('ambiguous', 'rejected'))
$$;

create trigger submission_moves_as_allowed before update on onetake.submission for each row
    when (not onetake.submission_may_become(old.state, new.state)) execute function onetake.forbid();

-- One for each address for callbacks that a vendor was given. A submission without one was given none.
create table onetake.callback_token (
    token_sha256  bytea primary key check (octet_length(token_sha256) = 32),
    generation_id text not null,
    attempt       int not null,
    post          int not null,
    created_at    timestamptz not null default now(),
    wake_after    timestamptz,  -- no gateway signals for it before then
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

-- Whether no other submission can have moved our balance at the vendor since then. Only what ended well before, or was
-- refused before, is over: a job that failed, was canceled or given up may still be refunded, for a day, and so may a
-- submission that the vendor charged before the provider behind it refused the content or failed.
create function onetake.account_is_ours_alone(
    p_vendor text, p_since timestamptz, p_generation_id text, p_attempt int) returns boolean language sql volatile as $$
    select not exists (
        select from onetake.submission s join onetake.generation g on g.id = s.generation_id
        where s.vendor = p_vendor and s.sent_at > p_since - interval '1 day'
          and (s.generation_id, s.attempt) is distinct from (p_generation_id, p_attempt)
          and not (s.state in ('rejected', 'not_sent') and s.decided_at < p_since
              and coalesce(s.error ->> 'code', '') not in ('content_rejected', 'vendor_failed'))
          and not (g.status = 'completed' and g.ended_at < p_since and not exists (
              select from onetake.event e
              where e.generation_id = s.generation_id and e.attempt = s.attempt and e.at >= p_since)))
$$;

-- fresh: this call moved the row to `sending`, and nobody else may send; `post` counts the POSTs, this one included.
-- canceled: nothing was sent, and nothing will be. state is null when nothing was ever sent. The account is for a vendor
-- whose balance can prove something. p_epoch is that of the hold, as the run was told. In another one, whoever may have
-- been sent already (p_may_be_sent) is in doubt, whatever stands here; lost: there is no hold here, or no generation.
create function onetake.begin_submission(
    p_generation_id text, p_attempt int, p_vendor text, p_token_sha256 bytea, p_request_sha256 bytea, p_seed bigint,
    p_account jsonb, p_account_at timestamptz, p_epoch text, p_may_be_sent boolean,
    out fresh boolean, out state text, out vendor_task_id text, out error jsonb, out reported_micros bigint,
    out post int, out canceled boolean, out lost boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    v_phase onetake.phase;
    v_canceled boolean;
    v_post int;
begin
    select g.phase, g.cancel_requested into v_phase, v_canceled
    from onetake.generation g where g.id = p_generation_id for no key update;
    lost := v_phase is distinct from 'done' and not exists (
            select from onetake.hold h where h.generation_id = p_generation_id and h.attempt = p_attempt)
        and p_epoch <> onetake.epoch();
    if lost then
        return;
    elsif p_may_be_sent and p_epoch <> onetake.epoch() and v_phase <> 'done' then
        perform onetake.relearn(p_generation_id, p_attempt, p_vendor, p_request_sha256, 'ambiguous', null);
    end if;
    if v_phase <> 'done' and not v_canceled then
        insert into onetake.submission as s
            (generation_id, attempt, vendor, request_sha256, seed, account, account_at)
        values (p_generation_id, p_attempt, p_vendor, p_request_sha256, p_seed, p_account, p_account_at)
        on conflict (generation_id, attempt) do update
        set state = 'sending', posts = s.posts + 1, sent_at = clock_timestamp(), decided_at = null, error = null,
            vendor = p_vendor, request_sha256 = p_request_sha256, seed = p_seed, account = p_account,
            account_at = p_account_at
        where s.state = 'not_sent'
        returning s.posts into v_post;
    end if;
    fresh := v_post is not null;
    post := v_post;
    if fresh then
        insert into onetake.callback_token (token_sha256, generation_id, attempt, post)
        select p_token_sha256, p_generation_id, p_attempt, v_post where p_token_sha256 is not null;
        update onetake.generation g
        set phase = greatest(g.phase, 'submitting'), status = 'in_progress', updated_at = now()
        where g.id = p_generation_id and g.phase < 'submitting';
    end if;
    select s.state, s.vendor_task_id, s.error, s.reported_micros into state, vendor_task_id, error, reported_micros
    from onetake.submission s where s.generation_id = p_generation_id and s.attempt = p_attempt;
    canceled := v_canceled and not fresh and coalesce(state = 'not_sent', true);
end $$;

-- Compare and set: what is stored afterwards, which another call may have decided; state is null when nothing was
-- begun, or what was is lost. An outcome counts for the POST that it is about (null: for the last); where only an
-- earlier one stands here, a failover lost that POST's intent. An attempt that was only stopped may
-- still say of an earlier POST that nothing was sent; taken for the present one, that would let a third be sent. An
-- acceptance always counts. note: recorded; earlier (a later POST has begun); taken (another submission owns the
-- vendor's id). After the last two nothing was changed.
create function onetake.record_submission(
    p_generation_id text, p_attempt int, p_post int, p_state text, p_vendor_task_id text, p_error jsonb,
    p_reported_micros bigint,
    out note text, out state text, out vendor_task_id text, out error jsonb, out reported_micros bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    v_posts int;
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    select s.posts into v_posts from onetake.submission s
    where s.generation_id = p_generation_id and s.attempt = p_attempt;
    note := case when v_posts > p_post and p_state <> 'accepted' then 'earlier' else 'recorded' end;
    if v_posts < p_post then
        update onetake.submission s set state = 'sending', posts = p_post, decided_at = null, error = null
        where s.generation_id = p_generation_id and s.attempt = p_attempt and s.state = 'not_sent';
    end if;
    if note = 'recorded' then
        update onetake.submission s
        set state = p_state, vendor_task_id = p_vendor_task_id, error = p_error, reported_micros = p_reported_micros,
            decided_at = clock_timestamp()
        where s.generation_id = p_generation_id and s.attempt = p_attempt
          and s.state <> p_state and p_state <> 'sending' and onetake.submission_may_become(s.state, p_state);
        if found and p_state in ('accepted', 'ambiguous') then
            update onetake.generation g
            set phase = greatest(
                    g.phase, (case p_state when 'accepted' then 'generating' else 'resolving' end)::onetake.phase),
                vendor_task_id = coalesce(p_vendor_task_id, g.vendor_task_id), updated_at = now()
            where g.id = p_generation_id;
        end if;
    end if;
    select s.state, s.vendor_task_id, s.error, s.reported_micros into state, vendor_task_id, error, reported_micros
    from onetake.submission s where s.generation_id = p_generation_id and s.attempt = p_attempt;
exception when unique_violation then  -- of (vendor, vendor_task_id): what this block changed is undone
    note := 'taken';
end $$;
