"""An outcome counts for the POST that it is about: a late word about an earlier one does not touch the present one."""

from alembic import op

revision = "0006"
down_revision = "0005"

RECORD = """
-- `record_submission`, for the outcome of one POST. An attempt that was only stopped may still say of an earlier POST
-- that nothing was sent; taken for the present one, that would let a third be sent. An id is never refused. note is
-- `earlier` when nothing was changed for that reason.
create function onetake.record_post(
    p_generation_id text, p_attempt int, p_post int, p_state text, p_vendor_task_id text, p_error jsonb,
    p_reported_micros bigint,
    out note text, out state text, out vendor_task_id text, out error jsonb, out reported_micros bigint)
language plpgsql as $$
#variable_conflict use_column
begin
    perform from onetake.generation g where g.id = p_generation_id for no key update;
    select 'earlier', s.state, s.vendor_task_id, s.error, s.reported_micros
    into note, state, vendor_task_id, error, reported_micros
    from onetake.submission s
    where s.generation_id = p_generation_id and s.attempt = p_attempt and s.posts > p_post and p_state <> 'accepted';
    if not found then
        select r.note, r.state, r.vendor_task_id, r.error, r.reported_micros
        into note, state, vendor_task_id, error, reported_micros
        from onetake.record_submission(
            p_generation_id, p_attempt, p_state, p_vendor_task_id, p_error, p_reported_micros) r;
    end if;
end $$;
"""


def upgrade() -> None:
    op.execute(RECORD)
