"""What a vendor file must say, and the values that pass between it and the core.

A vendor file holds the vendor's paths, its rules for a request, its prices, and its words: receipts, statuses, errors.
It holds no clock, no journal and no fault.
"""

import ipaddress
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from onetake.dev.simulator.journal import Job, JobState

REFUSED_ON_DEMAND = "refused on demand"  # the detail of a refusal that a marker asked for
TASK_NOT_FOUND = "task not found"  # the detail of a refusal that is about a task and not about a model or an endpoint

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
class ClipOrder:
    """A valid submission, understood. `price_micros` is the whole price; `echo` is kept for the vendor's own use.

    `said` is the request itself, for a vendor that repeats it: it is kept in memory and in no file.
    """

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
    said: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True)
class CallbackPolicy:
    """How a vendor delivers its callbacks, and what it takes for an acknowledgement."""

    acknowledges: Callable[[int], bool]
    timeout_s: float
    retry_gaps_s: tuple[float, ...]


class Strict(BaseModel):
    """A part of a request: no other fields, no other types, `null` is not a value."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Page = Callable[[Sequence[tuple[Job, JsonValue]]], JsonValue]
"""Makes an answer of all jobs of a vendor, newest first, each with its status answer; it may raise Refusal."""

AccountAnswer = Callable[[int], JsonValue]
"""Makes an answer about the balance, of the micros that the vendor's jobs have cost so far."""


class Handler(Protocol):
    """What answers the requests that a vendor's routes receive."""

    async def submit(self, vendor: "SimulatedVendor", request: Request) -> Response: ...
    async def status(self, vendor: "SimulatedVendor", request: Request, task_id: str) -> Response: ...
    async def listing(self, vendor: "SimulatedVendor", request: Request, page: Page) -> Response: ...
    async def account(self, vendor: "SimulatedVendor", request: Request, answer: AccountAnswer) -> Response: ...


class SimulatedVendor(ABC):
    """One vendor. Its routes are mounted under `/NAME`."""

    name: ClassVar[str]
    base_path: ClassVar[str]  # what stands for the documented base address: `/NAME` and its path
    refunds_failed_jobs: ClassVar[bool]
    bills_generated: ClassVar[bool] = False  # the seconds that it made, and not those that were ordered
    callbacks: ClassVar[CallbackPolicy]
    state_at: ClassVar[tuple[str, ...]]  # where the state's word stands in a status answer
    result_at: ClassVar[tuple[str, ...]]  # where the links stand
    key_prefix: ClassVar[str] = ""  # what the simulator's default key begins with

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def authorise(self, headers: Mapping[str, str]) -> None:
        """Raise Refusal 401 unless the request carries the configured key as a Bearer token."""
        if headers.get("authorization") != f"Bearer {self._api_key}":
            raise Refusal(401, "Missing or invalid API key")

    @abstractmethod
    def routes(self, handler: Handler) -> Sequence[BaseRoute]:
        """Return every path of this vendor; submissions and status reads go through the handler."""

    @abstractmethod
    def order(self, request: Request, body: bytes) -> ClipOrder:
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

    def error_in_200(self, status: int, detail: str) -> JsonValue:
        """Return the body of an error that is sent with HTTP 200."""
        return self.error(status, detail)


def shown_charge(job: Job, charge: float) -> JsonValue:
    """What an answer says that a job costs: its charge, or what the marker `cost` says."""
    said = job.script.find("cost")
    return json.loads(said.value) if said else charge


def shown_word(job: Job, word: str) -> JsonValue:
    """An undocumented state: the vendor file's own, or what the marker `status-word` says."""
    said = job.script.find("status-word")
    return json.loads(said.value) if said else word


def shown_results(job: Job, urls: Sequence[str]) -> JsonValue:
    """The list of results, or with the marker `bad-result` something else in its place."""
    return {"0": None} if "bad-result" in job.script else list(urls)


def to_json(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def require_json(request: Request) -> None:
    """Raise Refusal 400 unless the body is sent as JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(400, "Content-Type must be application/json")


def first_fault(error: ValidationError, tags: Collection[str] = ()) -> str:
    """Say which field and why, in the caller's terms and without repeating the value.

    `tags` name the members of unions: Pydantic puts them into the path, and they are no fields of the request.
    """
    fault: dict[str, Any] = {**error.errors(include_input=False, include_url=False)[0]}
    place, words = [str(part) for part in fault["loc"] if part not in tags], str(fault["msg"])
    if fault["type"] == "union_tag_invalid":  # its own words quote the value
        place, words = [*place, fault["ctx"]["discriminator"].strip("'")], f"must be {fault['ctx']['expected_tags']}"
    return f"{'.'.join(place)}: {words}" if place else words


def web_address(url: str) -> str:
    """Return an absolute http or https address; raise ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    return url


def not_blank(text: str) -> str:
    """Return a text with something in it; raise ValueError for anything else."""
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def public_https(url: str) -> str:
    """Return an address to which a callback can be sent; see `require_public_https`."""
    require_public_https(url)
    return url


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
