"""What can tell how a lost submission ended: our account at the vendor before the POST, and whose a listed job is."""

from alembic import op

revision = "0005"
down_revision = "0004"

ACCOUNT = """
alter table onetake.submission
    add column account jsonb,             -- what the vendor said of our account just before the POST
    add column account_at timestamptz,    -- when nothing else of ours was under way there, before it was asked
    add check ((account is null) = (account_at is null));

create index submission_of_vendor on onetake.submission (vendor, sent_at);

-- Whether no other submission can have moved our balance at the vendor since then. Only what ended well before, or was
-- refused before, is over: a job that failed, was canceled or given up may still be refunded, for a day.
create function onetake.account_is_ours_alone(
    p_vendor text, p_since timestamptz, p_generation_id text, p_attempt int) returns boolean language sql volatile as $$
    select not exists (
        select from onetake.submission s join onetake.generation g on g.id = s.generation_id
        where s.vendor = p_vendor and s.sent_at > p_since - interval '1 day'
          and (s.generation_id, s.attempt) is distinct from (p_generation_id, p_attempt)
          and not (s.state in ('rejected', 'not_sent') and s.decided_at < p_since)
          and not (g.status = 'completed' and g.ended_at < p_since and not exists (
              select from onetake.event e
              where e.generation_id = s.generation_id and e.attempt = s.attempt and e.at >= p_since)))
$$;
"""

BEGIN = """
drop function onetake.begin_submission(text, int, text, bytea, bytea, bigint);

-- Fresh for the one call that may send. The last two parameters are for a vendor whose balance can prove something.
create function onetake.begin_submission(
    p_generation_id text, p_attempt int, p_vendor text, p_token_sha256 bytea, p_request_sha256 bytea, p_seed bigint,
    p_account jsonb default null, p_account_at timestamptz default null,
    out fresh boolean, out state text, out vendor_task_id text, out error jsonb, out reported_micros bigint,
    out post int)
language plpgsql as $$
#variable_conflict use_column
declare
    v_phase onetake.phase;
    v_post int;
begin
    select g.phase into v_phase from onetake.generation g where g.id = p_generation_id for no key update;
    if v_phase <> 'done' then
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
        values (p_token_sha256, p_generation_id, p_attempt, v_post);
        update onetake.generation g
        set phase = greatest(g.phase, 'submitting'), status = 'in_progress', updated_at = now()
        where g.id = p_generation_id and g.phase < 'submitting';
    end if;
    select s.state, s.vendor_task_id, s.error, s.reported_micros into state, vendor_task_id, error, reported_micros
    from onetake.submission s where s.generation_id = p_generation_id and s.attempt = p_attempt;
end $$;
"""


def upgrade() -> None:
    op.execute(ACCOUNT)
    op.execute(BEGIN)
