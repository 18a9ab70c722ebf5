"""Servers that have gone without a word keep no worker from ending well, and at once."""

import asyncio
import signal
from pathlib import Path

from onetake.core.probes import NO_VENDOR_KEY
from onetake.dev.devstack.ports import free_port
from tests.servers import Servers
from tests.system.relay import relayed, relaying
from tests.system.started import has_started, readiness
from tests.system.test_asked_to_end import START_LIMIT_S, started


async def test_a_media_worker_whose_servers_fall_silent(servers: Servers, tmp_path: Path) -> None:
    """Temporal's SDK waits 30 s for the server to note its end, which is this role's whole grace; asyncpg would wait
    for the database's end of each connection, and fail then. `communicate` is where it would hang or be killed."""
    env, port = await asyncio.to_thread(servers.of_ones_own, "alone"), free_port(set())
    async with relaying(env["TEMPORAL_ADDRESS"]) as (temporal, at), relayed(env["ONETAKE_DATABASE_URL"]) as (base, url):
        env |= {"TEMPORAL_ADDRESS": at, "ONETAKE_DATABASE_URL": url}
        with started(tmp_path, "worker", "--role", "media", "--health-port", str(port), **env) as process:
            async with asyncio.timeout(START_LIMIT_S):
                while not await asyncio.to_thread(has_started, port):
                    await asyncio.sleep(0.1)
            assert await asyncio.to_thread(readiness, port) == (503, [NO_VENDOR_KEY])
            temporal.silence()
            base.silence()
            process.send_signal(signal.SIGTERM)
            _, said = await asyncio.to_thread(process.communicate, timeout=240)
    assert (process.returncode, "worker_cut_short" in said) == (0, True), said
