#!/bin/sh
# Keeps one segment of PostgreSQL's log: what archive_command calls.
set -eu
PROGRAM=archive.sh
# shellcheck source-path=SCRIPTDIR source=shared.sh
. "$(dirname "$0")/shared.sh"

help() {
    cat <<'TEXT'
archive.sh --to FOLDER PATH NAME

Copies the segment PATH to FOLDER/NAME and returns when it is on disk. It never overwrites: a segment that is there
already with the same bytes is well, with others it is an error. In postgresql.conf:

    archive_mode = on
    archive_timeout = 60s
    archive_command = '/opt/onetake/backup/archive.sh --to /backups/wal "%p" "%f"'
    summarize_wal = on

FOLDER belongs on another machine's disk. One server, one FOLDER.
TEXT
}

TO=
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) help && exit 0 ;;
    --to) [ $# -gt 1 ] || wrong_use "--to is missing its folder" && TO=$2 && shift 2 ;;
    --*) wrong_use "there is no option $1" ;;
    *) break ;;
    esac
done
[ $# -eq 2 ] || wrong_use "PATH and NAME are missing"
folder --to "$TO"
PATH_OF=$1 NAME=$2
[ -r "$PATH_OF" ] || fail "$PATH_OF cannot be read" "archive_command hands over %p, relative to the data folder."
case $NAME in */*) wrong_use "NAME is a name, and no path" ;; esac

is_there() {
    cmp -s "$PATH_OF" "$TO/$NAME" ||
        fail "$TO/$NAME is there with other bytes" "Another server archives into this folder, or did: give each its own."
    exit 0
}

[ ! -e "$TO/$NAME" ] || is_there
DRAFT=$TO/.$NAME.$$
trap 'rm -f "$DRAFT"' EXIT
cp "$PATH_OF" "$DRAFT"
sync "$DRAFT"
ln "$DRAFT" "$TO/$NAME" 2>/dev/null || is_there # a link replaces nothing
rm -f "$DRAFT"
sync "$TO"
