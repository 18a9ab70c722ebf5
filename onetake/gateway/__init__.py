"""The public endpoint: vendors' callbacks come in here, and wake workflows. Nothing in a callback is believed.

Beside it, on a loopback port of its own, the codec endpoint that lets the Temporal UI and CLI show clear text.
"""

from onetake.gateway.serve import run_gateway

__all__ = ["run_gateway"]
