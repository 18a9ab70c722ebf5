"""Runs the two applications in one process: sockets, limits, signals, and the end."""

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from temporalio.client import Client
from uvicorn.protocols.http.h11_impl import H11Protocol

from onetake import tracing
from onetake.core import logs
from onetake.core.errors import Refused, TryLater
from onetake.core.secrets import Secrets
from onetake.core.settings import Settings, require
from onetake.core.signals import Stop, until_asked_to_end
from onetake.engine.cloud import follow_api_key
from onetake.engine.codec import PayloadCipher
from onetake.engine.temporal import connect
from onetake.gateway.app import GatewayParts, create_app
from onetake.gateway.codec_endpoint import create_codec_app, origin_of
from onetake.gateway.wakes import INTERVAL_S, SWEEP_EVERY_S, Signaller, Sweep, Wakes
from onetake.gateway.whoami import answer_whoami
from onetake.ledger.addresses import is_address
from onetake.ledger.callbacks import Callbacks
from onetake.ledger.database import Database
from onetake.telemetry import start_telemetry
from providers.catalogue import load_catalogue
from providers.tariff import Tariff
from providers.vendors import VENDORS

FIRST_REQUEST_LIMIT_S: Final = 30.0
KEPT_S: Final = 75  # longer than load balancers keep one (60 s): who closes first loses what the other is just sending
GRACE_S: Final = 5
TIDY_S: Final = 8.0  # what closing its connections may take beyond the grace
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
    Tariff(load_catalogue(), settings.prices)  # a wrong file of prices stops every process that reads the settings
    codec = None if codec_port is None else (codec_host, codec_port, codec_token)
    await until_asked_to_end(lambda stop: _run(settings, (host, port), codec, stop))


async def _run(
    settings: Settings, public: tuple[str, int], codec: tuple[str, int, str | None] | None, stop: Stop
) -> None:
    async with AsyncExitStack() as cleanup:
        await cleanup.enter_async_context(tracing.traced_as("onetake-gateway"))
        client = await connect(settings, lazy=True, runtime=start_telemetry(settings, ["gateway"]))
        following = asyncio.create_task(follow_api_key(client))
        cleanup.callback(following.cancel)
        database = await Database.connect(
            Secrets(settings).secret("database_url", is_address).now,
            pool_size=settings.database_pool,
            application_name="onetake-gateway",
        )
        cleanup.push_async_callback(database.close)
        servers = [new_server(_public_app(settings, client, database, cleanup), *public, cleanup)]
        if codec is not None:
            codec_host, codec_port, codec_token = codec
            app = create_codec_app(
                PayloadCipher(settings.codec_keys),
                namespace=client.namespace,
                ui_origin=origin_of(settings.temporal_ui_url),
                host=codec_host,
                token=codec_token,
            )
            servers.append(new_server(app, codec_host, codec_port, cleanup))
        await _serve(servers, stop)


def _public_app(settings: Settings, client: Client, database: Database, cleanup: AsyncExitStack) -> FastAPI:
    scale = settings.time_scale
    interval_s = max(INTERVAL_S * scale, _LEAST_INTERVAL_S)
    inbox = Callbacks(database, wake_every_s=interval_s)
    wakes = Wakes(Signaller(client, inbox), turn=inbox.turn_s, interval_s=interval_s)
    cleanup.push_async_callback(wakes.aclose)
    sweep = Sweep(inbox, wakes, older_than_s=2 * interval_s)
    sweeping = asyncio.create_task(sweep.run(max(SWEEP_EVERY_S * scale, 1.0)))
    cleanup.callback(sweeping.cancel)

    async def temporal_answers() -> None:
        if not await client.service_client.check_health():
            raise TryLater("engine_unavailable")

    app = create_app(
        GatewayParts(
            inbox,
            wakes.wake,
            VENDORS,
            _hint,
            needed={"database": database.health},
            others={"temporal": temporal_answers},
        )
    )
    return answer_whoami(app, database)


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
        # Two servers share this process: `Stop` ends both.
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
        "timeout_keep_alive": KEPT_S,
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


def _tell_overdue(servers: Sequence[uvicorn.Server]) -> None:
    """Where no request is under way, it is a connection to the database or to the collector that does not close."""
    requests = sum(len(server.server_state.tasks) for server in servers)
    _log.error("gateway_overdue", detail=f"requests under way: {requests}")


async def _serve(servers: list[tuple[uvicorn.Server, socket.socket]], stop: Stop) -> None:
    stop.finish_first(GRACE_S + TIDY_S, lambda: _tell_overdue([server for server, _ in servers]))
    ports = [listener.getsockname()[1] for _, listener in servers]
    _log.info("gateway_started", port=ports[0], address=str(servers[0][1].getsockname()[0]))
    async with asyncio.TaskGroup() as group:
        for server, listener in servers:
            serving = group.create_task(server.serve(sockets=[listener]))
            serving.add_done_callback(lambda _: stop.ask())  # one that ends by itself leaves nobody who listens
        await stop.asked()
        for server, _ in servers:
            server.should_exit = True
    _log.info("gateway_stopped")
