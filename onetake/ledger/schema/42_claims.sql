-- Claims: a vendor's answers about one job held against each other: the id that a POST was answered with, the ids that
-- callbacks with our tokens named, and when the vendor made the job.

create index callback_inbox_claim on onetake.callback_inbox (vendor, claimed_task_id) where claimed_task_id is not null;

-- Whether callbacks say that a job is another submission's: only tokens of others named it, or our own tokens named other
-- jobs only.
create function onetake.is_anothers(p_vendor text, p_task_id text, p_generation_id text, p_attempt int)
returns boolean language sql stable as $$
    select coalesce(
        (select not bool_or(i.claimed_task_id = p_task_id)
         from onetake.callback_token t join onetake.callback_inbox i using (token_sha256)
         where t.generation_id = p_generation_id and t.attempt = p_attempt and i.claimed_task_id is not null),
        exists (select from onetake.callback_inbox i where i.vendor = p_vendor and i.claimed_task_id = p_task_id))
$$;

-- Such a job is refused as one that another submission has: the outcome is in doubt then, and our own token resolves it.
create function onetake.id_is_ours() returns trigger language plpgsql as $$
begin
    if onetake.is_anothers(new.vendor, new.vendor_task_id, new.generation_id, new.attempt) then
        raise unique_violation using message = 'callbacks say that the job is another submission''s';
    end if;
    return null;
end $$;

create trigger id_is_ours after update of state on onetake.submission
for each row when (old.state is distinct from new.state and new.state = 'accepted')
execute function onetake.id_is_ours();

-- Give an accepted submission the job that its own token named, in place of another's; the id that it has afterwards. A
-- job that another submission has stays where it is.
create function onetake.reassign_submission(p_generation_id text, p_attempt int, p_wrong text, p_right text)
returns text language plpgsql as $$
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    update onetake.submission s set vendor_task_id = p_right
    where s.generation_id = p_generation_id and s.attempt = p_attempt
      and s.state = 'accepted' and s.vendor_task_id = p_wrong;
    if found then
        update onetake.generation g set vendor_task_id = p_right, updated_at = now() where g.id = p_generation_id;
    end if;
    return (select s.vendor_task_id from onetake.submission s
            where s.generation_id = p_generation_id and s.attempt = p_attempt);
exception when unique_violation then
    return p_wrong;
end $$;

-- Whether the token of a submission whose outcome is in doubt named the job, and none of ours did.
create function onetake.is_of_one_in_doubt(p_vendor text, p_task_id text, p_generation_id text, p_attempt int)
returns boolean language sql stable as $$
    select coalesce(bool_or(o.state in ('sending', 'ambiguous'))
        and not bool_or((t.generation_id, t.attempt) = (p_generation_id, p_attempt)), false)
    from onetake.callback_inbox i join onetake.callback_token t using (token_sha256)
    join onetake.submission o on o.generation_id = t.generation_id and o.attempt = t.attempt
    where i.vendor = p_vendor and i.claimed_task_id = p_task_id
$$;

-- Keep the end of a job, unless it is another submission's: only the token of one whose outcome is in doubt named it, or
-- it is older than our first POST. Then nothing is kept, and the answer is false. That our own token named other jobs
-- decides nothing here: anybody who has it may say so, and the run has looked into it. Each age is by one clock: the job's by the vendor's, the POST's by ours. When a
-- POST was that a failover took nobody knows, so no job is too old for it.
create function onetake.note_end_of_ours(
    p_generation_id text, p_attempt int, p_failed boolean, p_shows_charge boolean, p_age interval)
returns boolean language plpgsql as $$
begin
    if exists (
        select from onetake.submission s join onetake.hold h using (generation_id, attempt)
        where s.generation_id = p_generation_id and s.attempt = p_attempt
          and (p_age > clock_timestamp() - case when s.posts = 1 then s.sent_at else h.created_at end
              and not s.was_lost
              or onetake.is_of_one_in_doubt(s.vendor, s.vendor_task_id, s.generation_id, s.attempt)))
    then
        return false;
    end if;
    perform onetake.note_job_end(p_generation_id, p_attempt, p_failed, p_shows_charge);
    return true;
end $$;
