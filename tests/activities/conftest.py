"""A real PostgreSQL and a bucket for this folder."""

import secrets

import pytest

from tests.ledger.databases import (
    accept,
    callbacks,
    database,
    database_url,
    fail_over,
    generations,
    ledger,
    order,
    patient,
    server,
    server_url,
    template_url,
)
from tests.media.storage.parts import Server
from tests.servers import Servers

__all__ = [
    "accept",
    "callbacks",
    "database",
    "database_url",
    "fail_over",
    "generations",
    "ledger",
    "order",
    "patient",
    "server",
    "server_url",
    "template_url",
]


@pytest.fixture(scope="module")
def bucket(servers: Servers) -> Server:
    name = servers.bucket(f"persist-{secrets.token_hex(4)}")
    return Server(servers.addresses.s3_endpoint, servers.keys, name, servers.objects / name)
