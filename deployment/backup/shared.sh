# shellcheck shell=sh
# What the scripts of this folder share. PROGRAM names the one that runs.

RIGHTS='docs/restoring.md has the rights that the user needs.'

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

# fail SENTENCE HINT: what went wrong, and what to do.
fail() {
    printf '%s: error: %s\n  %s\n' "$PROGRAM" "$1" "$2" >&2
    exit 1
}

wrong_use() { fail "$1" "$PROGRAM --help shows how it is used."; }

# need PROGRAM...: they are on PATH.
need() {
    for wanted in "$@"; do
        command -v "$wanted" >/dev/null 2>&1 ||
            fail "the program $wanted is not on PATH" "Install PostgreSQL's client and server programs of the server's version."
    done
}

# folder NAME VALUE: it is given, and there.
folder() {
    [ -n "$2" ] || wrong_use "$1 is missing"
    [ -d "$2" ] || fail "$1 $2 is not a folder" "Make it, owned by the user that runs $PROGRAM."
}

ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"; }

# is_server: libpq's variables lead to a server.
is_server() {
    ask 'select 1' >/dev/null ||
        fail "the server does not let us in" "Set PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSFILE (or PGPASSWORD). $RIGHTS"
}

# newest FOLDER PATTERN: the name of the newest backup that is whole; nothing when there is none. Names sort by time.
newest() {
    for path in "$1"/$2; do
        [ -e "$path.ended" ] && basename "$path"
    done | sort -t- -k2 | tail -n 1
}

# finish PATH COMMAND: hand a backup that is whole to whoever encrypts it or carries it away.
finish() {
    [ -z "$2" ] || "$2" "$1" || fail "$2 failed for $1" "The backup itself is whole; run $2 $1 again."
}

not_noted() {
    fail "the $1 backup $2 is whole and could not be noted" "Run: select onetake.note_backup('$1', '$2'); $RIGHTS"
}

# alone FOLDER: nobody else makes an incremental backup in it, or removes old ones, until this script ends.
alone() {
    exec 9>"$1/.lock"
    flock -w "${LOCK_WAIT_S:-3600}" 9 ||
        fail "another backup has held $1/.lock for long" "See what runs there; LOCK_WAIT_S is how many seconds are waited."
}

# note KIND LABEL: in the ledger's database the age of backups is watched; other databases have no place for it.
note() {
    is_ours=$(ask "select to_regprocedure('onetake.note_backup(text,text)') is not null") || not_noted "$@"
    if [ "$is_ours" = t ]; then
        psql -X -q -v ON_ERROR_STOP=1 -v kind="$1" -v label="$2" >/dev/null <<'SQL' ||
select onetake.note_backup(:'kind', :'label');
SQL
            not_noted "$@"
    else
        say "${PGDATABASE:-the database} is no database of Onetake: nothing is noted in it"
    fi
}

# archiving ANYWAY: the server archives its log; not when ANYWAY is yes.
archiving() {
    [ "$1" != yes ] || return 0
    [ "$(ask 'show archive_mode')" != off ] ||
        fail "archive_mode is off: no second after this backup could be restored" "Set it on and restart the server; after restore.sh: alter system reset archive_mode. Or add --without-archive."
}

# until_archived: the log that the backup needs has reached the archive, where there is one.
until_archived() {
    [ "$(ask 'show archive_mode')" != off ] || {
        say "archive_mode is off: this backup stands alone, and no later second can be restored"
        return
    }
    ask "select pg_logical_emit_message(true, 'onetake', 'backup')" >/dev/null # an empty segment is never archived
    segment=$(ask "select pg_walfile_name(pg_switch_wal())") ||
        fail "the server's log could not be switched; the backup itself is whole" "$RIGHTS"
    for _ in $(seq 1 "${ARCHIVE_WAIT_S:-120}"); do
        if [ "$(ask "select coalesce(last_archived_wal, '') >= '$segment' from pg_stat_archiver")" = t ]; then
            note archive "$segment"
            return
        fi
        sleep 1
    done
    fail "the server has not archived $segment" "See archive_command and pg_stat_archiver; the backup itself is whole."
}
