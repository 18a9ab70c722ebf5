"""A real PostgreSQL for this folder."""

from tests.ledger.databases import database, database_url, server, server_url, template_url

__all__ = ["database", "database_url", "server", "server_url", "template_url"]
