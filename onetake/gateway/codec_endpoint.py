"""The codec endpoint: decodes payloads for the Temporal UI and CLI, and encodes what they send.

Whoever reaches it reads prompts. It therefore answers loopback names only, pages of the UI only, and needs a token as
soon as it listens to a network. Protocol: https://docs.temporal.io/codec-server
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.middleware.cors import CORSMiddleware
from temporalio.api.common.v1 import Payloads

from onetake.core.errors import Refused
from onetake.engine.codec import PayloadCipher, PayloadRefused
from onetake.gateway.app import BodyRefused, read_body

# The UI sends the payloads of one page of events: 2 MiB is one payload's limit, in base64.
BODY_LIMIT_BYTES: Final = 16 * 1024 * 1024
_HEADERS: Final = ("Authorization", "Content-Type", "X-Namespace")
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SPELLINGS: Final = ("127.0.0.1", "localhost")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on this host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str | None) -> str | None:
    """Scheme, host and port of an address, as a browser names them."""
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else None


def origins_of_ui(origin: str | None) -> tuple[str, ...]:
    """The UI's origin, in both spellings when it is this machine: people open either, and a browser compares text."""
    if origin is None:
        return ()
    scheme, _, place = origin.partition("://")
    host, colon, port = place.partition(":")
    return tuple(f"{scheme}://{name}{colon}{port}" for name in _SPELLINGS) if host in _SPELLINGS else (origin,)


@dataclass(frozen=True)
class CodecEndpoint:
    """Whom the endpoint answers: one namespace, one UI, and either loopback names or holders of the token."""

    cipher: PayloadCipher
    namespace: str
    ui_origins: tuple[str, ...]
    token: str | None

    def refusal(self, request: Request) -> int | None:
        """The status for a caller who may not read, or None."""
        given = request.headers
        if self.token:
            if not hmac.compare_digest(given.get("authorization", "").encode(), f"Bearer {self.token}".encode()):
                return 401
        elif given.get("host", "").rsplit(":", 1)[0] not in _LOOPBACK_NAMES:
            return 403  # a page that had its own name resolved to this machine
        if "origin" in given and given["origin"] not in self.ui_origins:
            return 403
        return None if given.get("x-namespace", self.namespace) == self.namespace else 403

    async def answer(self, request: Request, convert: Callable[[Payloads], Awaitable[None]]) -> Response:
        """Read `{payloads: [...]}`, convert it in place, and send it back."""
        http_status = self.refusal(request)
        if http_status is not None:
            return _says(http_status, "Not for this caller.")
        try:
            payloads = Parse(await read_body(request, BODY_LIMIT_BYTES), Payloads(), ignore_unknown_fields=True)
            if payloads.payloads:
                await convert(payloads)
        except BodyRefused as refused:
            return _says(refused.http_status, "The body is too large, too slow, or encoded.")
        except (ParseError, UnicodeDecodeError, RecursionError):
            return _says(400, "The body is not {payloads: [...]} in JSON.")
        except (PayloadRefused, Refused) as refused:
            return _says(400, str(refused))
        return Response(MessageToJson(payloads), media_type="application/json")


def create_codec_app(
    cipher: PayloadCipher, *, namespace: str, ui_origin: str | None, host: str = "127.0.0.1", token: str | None = None
) -> FastAPI:
    """The application for one namespace. Raises Refused(`settings_invalid`) for a network host without a token."""
    if not is_loopback(host) and not token:
        raise Refused("settings_invalid", f"The codec endpoint may listen on {host} only with a token.")
    app = FastAPI(title="Onetake codec", docs_url=None, redoc_url=None, openapi_url=None)
    endpoint = CodecEndpoint(cipher.in_namespace(namespace), namespace, origins_of_ui(ui_origin), token)

    @app.post("/decode")
    async def decode(request: Request) -> Response:
        return await endpoint.answer(request, endpoint.cipher.decode_wrapper)

    @app.post("/encode")
    async def encode(request: Request) -> Response:
        return await endpoint.answer(request, endpoint.cipher.encode_wrapper)

    _ = decode, encode
    if endpoint.ui_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=endpoint.ui_origins,
            allow_methods=["POST"],
            allow_headers=_HEADERS,
            allow_credentials=True,
            allow_private_network=True,
        )
    return app


def _says(http_status: int, message: str) -> Response:
    return JSONResponse({"message": message}, http_status, headers={"Connection": "close"})
