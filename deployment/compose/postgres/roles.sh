#!/bin/sh
# Run by the image of PostgreSQL when it makes its data: a role and databases for Onetake, and for Temporal. What is
# there stays.
set -eu
secrets=${SECRETS:-/run/secrets}

sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres "$@"; }

database() {
    sql --set name="$1" --set owner="$2" <<'END'
select format('create database %I owner %I', :'name', :'owner')
 where not exists (select from pg_database where datname = :'name') \gexec
END
}

for name in onetake temporal; do
    sql --set name="$name" --set password="$(cat "$secrets/postgres-$name")" <<'END'
select format('create role %I login password %L', :'name', :'password')
 where not exists (select from pg_roles where rolname = :'name') \gexec
END
    database "$name" "$name"
done
database temporal_visibility temporal
