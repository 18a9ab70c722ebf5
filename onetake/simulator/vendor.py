"""What a vendor file must say, and the values that pass between it and the core.

A vendor file holds the vendor's paths, its rules for a request, its prices, and its words: receipts, statuses, errors.
It holds no clock, no book and no fault.
"""

import ipaddress
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from onetake.simulator.book import Job, JobState

ShownState = JobState | Literal["unknown"]
"""`unknown` stands for a word that the vendor's document does not know (the fault `status-unknown`)."""


class Refusal(Exception):
    """The vendor says no, or fails: the HTTP status, the detail, and any headers that go with it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Order:
    """A valid submission, understood. `price_micros` is the whole price; `echo` is kept for the vendor's own use."""

    model: str
    mode: str
    prompt: str
    duration_s: int
    resolution: str
    width: int
    height: int
    sound: bool
    price_micros: int
    callback_url: str | None = None
    prompt_truncated: bool = False
    echo: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True)
class CallbackPolicy:
    """How a vendor delivers its callbacks, and what it takes for an acknowledgement."""

    acknowledges: Callable[[int], bool]
    timeout_s: float
    retry_gaps_s: tuple[float, ...]


class Desk(Protocol):
    """What the core offers to a vendor's routes."""

    async def submit(self, vendor: "Vendor", request: Request) -> Response: ...
    async def status(self, vendor: "Vendor", request: Request, task_id: str) -> Response: ...


class Vendor(ABC):
    """One vendor. Its routes are mounted under `/NAME`."""

    name: ClassVar[str]
    refunds_failed_jobs: ClassVar[bool]
    callbacks: ClassVar[CallbackPolicy]

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Raise Refusal 401 unless the request carries the configured key as a Bearer token."""
        if headers.get("authorization") != f"Bearer {self._api_key}":
            raise Refusal(401, "Missing or invalid API key")

    @abstractmethod
    def routes(self, desk: Desk) -> Sequence[BaseRoute]:
        """Return every path of this vendor; submissions and status reads go through the desk."""

    @abstractmethod
    def order(self, request: Request, body: bytes) -> Order:
        """Understand a submission; raise Refusal for the first documented rule that it breaks."""

    @abstractmethod
    def new_task_id(self) -> str:
        """Return a new id in the vendor's own form."""

    @abstractmethod
    def receipt(self, job: Job, *, with_task_id: bool) -> JsonValue:
        """Return the answer to an accepted submission."""

    @abstractmethod
    def status(self, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
        """Return the status answer, which is also the body of the callback. `urls` are the results, once there."""

    @abstractmethod
    def error(self, status: int, detail: str) -> JsonValue:
        """Return the body of an error answer."""


def to_json(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def require_public_https(url: str) -> None:
    """Raise ValueError unless a callback can be sent there: public https, or this machine's loopback.

    Loopback, over http too, is the simulator's one leniency; a real vendor refuses it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) and parts.scheme in ("http", "https"):
        return
    if parts.scheme != "https" or not _is_public(host):
        raise ValueError("must be a public https URL")


def is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_public(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_global
    return "." in host.strip(".") and not host.endswith((".localhost", ".local", ".internal"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
