"""A real PostgreSQL for the verbs that need no other part."""

from tests.ledger.databases import (
    accept,
    accept_many,
    begin,
    budgets,
    database,
    database_url,
    generations,
    ledger,
    order,
    server,
    server_url,
    submissions,
    suspend,
    template_url,
)

__all__ = [
    "accept",
    "accept_many",
    "begin",
    "budgets",
    "database",
    "database_url",
    "generations",
    "ledger",
    "order",
    "server",
    "server_url",
    "submissions",
    "suspend",
    "template_url",
]
