-- The backups of this database: when each kind last ended well. The scripts in deployment/backup write it.

create table onetake.backup (
    kind     text primary key check (kind in ('base', 'incremental', 'archive')),
    ended_at timestamptz not null,
    label    text not null default ''
);

-- Who makes backups may note them, and read nothing of the ledger.
create function onetake.note_backup(p_kind text, p_label text) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
    insert into onetake.backup as b (kind, ended_at, label) values (p_kind, clock_timestamp(), p_label)
    on conflict (kind) do update set ended_at = excluded.ended_at, label = excluded.label
$$;

revoke execute on function onetake.note_backup(text, text) from public;
