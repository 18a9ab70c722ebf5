#!/bin/sh
# A whole backup of a PostgreSQL server.
set -eu
PROGRAM=base.sh
# shellcheck source-path=SCRIPTDIR source=shared.sh
. "$(dirname "$0")/shared.sh"

help() {
    cat <<'TEXT'
base.sh --to FOLDER [--keep N] [--archive FOLDER] [--without-archive] [--then COMMAND]

Makes FOLDER/base-TIME with pg_basebackup while the server goes on. Then it waits until the server has archived the log
that the backup needs, and notes the backup in the ledger's database (onetake.note_backup).

    --keep N          keep the N newest whole backups, with the incremental ones that rest on them; 0, the default, keeps all
    --archive FOLDER  also remove the log that none of them needs any more from the archive
    --without-archive make it although the server archives no log: then no second after it can be restored
    --then COMMAND    run COMMAND PATH when the backup is whole: to encrypt it, to carry it to another place

The server is named by PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSFILE. The user needs REPLICATION and
execute on pg_switch_wal() and onetake.note_backup(text, text); docs/restoring.md has the lines.
TEXT
}

TO='' KEEP=0 ARCHIVE='' THEN='' ANYWAY=''
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) help && exit 0 ;;
    --without-archive) ANYWAY=yes && shift ;;
    --to | --keep | --archive | --then)
        [ $# -gt 1 ] || wrong_use "$1 is missing its value"
        case $1 in --to) TO=$2 ;; --keep) KEEP=$2 ;; --archive) ARCHIVE=$2 ;; --then) THEN=$2 ;; esac
        shift 2
        ;;
    *) wrong_use "there is no option $1" ;;
    esac
done
folder --to "$TO"
[ -z "$ARCHIVE" ] || folder --archive "$ARCHIVE"
case $KEEP in '' | *[!0-9]*) wrong_use "--keep is a number" ;; esac
need psql pg_basebackup pg_archivecleanup flock
is_server
archiving "$ANYWAY"

NAME=base-$(date -u +%Y%m%dT%H%M%SZ)
[ ! -e "$TO/$NAME" ] || fail "$TO/$NAME is there already" "Wait a second."
DRAFT=$TO/.$NAME.draft
trap 'rm -rf "$DRAFT"' EXIT
pg_basebackup -D "$DRAFT" --checkpoint=fast --wal-method=stream --no-password ||
    fail "pg_basebackup failed" "Its message is above; max_wal_senders needs two that are free."
mv "$DRAFT" "$TO/$NAME"
ask "select to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD\"T\"HH24MISS.US')" >"$TO/$NAME.ended"
sync "$TO"
finish "$TO/$NAME" "$THEN"
until_archived
note base "$NAME"
say "$TO/$NAME is whole"

# The incremental backups after a whole one rest on it, and go with it. One that was begun while a whole one was being made
# is later by its name and rests on an older one, which stays with it.
[ "$KEEP" -gt 0 ] || exit 0
alone "$TO"
FIRST=$(for path in "$TO"/base-*; do [ -e "$path.ended" ] && basename "$path"; done | sort | tail -n "$KEEP" | head -n 1)
NEEDED=$(for path in "$TO"/incr-*.ended; do
    NEXT=$(basename "$path" .ended)
    expr "${NEXT#*-}" \>= "${FIRST#*-}" >/dev/null || continue
    while [ -e "$TO/$NEXT.parent" ]; do NEXT=$(cat "$TO/$NEXT.parent") && echo "$NEXT"; done
done)
for path in "$TO"/base-*.ended "$TO"/incr-*.ended; do
    [ -e "$path" ] || continue
    OLD=$(basename "$path" .ended)
    if expr "${OLD#*-}" \< "${FIRST#*-}" >/dev/null && ! echo "$NEEDED" | grep -qx "$OLD"; then
        rm -rf "${TO:?}/$OLD" "$TO/$OLD.ended" "$TO/$OLD.parent"
        say "removed $OLD"
    fi
done
if [ -n "$ARCHIVE" ]; then
    START=$(sed -n 's/^START WAL LOCATION: .*(file \([0-9A-F]*\))$/\1/p' "$TO/$FIRST/backup_label")
    pg_archivecleanup "$ARCHIVE" "$START"
fi
