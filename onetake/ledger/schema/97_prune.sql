-- What nobody needs any more of callbacks: their tokens and what came with them. Entries, holds and submissions stay.

-- Forget so many tokens at most, those of the oldest generations first: of such as ended days ago and have no hold that is
-- open or in suspense. A token whose callback is coming in this very instant is left to the next time: it is skipped while
-- that callback is being stored, and looked at once more when it can get no other.
create function onetake.prune_callbacks(p_days int, p_most int, out tokens bigint, out callbacks bigint)
language plpgsql as $$
declare
    old bytea[];
begin
    select array_agg(each.token_sha256) into old from (
        select t.token_sha256
        from onetake.callback_token t join onetake.generation g on g.id = t.generation_id
        where g.phase = 'done' and greatest(g.ended_at, t.created_at) < now() - p_days * interval '1 day'
          and not exists (
              select from onetake.hold h where h.generation_id = g.id and h.state in ('held', 'suspended'))
          and not exists (
              select from onetake.callback_inbox i where i.token_sha256 = t.token_sha256
                and i.last_seen_at >= now() - p_days * interval '1 day')
        order by t.generation_id, t.token_sha256 limit p_most
        for update of t skip locked
    ) each;
    select array_agg(each) into old from unnest(old) each
    where not exists (
        select from onetake.callback_inbox i where i.token_sha256 = each
          and i.last_seen_at >= now() - p_days * interval '1 day');
    delete from onetake.callback_inbox where token_sha256 = any (old);
    get diagnostics callbacks = row_count;
    delete from onetake.callback_token where token_sha256 = any (old);
    get diagnostics tokens = row_count;
end
$$;
