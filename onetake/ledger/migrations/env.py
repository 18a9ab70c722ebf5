"""Alembic's entry: it renders the migrations as SQL text, which `onetake.ledger.migrate` runs. It never connects."""

from alembic import context

context.configure(
    dialect_name="postgresql",
    dialect_opts={"paramstyle": "named"},
    version_table_schema="onetake",
    as_sql=True,
)
context.run_migrations()
