#!/bin/sh
# Temporal's two databases, at this version's schema. SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_PLUGIN say where.
# The databases themselves are made with the database server, by postgres/roles.sh. It may be run again.
set -eu

for each in temporal:temporal temporal_visibility:visibility; do
    export SQL_DATABASE="${each%%:*}"
    temporal-sql-tool setup-schema --version 0.0 || echo "$SQL_DATABASE has a schema already" >&2
    temporal-sql-tool update-schema --schema-dir "/etc/temporal/schema/postgresql/v12/${each#*:}/versioned"
done
