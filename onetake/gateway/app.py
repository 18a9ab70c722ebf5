"""The public application: one callback endpoint and three about its health, and nothing else.

A callback is stored, answered, and only then does anybody act on it. Its body is read to a limit, hashed, and asked for
two unverified hints; it never reaches a log, a workflow or the database.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from onetake import tracing
from onetake.core import logs
from onetake.core.crashpoints import crashpoint
from onetake.ledger.callbacks import Callbacks, Wake
from onetake.metrics import instruments

CALLBACKS: Final = "/callbacks"
BODY_LIMIT_BYTES: Final = 64 * 1024
BODY_LIMIT_S: Final = 10.0
# What is too large is read away so far, and not kept: closing on a client that still sends would lose it the answer.
READ_AWAY_BYTES: Final = 16 * 1024 * 1024
STORE_LIMIT_S: Final = 3.0
CHECK_LIMIT_S: Final = 2.0
RETRY_AFTER_S: Final = 5

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/")

Hint = Callable[[str, bytes], tuple[str | None, str | None]]
Check = Callable[[], Awaitable[None]]

_log = logs.logger(__name__)


class BodyRefused(Exception):
    """A body that is not read to its end."""

    def __init__(self, http_status: int) -> None:
        super().__init__(http_status)
        self.http_status = http_status


@dataclass(frozen=True)
class GatewayParts:
    """What the endpoints need. `hint(vendor, body)` gives a claimed task id and state and never raises.

    `needed` is what a callback cannot be stored without; of `others` only people are told.
    """

    inbox: Callbacks
    wake: Callable[[Wake], object]
    vendors: Collection[str]
    hint: Hint
    needed: Mapping[str, Check]
    others: Mapping[str, Check]


def create_app(parts: GatewayParts) -> FastAPI:
    """The public application. A check of `parts` is named while it fails: those of `needed` by `/readyz`, all by
    `/status`, which no probe may ask: with Temporal away callbacks are stored all the same."""
    app = FastAPI(title="Onetake gateway", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def callback(request: Request) -> Response:
        return await _take(parts, request.path_params["vendor"], request.path_params["token"], request)

    # A plain route: FastAPI's handling of arguments costs a fifth of a callback, and there are none to handle.
    app.add_route(CALLBACKS + "/{vendor}/{token}", callback, methods=["POST"])

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        return await _standing(parts.needed)

    @app.get("/status")
    async def status() -> Response:
        return await _standing({**parts.needed, **parts.others})

    _ = healthz, readyz, status
    return app


async def _take(parts: GatewayParts, vendor: str, token: str, request: Request) -> Response:
    # An unknown vendor, a token of no possible form and a token never given look the same from outside.
    if vendor not in parts.vendors or not _TOKEN.fullmatch(token):
        return _refusal(404)
    began_ns = time.time_ns()
    try:
        body = await read_body(request, BODY_LIMIT_BYTES)
    except BodyRefused as refused:
        instruments().callback(vendor, "refused")
        return _refusal(refused.http_status)
    task_id, state = parts.hint(vendor, body)
    try:
        wake = await _store(parts.inbox, vendor, token, body, task_id, state)
    except Exception as error:  # noqa: BLE001 - whatever is wrong on our side, the vendor must try again
        _log.warning("callback_not_stored", vendor=vendor, error_type=type(error).__name__)
        instruments().callback(vendor, "not_stored")
        return Response(status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})
    crashpoint("callback.after_store")
    instruments().callback(vendor, "stored" if wake else "unknown")
    if wake is None:
        _log.info("callback_unknown", vendor=vendor, size_bytes=len(body))
        return _refusal(404)
    tracing.note_callback(vendor, wake.generation_id, began_ns)
    if wake.is_due:
        parts.wake(wake)
    crashpoint("callback.before_answer")
    return Response(status_code=200)


async def _store(
    inbox: Callbacks, vendor: str, token: str, body: bytes, task_id: str | None, state: str | None
) -> Wake | None:
    crashpoint("callback.before_store")
    async with asyncio.timeout(STORE_LIMIT_S):
        return await inbox.take(
            vendor,
            token,
            claimed_task_id=task_id,
            claimed_state=state,
            body_sha256=hashlib.sha256(body).digest(),
            size_bytes=len(body),
        )


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Read a body up to a limit in bytes and time, never decoding it. Raises BodyRefused (400, 408, 413, 415)."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" or request.headers.get("content-type", "").lower().startswith(_FORMS):
        raise BodyRefused(415)
    body, size_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            async for chunk in request.stream():
                size_bytes += len(chunk)
                if size_bytes > READ_AWAY_BYTES:
                    raise BodyRefused(413)
                if size_bytes <= limit_bytes:
                    body += chunk
    except TimeoutError:
        raise BodyRefused(408) from None
    except ClientDisconnect:
        raise BodyRefused(400) from None
    if size_bytes > limit_bytes:
        raise BodyRefused(413)
    return bytes(body)


def _refusal(http_status: int) -> Response:
    # What was not read must not be taken for the next request.
    return Response(status_code=http_status, headers={"Connection": "close"} if http_status != 404 else None)


async def _standing(checks: Mapping[str, Check]) -> Response:
    results = await asyncio.gather(*(_passes(check) for check in checks.values()))
    red = [name for name, passes in zip(checks, results, strict=True) if not passes]
    return JSONResponse({"status": "red" if red else "ok", "red": red}, 503 if red else 200)


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(CHECK_LIMIT_S):
            await check()
    except Exception:  # noqa: BLE001 - any failure of a check is its answer
        return False
    return True
