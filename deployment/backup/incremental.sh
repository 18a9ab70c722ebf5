#!/bin/sh
# What has changed on a PostgreSQL server since its newest backup.
set -eu
PROGRAM=incremental.sh
# shellcheck source-path=SCRIPTDIR source=shared.sh
. "$(dirname "$0")/shared.sh"

help() {
    cat <<'TEXT'
incremental.sh --to FOLDER [--without-archive] [--then COMMAND]

Makes FOLDER/incr-TIME: what has changed since the newest backup in FOLDER, which base.sh or this script has made. The
server needs summarize_wal = on. Then it waits until the log is archived, and notes the backup in the ledger's database.

    --without-archive make it although the server archives no log: then no second after it can be restored
    --then COMMAND    run COMMAND PATH when the backup is whole: to encrypt it, to carry it to another place

The server is named by PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSFILE. The user needs REPLICATION and
execute on pg_switch_wal() and onetake.note_backup(text, text); docs/restoring.md has the lines.
TEXT
}

TO='' THEN='' ANYWAY=''
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) help && exit 0 ;;
    --without-archive) ANYWAY=yes && shift ;;
    --to | --then)
        [ $# -gt 1 ] || wrong_use "$1 is missing its value"
        case $1 in --to) TO=$2 ;; --then) THEN=$2 ;; esac
        shift 2
        ;;
    *) wrong_use "there is no option $1" ;;
    esac
done
folder --to "$TO"
need psql pg_basebackup flock
is_server
archiving "$ANYWAY"
[ "$(ask 'show summarize_wal')" = on ] ||
    fail "the server does not note what changes" "Set summarize_wal = on, reload, and make a whole backup with base.sh."
alone "$TO"
PARENT=$(newest "$TO" '*-*Z')
[ -n "$PARENT" ] || fail "$TO holds no backup to go on from" "Make a whole one first: base.sh --to $TO"

NAME=incr-$(date -u +%Y%m%dT%H%M%SZ)
[ ! -e "$TO/$NAME" ] || fail "$TO/$NAME is there already" "Wait a second."
DRAFT=$TO/.$NAME.draft
trap 'rm -rf "$DRAFT"' EXIT
pg_basebackup -D "$DRAFT" --checkpoint=fast --wal-method=stream --no-password \
    --incremental="$TO/$PARENT/backup_manifest" ||
    fail "pg_basebackup failed" "Its message is above. After a restore, or where log summaries are missing, make a whole backup with base.sh."
mv "$DRAFT" "$TO/$NAME"
echo "$PARENT" >"$TO/$NAME.parent"
ask "select to_char(clock_timestamp() at time zone 'UTC', 'YYYYMMDD\"T\"HH24MISS.US')" >"$TO/$NAME.ended"
sync "$TO"
finish "$TO/$NAME" "$THEN"
until_archived
note incremental "$NAME"
say "$TO/$NAME is whole; it rests on $PARENT"
