"""Runs the two applications in one process: sockets, limits, signals, and the end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator
from contextlib import AsyncExitStack
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from temporalio.client import Client
from uvicorn.protocols.http.h11_impl import H11Protocol

from onetake.core import logs
from onetake.core.errors import Refused, TryLater
from onetake.core.settings import Settings, require
from onetake.engine.codec import PayloadCipher
from onetake.engine.temporal import connect
from onetake.gateway.app import GatewayParts, create_app
from onetake.gateway.codec_endpoint import create_codec_app, origin_of
from onetake.gateway.wakes import INTERVAL_S, SWEEP_EVERY_S, Signaller, Sweep, Wakes
from onetake.ledger.callbacks import Callbacks
from onetake.ledger.database import Database
from providers.vendors import VENDORS

FIRST_REQUEST_LIMIT_S: Final = 10.0
GRACE_S: Final = 5
MOST_CONNECTIONS: Final = 1024
_HEADER_LIMIT_BYTES: Final = 16 * 1024
_LEAST_INTERVAL_S: Final = 0.05

_log = logs.logger(__name__)


async def run_gateway(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    codec_port: int | None = None,
    codec_host: str = "127.0.0.1",
    codec_token: str | None = None,
) -> None:
    """Serve callbacks, and the codec endpoint when `codec_port` is given, until SIGTERM or SIGINT.

    Temporal may be away: callbacks are stored and signalled later. Raises Refused(`settings_invalid`) for missing
    settings or a taken port, TryLater(`ledger_unavailable`) without a database.
    """
    require(settings, "database_url")
    async with AsyncExitStack() as cleanup:
        client = await connect(settings, lazy=True)
        database = await Database.connect(
            settings.database_url.get_secret_value(),
            pool_size=settings.database_pool,
            application_name="onetake-gateway",
        )
        cleanup.push_async_callback(database.close)
        servers = [new_server(_public_app(settings, client, database, cleanup), host, port, cleanup)]
        if codec_port is not None:
            app = create_codec_app(
                PayloadCipher(settings.codec_keys),
                namespace=client.namespace,
                ui_origin=origin_of(settings.temporal_ui_url),
                host=codec_host,
                token=codec_token,
            )
            servers.append(new_server(app, codec_host, codec_port, cleanup))
        await _serve(servers)


def _public_app(settings: Settings, client: Client, database: Database, cleanup: AsyncExitStack) -> FastAPI:
    scale, inbox = settings.time_scale, Callbacks(database)
    interval_s = max(INTERVAL_S * scale, _LEAST_INTERVAL_S)
    wakes = Wakes(Signaller(client, inbox), interval_s=interval_s)
    cleanup.push_async_callback(wakes.aclose)
    sweep = Sweep(inbox, wakes, older_than_s=2 * interval_s)
    sweeping = asyncio.create_task(sweep.run(max(SWEEP_EVERY_S * scale, 1.0)))
    cleanup.callback(sweeping.cancel)

    async def temporal_answers() -> None:
        if not await client.service_client.check_health():
            raise TryLater("engine_unavailable")

    return create_app(
        GatewayParts(inbox, wakes.wake, VENDORS, _hint, {"database": database.health, "temporal": temporal_answers})
    )


def _hint(vendor: str, body: bytes) -> tuple[str | None, str | None]:
    found = VENDORS[vendor].callback_hint(body)
    return found.task_id, found.state


class _ImpatientProtocol(H11Protocol):
    """Closes a connection whose first request does not come; the keep-alive limit guards only those that follow."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._first = self.loop.call_later(FIRST_REQUEST_LIMIT_S, self._close_without_request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._first.cancel()
        super().connection_lost(exc)

    def _close_without_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Two servers share this process: the loop's own handlers stop both.
        yield


def new_server(app: FastAPI, host: str, port: int, cleanup: AsyncExitStack) -> tuple[uvicorn.Server, socket.socket]:
    """A server with our limits, and the listening socket to serve on. Raises Refused(`settings_invalid`)."""
    config: dict[str, Any] = {
        "http": _ImpatientProtocol,
        "ws": "none",
        "lifespan": "off",
        "loop": "none",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "limit_concurrency": MOST_CONNECTIONS,
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": GRACE_S,
        "h11_max_incomplete_event_size": _HEADER_LIMIT_BYTES,
    }
    return _Server(uvicorn.Config(app, **config)), cleanup.enter_context(_listening(host, port))


def _listening(host: str, port: int) -> socket.socket:
    # Bound here because uvicorn's answer to a taken port is sys.exit.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        # Connections inherit it. asyncio sets it only where the socket names its protocol, which this one does not: an
        # answer with a body would wait 40 ms for the peer's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    raise Refused("settings_invalid", f"Cannot listen on {host}:{port}: {reason}.")


async def _serve(servers: list[tuple[uvicorn.Server, socket.socket]]) -> None:
    def stop() -> None:
        for server, _ in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    ports = [listener.getsockname()[1] for _, listener in servers]
    _log.info("gateway_started", port=ports[0], address=str(servers[0][1].getsockname()[0]))
    try:
        async with asyncio.TaskGroup() as group:
            for server, listener in servers:
                group.create_task(server.serve(sockets=[listener]))
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    _log.info("gateway_stopped")
