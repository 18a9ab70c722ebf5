"""A real PostgreSQL for the verbs that need nothing else."""

from tests.ledger.databases import database_url, server, server_url, template_url

__all__ = ["database_url", "server", "server_url", "template_url"]
