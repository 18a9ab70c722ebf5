"""A real PostgreSQL for this folder."""

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
    patient,
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
    "patient",
    "server",
    "server_url",
    "submissions",
    "suspend",
    "template_url",
]
