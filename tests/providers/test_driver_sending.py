"""The only sender over real sockets: when nothing was sent, and when bytes may have left and nobody sends again."""

import asyncio
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from onetake.core.ports import SubmitOutcome
from onetake.media.outbound import Outbound
from providers import apixo
from providers.driver import Clients, Driver
from tests.providers.breaking import ACCEPTED, AMBIGUOUS, HANGING, LONG_S, closing, read_and_reset, resetting, submitted
from tests.providers.parts import API_KEY, PATIENT, SHORT_CONNECT, SHORT_READ, SHORT_WRITE, Connect, submission
from tests.providers.sockets import LOOPBACK, Connection, Play, answer, answering, free_port, own_certificate, serving

# -- Nothing was sent --------------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_not_sent(connect: Connect) -> None:
    outcome = await submitted(connect, f"http://{LOOPBACK}:{free_port()}")
    assert (outcome.outcome, outcome.note) == ("not_sent", "ConnectError")
    assert outcome.error is not None
    assert outcome.error.code == "vendor_unreachable"


async def test_a_name_that_does_not_resolve_is_not_sent(connect: Connect) -> None:
    assert (await submitted(connect, "http://nowhere.invalid", SHORT_CONNECT)).outcome == "not_sent"


async def test_a_connection_that_is_never_answered_is_not_sent(connect: Connect) -> None:
    """A full accept queue drops the handshake."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(listening.getsockname())
            outcome = await submitted(connect, f"http://{LOOPBACK}:{listening.getsockname()[1]}", SHORT_CONNECT)
        finally:
            for one in waiting:
                one.close()
    assert (outcome.outcome, outcome.note) == ("not_sent", "ConnectTimeout")


async def test_a_certificate_that_nobody_vouches_for_is_not_sent(connect: Connect, tmp_path: Path) -> None:
    async with serving(answering(answer(200, ACCEPTED)), tls=own_certificate(tmp_path)) as server:
        outcome = await submitted(connect, server.url)
        assert (outcome.outcome, outcome.note) == ("not_sent", "ConnectError")
        assert server.received == []


async def _silent(connection: Connection) -> None:
    await connection.reader.read()


@pytest.mark.parametrize(
    ("play", "note"),
    [(_silent, "ConnectTimeout"), (resetting, "ConnectError"), (closing, "ConnectError")],
)
async def test_a_tls_handshake_that_fails_is_not_sent(connect: Connect, play: Play, note: str) -> None:
    async with serving(play) as server:
        outcome = await submitted(
            connect, server.url.replace("http:", "https:"), SHORT_CONNECT if play is _silent else PATIENT
        )
    assert ("not_sent", note) == (outcome.outcome, outcome.note)


async def test_a_server_that_speaks_no_tls_is_not_sent(connect: Connect) -> None:
    async def plain(connection: Connection) -> None:
        await connection.reader.read(1)
        await connection.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    async with serving(plain) as server:
        assert (await submitted(connect, server.url.replace("http:", "https:"))).outcome == "not_sent"


async def test_a_wait_for_our_own_pool_is_not_sent() -> None:
    """No free connection of ours: the vendor has seen nothing."""

    arrived, enough = asyncio.Event(), asyncio.Event()

    async def hold(connection: Connection) -> None:
        await connection.read_request()
        arrived.set()
        await enough.wait()

    outbound = Outbound()
    async with (
        asyncio.timeout(LONG_S),
        serving(hold) as server,
        httpx.AsyncClient(timeout=PATIENT, limits=httpx.Limits(max_connections=1), trust_env=False) as http,
    ):
        driver = Driver("apixo", apixo, server.url, API_KEY, clients=Clients(http, http), outbound=outbound)
        first = asyncio.create_task(driver.submit(submission()))
        await arrived.wait()
        http.timeout = httpx.Timeout(LONG_S, pool=0.1)
        second = await driver.submit(submission())
        assert (second.outcome, second.note) == ("not_sent", "PoolTimeout")
        enough.set()
        assert (await first).outcome == "ambiguous"
        assert len(server.received) == 1
    await outbound.aclose()


# -- Bytes have left: nobody sends again -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_once_bytes_may_have_left_the_end_is_ambiguous(connect: Connect, name: str) -> None:
    async with serving(AMBIGUOUS[name]) as server:
        outcome = await submitted(connect, server.url, SHORT_READ if name in HANGING else PATIENT)
        assert outcome.outcome == "ambiguous", outcome
        assert outcome.vendor_task_id is None
        assert outcome.error is None
        # Who gives up after a moment may do so before a busy server has looked.
        least = 0 if name in HANGING else 1
        assert least <= server.connections <= 1, "nothing is sent twice"
        assert len(server.received) <= 1


async def test_a_write_that_nobody_reads_is_ambiguous(connect: Connect) -> None:
    """A body larger than the buffers, sent to a server that never reads it."""

    async def deaf(connection: Connection) -> None:
        connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.sleep(LONG_S)

    outcome = await _submitted_at_length(connect, deaf)
    assert outcome.outcome == "ambiguous"


async def test_a_write_cut_off_half_way_is_ambiguous(connect: Connect) -> None:
    async def cut(connection: Connection) -> None:
        await connection.reader.readexactly(2000)
        connection.reset()

    outcome = await _submitted_at_length(connect, cut)
    assert outcome.outcome == "ambiguous"


async def _submitted_at_length(connect: Connect, play: Play) -> SubmitOutcome:
    order = submission()
    order = replace(order, request=order.request.model_copy(update={"prompt": "x" * 32_000_000}))
    async with serving(play) as server:
        outcome = await connect(server.url, SHORT_WRITE).submit(order)
        assert server.connections <= 1
    return outcome


async def test_a_trusted_certificate_and_a_cut_inside_tls_is_ambiguous(tmp_path: Path) -> None:
    """After the handshake bytes leave: from then on TLS is no excuse."""
    tls = own_certificate(tmp_path)
    verify = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    outbound = Outbound()
    async with (
        serving(read_and_reset, tls=tls) as server,
        httpx.AsyncClient(timeout=PATIENT, verify=verify, trust_env=False) as http,
    ):
        driver = Driver("apixo", apixo, server.url, API_KEY, clients=Clients(http, http), outbound=outbound)
        outcome = await driver.submit(submission())
        assert outcome.outcome == "ambiguous"
        assert len(server.received) == 1
    await outbound.aclose()
