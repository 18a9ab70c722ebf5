"""A real PostgreSQL for this folder."""

from tests.ledger.databases import (
    accept,
    callbacks,
    database,
    database_url,
    generations,
    ledger,
    order,
    server,
    server_url,
    template_url,
)

__all__ = [
    "accept",
    "callbacks",
    "database",
    "database_url",
    "generations",
    "ledger",
    "order",
    "server",
    "server_url",
    "template_url",
]
