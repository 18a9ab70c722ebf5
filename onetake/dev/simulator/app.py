"""One ASGI application for all vendors, each under its own prefix, with the journal and the controls beside them.

The controls are a tool for tests and for the operator of the simulator; they ask for no key, so the simulator belongs
on loopback or on a private network.
"""

import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from onetake.dev.simulator import page
from onetake.dev.simulator.aivideoapi import Aivideoapi
from onetake.dev.simulator.apixo import Apixo
from onetake.dev.simulator.assets import Assets, Links
from onetake.dev.simulator.callbacks import CallbackSender
from onetake.dev.simulator.gmi import Gmi
from onetake.dev.simulator.gptimage2 import Gptimage2
from onetake.dev.simulator.handling import RequestHandler, Terms
from onetake.dev.simulator.journal import Entry, Journal
from onetake.dev.simulator.rendering import PIXELS, Clips
from onetake.dev.simulator.vendor import SimulatedVendor, to_json
from onetake.dev.simulator.wan26ai import Wan26ai
from onetake.dev.simulator.wire import expose_transport

log = logging.getLogger(__name__)

VENDORS: dict[str, type[SimulatedVendor]] = {
    vendor.name: vendor
    for vendor in (
        Apixo,
        Gptimage2,
        Wan26ai,
        Aivideoapi,
        Gmi,
    )
}


@dataclass(frozen=True)
class SimulatorConfig:
    """How one simulator behaves.

    `public_url` is its own address in result links. `home` keeps the journal and the clips; without it they go with the
    process. `api_keys` defaults to `sim-VENDOR-key`, behind the prefix that the vendor asks for;
    `refund_failed_jobs` overrides what a vendor documents. `callback_gap_scale` shortens the pauses between callback
    attempts for tests.
    """

    public_url: str = ""
    home: Path | None = None
    clips_home: Path | None = None
    render_s: float = 2.0
    link_life_s: float = 24 * 3600
    api_keys: Mapping[str, str] = field(default_factory=dict[str, str])
    refund_failed_jobs: Mapping[str, bool] = field(default_factory=dict[str, bool])
    callback_gap_scale: float = 1.0

    def api_key(self, vendor: str) -> str:
        return self.api_keys.get(vendor, f"{VENDORS[vendor].key_prefix}sim-{vendor}-key")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Outage(_Message):
    vendor: str
    seconds: float = Field(ge=0)
    status: Literal[429, 503] = 503


class _Limits(_Message):
    vendor: str
    jobs: int | None = Field(default=None, ge=0)
    reads_per_s: float | None = Field(default=None, ge=0)


class _Callbacks(_Message):
    enabled: bool


class _Release(_Message):
    prompt_sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Prerender(_Message):
    duration_s: int = Field(ge=1, le=60)
    resolution: str
    sound: bool = True
    aspect_ratio: str = "16:9"


_M = TypeVar("_M", bound=_Message)


class _Application(Starlette):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            expose_transport(scope, send)
        await super().__call__(scope, receive, send)


