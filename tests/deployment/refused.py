"""A client whose every call its Temporal refuses, for the alert on that: `refused.py ADDRESS METRICS`.

It exports and logs as our parts do. The server is one that counts runs once a second.
"""

import asyncio
import sys
from contextlib import suppress
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError

from onetake.core.settings import Settings
from onetake.telemetry import start_telemetry

AT_ONCE: Final = 20


async def main(address: str, metrics: str) -> None:
    """Ask until killed."""
    client = await Client.connect(address, runtime=start_telemetry(Settings(metrics_bind=metrics), ["gateway"]))

    async def ask() -> None:
        while True:
            with suppress(RPCError):
                await client.count_workflows()

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
