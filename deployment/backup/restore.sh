#!/bin/sh
# A PostgreSQL server's data as they were at one second.
set -eu
PROGRAM=restore.sh
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=shared.sh
. "$HERE/shared.sh"

help() {
    cat <<'TEXT'
restore.sh --from FOLDER --archive FOLDER --to FOLDER --at TIME [--backup NAME] [--timeline NAME]

Puts the newest backup in --from that ended before TIME into --to, which must be empty or not there, replays the archived
log up to TIME (such as '2026-11-29 17:04:05+00'), starts the server once on a socket that nobody else can reach, and says
what is in it. Then the server is stopped: start it as you start any other. Run it as the user that runs the server.

    --backup NAME     begin with this backup
    --timeline NAME   which branch of the log is followed: current, the default (that of the backup), latest, or a number

What is restored is a new life of the database: its timeline is a number that no restore from this archive has had, which
is what Onetake knows it by. archive_mode is off in it, so that a drill leaves no log among the real one.
TEXT
}

FROM='' ARCHIVE='' TO='' AT='' BACKUP='' TIMELINE=current
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) help && exit 0 ;;
    --from | --archive | --to | --at | --backup | --timeline)
        [ $# -gt 1 ] || wrong_use "$1 is missing its value"
        case $1 in
        --from) FROM=$2 ;; --archive) ARCHIVE=$2 ;; --to) TO=$2 ;; --at) AT=$2 ;;
        --backup) BACKUP=$2 ;; --timeline) TIMELINE=$2 ;;
        esac
        shift 2
        ;;
    *) wrong_use "there is no option $1" ;;
    esac
done
folder --from "$FROM"
folder --archive "$ARCHIVE"
[ -n "$TO" ] || wrong_use "--to is missing"
[ -n "$AT" ] || wrong_use "--at is missing"
[ "$(id -u)" != 0 ] || fail "PostgreSQL does not run as root" "Run it as the user that runs the server, such as postgres."
[ ! -e "$TO" ] || [ -z "$(ls -A "$TO")" ] ||
    fail "$TO is not empty" "Restore beside the old data, which may be needed; what a restore that failed has left there, remove."
case $ARCHIVE$TO in *[\'\"]*) wrong_use "no quote may be in a path" ;; esac
need pg_combinebackup pg_ctl pg_controldata psql date
WANTED=$(date -u -d "$AT" +%Y%m%dT%H%M%S.%6N 2>/dev/null) || wrong_use "--at $AT is no time such as 2026-11-29 17:04:05+00"
case $AT in *:*[+-][0-9][0-9]* | *Z | *UTC) ;; *) wrong_use "--at $AT names no time zone: add +00 for UTC" ;; esac
AT=$(date -u -d "$AT" '+%Y-%m-%d %H:%M:%S.%6N+00') # as PostgreSQL reads it: `date` takes more spellings

