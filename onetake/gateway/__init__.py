"""The HTTP server that receives vendors' callbacks, stores them, and signals workflows to read the status themselves.

On a loopback port of its own it also serves the codec endpoint, which decrypts payloads for the Temporal UI and CLI.
"""

from onetake.gateway.serve import run_gateway

__all__ = ["run_gateway"]
