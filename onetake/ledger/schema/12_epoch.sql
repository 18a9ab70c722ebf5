-- The epoch: which life of the database this is.

-- It changes with the server, and with its timeline: that is, when a standby is promoted, or a copy is restored up to some
-- moment. Both may lack the last commits that were answered before. 'unknown' where the server does not tell its own. The
-- timeline is that of the next record, which a promotion changes at once; the control file follows with a checkpoint.
create function onetake.epoch() returns text language plpgsql stable as $$
begin
    return (select c.system_identifier from pg_control_system() c) || '-'
        || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
exception when others then  -- a service that keeps these functions to itself, or a standby
    return 'unknown';
end $$;