# Names sort by time, and so do the moments at which they ended.
if [ -z "$BACKUP" ]; then
    BACKUP=$(for path in "$FROM"/*-*Z.ended; do
        [ -e "$path" ] && expr "$(cat "$path")" \<= "$WANTED" >/dev/null && basename "$path" .ended
    done | sort -t- -k2 | tail -n 1) || true
    [ -n "$BACKUP" ] || fail "no backup in $FROM ended before $AT" "Restore to a later moment, or from an older folder."
fi
CHAIN='' NEXT=$BACKUP
while :; do
    [ -e "$FROM/$NEXT/backup_manifest" ] || fail "the backup $NEXT is not in $FROM" "Every incremental backup needs those it rests on."
    CHAIN="$NEXT $CHAIN"
    [ -e "$FROM/$NEXT.parent" ] || break
    NEXT=$(cat "$FROM/$NEXT.parent")
done
say "from $(echo "$CHAIN" | sed 's/ $//; s/ / and /g'), then the log up to $AT"
(
    cd "$FROM"
    # shellcheck disable=SC2086 # names that these scripts have made
    pg_combinebackup --output="$TO" $CHAIN
) || fail "pg_combinebackup failed" "Its message is above."
chmod 700 "$TO"

ARCHIVE=$(cd "$ARCHIVE" && pwd)
TO=$(cd "$TO" && pwd)
cat >>"$TO/postgresql.auto.conf" <<TEXT
archive_mode = 'off'
restore_command = 'cp "$ARCHIVE/%f" "%p"'
recovery_target_time = '$AT'
recovery_target_timeline = '$TIMELINE'
recovery_target_action = 'promote'
TEXT
touch "$TO/recovery.signal"
rm -f "$TO/postmaster.pid" "$TO/postmaster.opts"

# Started where nobody can reach it: the tables of who may connect are those of the backup.
ROOM=$(mktemp -d)
trap 'pg_ctl -D "$TO" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$ROOM"' EXIT
echo 'local all all trust' >"$ROOM/hba"
# The log cannot be replayed with fewer of these than the server had, wherever it was told so.
LIKE_IT_WAS=$(LC_ALL=C pg_controldata -D "$TO" | sed -n '
    s/^\(max_[a-z_]*\) setting: *\([0-9]*\)$/\1=\2/
    s/^max_prepared_xacts=/max_prepared_transactions=/
    s/^max_locks_per_xact=/max_locks_per_transaction=/
    s/^max_.*=/-c &/p' | tr '\n' ' ')
dead() {
    sed -n 's/^.*\(FATAL\|PANIC\|HINT\|DETAIL\): */  /p' "$ROOM/log" >&2
    fail "what was restored does not start" "When the target was not reached, the archive ends before $AT: choose an earlier moment."
}
pg_ctl -D "$TO" -l "$ROOM/log" -s -w -t "${START_WAIT_S:-3600}" start \
    -o "-c listen_addresses='' -c unix_socket_directories='$ROOM' -c hba_file='$ROOM/hba' -c port=5432 $LIKE_IT_WAS" ||
    dead
export PGHOST="$ROOM" PGPORT=5432
# It answers before it has replayed the log, and dies when that ends too early.
for _ in $(seq 1 "${START_WAIT_S:-3600}"); do
    [ "$(ask 'select pg_is_in_recovery()' 2>/dev/null)" != f ] || break
    pg_ctl -D "$TO" status >/dev/null || dead
    sleep 1
done
[ "$(ask 'select pg_is_in_recovery()')" = f ] || fail "it is still replaying the log" "Set START_WAIT_S to more seconds."
# The number of this life is taken for good: the next restore from this archive gets another one.
NUMBER=$(ask "select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)")
"$HERE/archive.sh" --to "$ARCHIVE" "$TO/pg_wal/$NUMBER.history" "$NUMBER.history"
ask 'alter system reset recovery_target_time' && ask 'alter system reset recovery_target_timeline'
ask 'alter system reset recovery_target_action' && ask 'alter system reset restore_command'
LAST=$(sed -n 's/^.*last completed transaction was at log time //p' "$ROOM/log" | tail -n 1)
say "restored up to ${LAST:-the end of the backup}, as timeline $NUMBER"
if [ "$(ask "select to_regclass('onetake.generation') is not null")" = t ]; then
    say "$(ask "select format('%s generations, the last accepted at %s; %s entries in the journal',
        (select count(*) from onetake.generation), (select max(created_at) from onetake.generation),
        (select count(*) from onetake.event))")"
fi
pg_ctl -D "$TO" -s -m fast -w stop
trap 'rm -rf "$ROOM"' EXIT
cat >&2 <<TEXT
$PROGRAM: next
  start the server on $TO and point ONETAKE_DATABASE_URL at it
  onetake reconcile --after-failover   writes again what Temporal's runs know and this database does not
  alter system reset archive_mode      when it is to stay: then restart it, and make a whole backup (base.sh)
TEXT
