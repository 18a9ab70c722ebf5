"""A real PostgreSQL for this folder."""

from tests.ledger.databases import (
    accept,
    accept_many,
    begin,
    budgets,
    callbacks,
    database,
    database_url,
    generations,
    ledger,
    order,
    server,
    server_url,
    submissions,
    template_url,
)

__all__ = [
    "accept",
    "accept_many",
    "begin",
    "budgets",
    "callbacks",
    "database",
    "database_url",
    "generations",
    "ledger",
    "order",
    "server",
    "server_url",
    "submissions",
    "template_url",
]