class _Simulator:
    """All parts of one simulator, and the endpoints that belong to no vendor."""

    def __init__(self, config: SimulatorConfig) -> None:
        if not config.public_url:
            raise ValueError("public_url must say where the simulator is reached")
        self._cleanup = contextlib.ExitStack()
        self.vendors = {name: vendor(config.api_key(name)) for name, vendor in VENDORS.items()}
        self.journal = Journal(config.home)
        self.clips = Clips(self._clips_home(config))
        secret = "/".join(config.api_key(name) for name in self.vendors)
        links = Links(config.public_url, config.link_life_s, secret)
        policies = {name: vendor.callbacks for name, vendor in self.vendors.items()}
        self.callback_sender = CallbackSender(self.journal, policies, self._callback_body, config.callback_gap_scale)
        terms = Terms(config.render_s, lambda vendor: _refunds(config, vendor))
        self.handler = RequestHandler(self.journal, self.clips, links, self.callback_sender, terms)
        self.assets = Assets(self.journal, self.clips, links)

    def _clips_home(self, config: SimulatorConfig) -> Path:
        if config.clips_home:
            return config.clips_home
        if config.home:
            return config.home / "clips"
        return Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="onetake-simulator-")))

    def _callback_body(self, entry: Entry) -> bytes:
        return self.handler.status_body(self.vendors[entry.job.vendor], entry)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        log.warning(
            "the simulator's one leniency: callbacks to loopback addresses are accepted, over http too; "
            "a real vendor refuses them"
        )
        self.callback_sender.resume()
        try:
            yield
        finally:
            await self.callback_sender.close()
            self.clips.close()
            self.journal.close()
            self._cleanup.close()

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self.show_page),
            Route("/healthz", self.health),
            Route("/journal", self.show_journal),
            Route("/journal/jobs/{task_id}", self.show_job),
            Route("/control/outage", self.outage, methods=["POST"]),
            Route("/control/limits", self.set_limits, methods=["POST"]),
            Route("/control/limits", self.show_limits),
            Route("/control/release", self.release, methods=["POST"]),
            Route("/control/callbacks", self.callbacks, methods=["POST"]),
            Route("/control/prerender", self.prerender, methods=["POST"]),
            Route("/files/{task_id}/{number}.mp4", self.assets.serve, methods=["GET", "HEAD"]),
            *(
                Mount(f"/{name}", routes=[*vendor.routes(self.handler), _nothing(vendor)])
                for name, vendor in self.vendors.items()
            ),
        ]

    async def health(self, _request: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "vendors": {name: vendor.base_path for name, vendor in self.vendors.items()}}
        )

    async def show_page(self, _request: Request) -> Response:
        return HTMLResponse(page.render(self.journal.page(time.time()), self.vendors))

    async def show_journal(self, request: Request) -> Response:
        return _json(self.journal.page(time.time(), request.query_params.get("vendor")))

    async def show_job(self, request: Request) -> Response:
        entry = self.journal.entries.get(request.path_params["task_id"])
        return _json(entry.page(time.time())) if entry else _json({"error": "no such job"}, 404)

    async def outage(self, request: Request) -> Response:
        message = await _read(_Outage, request)
        if message is None or message.vendor not in self.vendors:
            return _json({"error": f"say vendor ({', '.join(self.vendors)}), seconds, and status 429 or 503"}, 400)
        self.handler.begin_outage(message.vendor, message.seconds, message.status)
        return _json(message.model_dump())

    async def set_limits(self, request: Request) -> Response:
        message = await _read(_Limits, request)
        if message is None or message.vendor not in self.vendors:
            return _json({"error": f"say vendor ({', '.join(self.vendors)}), and jobs, reads_per_s or both"}, 400)
        book = self.handler.limits.set(message.vendor, message.jobs, message.reads_per_s)
        return _json({"vendor": message.vendor, **book.shown()})

    async def show_limits(self, _request: Request) -> Response:
        return _json({name: self.handler.limits.book(name).shown() for name in self.vendors})

    async def release(self, request: Request) -> Response:
        message = await _read(_Release, request)
        if message is None:
            return _json({"error": "say prompt_sha256, in lower-case hex"}, 400)
        return _json({"jobs": self.handler.release(message.prompt_sha256)})

    async def callbacks(self, request: Request) -> Response:
        message = await _read(_Callbacks, request)
        if message is None:
            return _json({"error": "say enabled: true or false"}, 400)
        self.callback_sender.enabled = message.enabled
        return _json({"enabled": message.enabled})

    async def prerender(self, request: Request) -> Response:
        message = await _read(_Prerender, request)
        if message is None or (message.resolution, message.aspect_ratio) not in PIXELS:
            return _json({"error": "say duration_s, resolution, and optionally sound and aspect_ratio"}, 400)
        clips = await self.clips.prerender(message.duration_s, message.resolution, message.sound, message.aspect_ratio)
        return _json({"clips": clips})


def create_app(config: SimulatorConfig) -> Starlette:
    """Build the application. It must be served by uvicorn: some faults need the connection itself.

    Raises ValueError without a `public_url` or with a journal that cannot be read, BlockingIOError when another
    simulator uses the same home.
    """
    simulator = _Simulator(config)
    return _Application(routes=simulator.routes(), lifespan=simulator.lifespan)


def _refunds(config: SimulatorConfig, vendor: SimulatedVendor) -> bool:
    return config.refund_failed_jobs.get(vendor.name, vendor.refunds_failed_jobs)


def _nothing(vendor: SimulatedVendor) -> Route:
    """Every other path of a vendor answers in the vendor's own envelope."""

    async def not_found(_request: Request) -> Response:
        return _json(vendor.error(404, "no such endpoint"), 404)

    return Route("/{path:path}", not_found, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])


async def _read(kind: type[_M], request: Request) -> _M | None:
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError:
        return None


def _json(value: JsonValue, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")
