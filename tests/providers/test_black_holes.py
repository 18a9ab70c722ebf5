"""A vendor that takes every connection and answers nothing harms nobody but itself, and not even its submissions."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from onetake.core.errors import TryLater
from onetake.media.outbound import Outbound
from onetake.worker import MOST_CLIPS, MOST_READS, MOST_SUBMISSIONS
from providers.catalogue import load_catalogue
from providers.driver import MOST_CONNECTIONS, Clients, Driver, configured_drivers
from tests.providers.parts import plan_of, request_on, settings, submission
from tests.providers.sockets import Connection, Server, answer, answering, serving

HANGING_S = 900.0
FULL = httpx.Timeout(HANGING_S, pool=1)
OPEN = json.dumps({"code": 200, "message": "success", "data": {"taskId": "task_1", "state": "processing"}}).encode()
TAKEN = json.dumps({"code": 200, "message": "success", "data": {"taskId": "task_1"}}).encode()


async def black_hole(connection: Connection) -> None:
    await connection.read_request()
    await asyncio.sleep(HANGING_S)


@asynccontextmanager
async def drivers_at(**urls: str) -> AsyncGenerator[dict[str, Driver]]:
    """Drivers of these vendors as a worker makes them."""
    named = {f"{name}_base_url": url for name, url in urls.items()}
    hosts = ",".join(httpx.URL(url).netloc.decode() for url in urls.values())
    async with AsyncExitStack() as cleanup:
        outbound = Outbound()
        cleanup.push_async_callback(outbound.aclose)

        def opened() -> Clients:
            clients = Clients.opened(FULL)
            cleanup.push_async_callback(clients.aclose)
            return clients

        yield configured_drivers(
            settings(**{"gptimage2_base_url": "https://a.example", **named}, trusted_hosts=hosts),
            load_catalogue(),
            clients=opened,
            outbound=outbound,
        )


async def _received(number: int, *servers: Server) -> None:
    """Wait until so many requests have come in."""
    async with asyncio.timeout(HANGING_S / 3):
        while sum(len(server.received) for server in servers) < number:
            await asyncio.sleep(0.01)


async def test_two_vendors_that_hang_at_full_load_keep_nobody_from_a_third() -> None:
    async with (
        serving(black_hole) as one,
        serving(black_hole) as two,
        serving(answering(answer(200, OPEN))) as well,
        drivers_at(gmi=one.url, aivideoapi=two.url, apixo=well.url) as drivers,
    ):
        hanging = [
            asyncio.create_task(drivers[vendor].read_status(plan, "task_1"))
            for vendor in ("gmi", "aivideoapi")
            for plan in [plan_of(request_on(f"{vendor}/wan-2.6/text-to-video"))] * (MOST_READS + MOST_CLIPS)
        ]
        await _received(len(hanging), one, two)
        plan = plan_of(request_on("apixo/wan-2.6/text-to-video"))
        async with asyncio.timeout(HANGING_S / 3):
            read = [await drivers["apixo"].read_status(plan, "task_1") for _ in range(3)]
        assert [status.reading.state for status in read] == ["open"] * 3
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_reads_that_hang_keep_no_submission_of_the_same_vendor() -> None:
    async def reads_hang(connection: Connection) -> None:
        head = await connection.read_request()
        if head.startswith(b"POST"):
            await connection.send(answer(200, TAKEN))
        else:
            await asyncio.sleep(HANGING_S)

    async with serving(reads_hang) as server, drivers_at(apixo=server.url) as drivers:
        plan = plan_of(request_on("apixo/wan-2.6/text-to-video"))
        reads = [asyncio.create_task(drivers["apixo"].read_status(plan, "task_1")) for _ in range(MOST_CONNECTIONS)]
        await _received(MOST_CONNECTIONS, server)
        with pytest.raises(TryLater):  # nobody else reads there now
            await drivers["apixo"].read_status(plan, "task_1")
        async with asyncio.timeout(HANGING_S / 3):
            assert (await drivers["apixo"].submit(submission())).outcome == "accepted"
        for task in reads:
            task.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


def test_a_client_has_a_connection_for_everything_that_a_process_does_with_it_at_a_time() -> None:
    assert MOST_SUBMISSIONS <= MOST_CONNECTIONS
    assert MOST_READS + MOST_CLIPS <= MOST_CONNECTIONS
