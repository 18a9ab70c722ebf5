#!/bin/sh
# Make the secrets of this compose project, in ./secrets; what is there already stays. Vendors' keys are yours to add:
#   install -m 0444 /dev/stdin secrets/vendors/ONETAKE_APIXO_API_KEY
# The folder is its owner's alone; the files in it can be read by the containers that they are mounted into.
set -eu
cd "${1:-$(dirname "$0")}"
umask 022

mkdir -p secrets/onetake secrets/vendors
chmod 0700 secrets

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# file NAME CONTENT: written once.
file() {
    [ -e "secrets/$1" ] && return
    printf '%s' "$2" >"secrets/$1.new"
    chmod 0444 "secrets/$1.new"
    mv "secrets/$1.new" "secrets/$1"
    echo "made secrets/$1" >&2
}

file postgres "$(random 24)"
file postgres-onetake "$(random 24)"
file postgres-temporal "$(random 24)"
file grafana "$(random 12)"
password=$(cat secrets/postgres-temporal)
file temporal.env "POSTGRES_PWD=$password
SQL_PASSWORD=$password
"
file onetake/ONETAKE_DATABASE_URL "postgresql://onetake:$(cat secrets/postgres-onetake)@postgres:5432/onetake"
file onetake/ONETAKE_CODEC_KEY "$(head -c 32 /dev/urandom | base64)"
file onetake/ONETAKE_S3_ACCESS_KEY "$(random 10)"
file onetake/ONETAKE_S3_SECRET_KEY "$(random 20)"
file s3.env "ROOT_ACCESS_KEY=$(cat secrets/onetake/ONETAKE_S3_ACCESS_KEY)
ROOT_SECRET_KEY=$(cat secrets/onetake/ONETAKE_S3_SECRET_KEY)
"
[ -e .env ] || [ ! -e .env.example ] || { cp .env.example .env && echo "made .env of .env.example" >&2; }
