"""The only place that sends to a vendor: one shared client, explicit timeouts, no redirects, a cap on what is read.

It never retries: Temporal retries reads, and nobody retries a submission that may have arrived. A new connection is
made for each call, because a pooled connection that the vendor has just closed would make a submission ambiguous.
"""

import asyncio
import email.utils
import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from onetake.core import logs
from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import CATALOGUE, Failed, Refused, TryLater
from onetake.core.money import micros_up
from onetake.core.ports import Account, Body, SubmitOrder, SubmitOutcome, VendorStatus
from onetake.core.settings import Settings, VendorSettings
from onetake.media.addresses import judge
from onetake.media.outbound import Outbound
from providers.catalogue import SEED_MOST, Catalogue
from providers.vendor import Accounts, Lists, VendorAdapter, error_of
from providers.vendors import VENDORS

T = TypeVar("T")

TIMEOUT: Final = httpx.Timeout(connect=10.0, read=60.0, write=30.0, pool=10.0)
SHORTEST_ANSWER_S: Final = 20.0  # a busy machine is slow to answer, and a submission without an answer is in doubt
MOST_CONNECTIONS: Final = 200
MOST_ANSWER_BYTES: Final = 1024 * 1024
MOST_LIST_BYTES: Final = 16 * 1024 * 1024  # nobody knows a list's paging: it may be all of our jobs
MOST_CLOCK_SKEW_S: Final = 120.0  # between the database's clock and the vendor's
LONGEST_RETRY_AFTER_S: Final = 300.0
OPERATORS_ALARMS: Final = frozenset({"vendor_auth", "vendor_account_empty", "vendor_account_limit"})
SHORTEST_MASKED_KEY: Final = 8

# Nothing has left this machine when one of these is raised; after any other error bytes may have arrived.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def timeout_for(time_scale: float) -> httpx.Timeout:
    """The times of a client; only the wait for an answer is scaled, and never below `SHORTEST_ANSWER_S`."""
    read_s = max(TIMEOUT.read * time_scale, SHORTEST_ANSWER_S) if TIMEOUT.read else None
    return httpx.Timeout(connect=TIMEOUT.connect, read=read_s, write=TIMEOUT.write, pool=TIMEOUT.pool)


def new_http_client(timeout: httpx.Timeout = TIMEOUT) -> httpx.AsyncClient:
    """The one client for all vendors of a process; `timeout.read` also bounds a whole exchange. Close it."""
    limits = httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=0)
    headers = {"User-Agent": "onetake", "Accept": "application/json", "Accept-Encoding": "identity"}
    return httpx.AsyncClient(
        timeout=timeout, limits=limits, headers=headers, follow_redirects=False, trust_env=False, http2=False
    )


_log = logs.logger(__name__)


class Driver:
    """One vendor over HTTP: the `VendorClient` port."""

    def __init__(
        self,
        name: str,
        adapter: VendorAdapter,
        base_url: str,
        api_key: str,
        *,
        http: httpx.AsyncClient,
        outbound: Outbound,
    ) -> None:
        self.name = name
        self._adapter = adapter
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._http = http
        self._outbound = outbound

    def chosen_seed(self, plan: Plan, request: GenerationRequest) -> int | None:
        """See `onetake.core.ports.VendorClient.chosen_seed`."""
        if request.seed is not None or not plan.takes_seed:
            return request.seed
        return secrets.randbelow(SEED_MOST + 1)

    def request_sha256(self, order: SubmitOrder) -> bytes:
        """Hash the bytes of the submission without its callback address."""
        request = self._adapter.submit_request(self._base_url, replace(order, callback_url=None))
        return hashlib.sha256(request.url.raw_path + b"\n" + request.content).digest()

    async def submit(self, order: SubmitOrder) -> SubmitOutcome:
        """Send one POST and classify what came of it."""
        request = self._adapter.submit_request(self._base_url, order)
        request.stream = _Submission(request.content)
        try:
            response = await self._send(request)
        except _NOT_SENT as error:
            return SubmitOutcome("not_sent", error=error_of("vendor_unreachable"), note=type(error).__name__)
        except Exception as error:  # noqa: BLE001  # whatever it was, bytes may have left: no sixth outcome
            return SubmitOutcome("ambiguous", note=type(error).__name__)
        outcome = self._adapter.submit_outcome(response)
        outcome = replace(outcome, reported_micros=_micros(outcome.reported_units, order.plan))
        if outcome.error is not None and outcome.error.code in OPERATORS_ALARMS:
            _log.error("vendor_refuses_us", vendor=self.name, code=outcome.error.code, hint=outcome.error.hint)
        if outcome.outcome != "throttled":
            return outcome
        return replace(outcome, retry_after_s=retry_after_s(response.headers.get("retry-after"), time.time()))

    async def read_status(self, plan: Plan, vendor_task_id: str) -> VendorStatus:
        """See `onetake.core.ports.VendorClient.read_status`."""
        response = await self._read(self._adapter.status_request(self._base_url, plan, vendor_task_id))
        status = _understood(self._adapter.read_status(response), response)
        if status.vendor_task_id not in {None, vendor_task_id}:
            raise TryLater("vendor_unavailable", "(the answer is about another task)")
        if status.alarm:
            _log.warning(status.alarm, vendor=self.name, vendor_state=status.reading.vendor_state)
        micros = _micros(status.reported_units, plan)
        return replace(status, reading=status.reading.model_copy(update={"reported_micros": micros}))

    async def find_jobs(self, order: SubmitOrder, sent_at: datetime) -> tuple[str, ...]:
        """See `onetake.core.ports.VendorClient.find_jobs`."""
        lister = cast("Lists", self._adapter)
        response = await self._read(lister.list_request(self._base_url, order.plan), MOST_LIST_BYTES)
        jobs = _understood(lister.listed_jobs(response, order), response)
        earliest = sent_at.timestamp() - MOST_CLOCK_SKEW_S
        return tuple(job.task_id for job in jobs if job.created_at >= earliest)

    async def read_account(self) -> Account:
        """See `onetake.core.ports.VendorClient.read_account`."""
        accountant = cast("Accounts", self._adapter)
        response = await self._read(accountant.account_request(self._base_url))
        return _understood(accountant.read_account(response), response)

    def download(self, url: str) -> AbstractAsyncContextManager[Body]:
        """See `onetake.core.ports.VendorClient.download`. Our key never goes to a media host."""
        return self._outbound.open(url)

    async def _read(self, request: httpx.Request, most_bytes: int = MOST_ANSWER_BYTES) -> httpx.Response:
        """Send what changes nothing. Whatever goes wrong, the same read works later."""
        try:
            response = await self._send(request, most_bytes)
        except (httpx.HTTPError, httpx.InvalidURL, _AnswerTooLarge, TimeoutError) as error:
            raise TryLater("vendor_unavailable", f"({type(error).__name__})") from None
        if response.status_code == 429:
            after_s = retry_after_s(response.headers.get("retry-after"), time.time())
            raise TryLater("vendor_throttled", after_s=after_s)
        if response.status_code in (401, 403):
            _log.error("vendor_refuses_us", vendor=self.name, code="vendor_auth", hint=CATALOGUE["vendor_auth"].hint)
            raise TryLater("vendor_auth", f"(HTTP {response.status_code})", after_s=LONGEST_RETRY_AFTER_S)
        return response

    async def _send(self, request: httpx.Request, most_bytes: int = MOST_ANSWER_BYTES) -> httpx.Response:
        request.headers["Authorization"] = f"Bearer {self._api_key}"
        for name, value in self._http.headers.items():
            request.headers.setdefault(name, value)
        request.extensions["timeout"] = self._http.timeout.as_dict()
        async with asyncio.timeout(self._http.timeout.read):
            response = await self._http.send(request, stream=True)
            try:
                content = await _read_capped(response, most_bytes)
            finally:
                await response.aclose()
        # Raw headers: names and values of any bytes pass. An error text that quotes our key must not carry it on.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(response.status_code, headers=headers, content=self._masked(content))

    def _masked(self, content: bytes) -> bytes:
        key = self._api_key.encode()
        return content if len(key) < SHORTEST_MASKED_KEY else content.replace(key, b"[key]")


def _understood(value: T | None, response: httpx.Response) -> T:
    if value is None:
        raise TryLater("vendor_unavailable", f"(HTTP {response.status_code})")
    return value


class _Submission(httpx.AsyncByteStream):
    """The body of a POST, in one piece: the head has left before it, and nothing is left to send after it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        crashpoint("submit.before_body")
        yield self._content
        crashpoint("submit.after_body")


class _AnswerTooLarge(Exception):
    """More bytes than any honest answer, or bytes that unpack into more."""


async def _read_capped(response: httpx.Response, most_bytes: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _AnswerTooLarge
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > most_bytes:
            raise _AnswerTooLarge
    return bytes(content)


def _micros(units: Decimal | None, plan: Plan) -> int | None:
    """What the vendor says it charged, in micros; None when it says nothing, or no rate for its unit is known."""
    rate = plan.price.usd_per_credit
    return None if units is None or rate is None else micros_up(units * rate)


def retry_after_s(header: str | None, now: float) -> float | None:
    """Read `Retry-After` (seconds or an HTTP date), capped at five minutes; None when absent, past or nonsense."""
    if header is None:
        return None
    try:
        seconds = float(header) if header.strip().isdigit() else _moment_of(header) - now
    except (ValueError, OverflowError, IndexError):
        return None
    return min(seconds, LONGEST_RETRY_AFTER_S) if seconds > 0 else None


def _moment_of(http_date: str) -> float:
    moment = email.utils.parsedate_to_datetime(http_date)
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def configured_drivers(
    settings: Settings, data: Catalogue, *, http: httpx.AsyncClient, outbound: Outbound
) -> dict[str, Driver]:
    """A driver for each vendor that has a key. Raises Refused(`settings_invalid`) for a base URL that is not https,
    and for a key that cannot be a header."""
    drivers: dict[str, Driver] = {}
    for name, adapter in VENDORS.items():
        configured = settings.vendor(name)
        if api_key := checked_key(name, configured):
            base_url = checked_base_url(name, configured, data.vendors[name].vendor.base_url, settings.trusted_hosts)
            drivers[name] = Driver(name, adapter, base_url, api_key, http=http, outbound=outbound)
    return drivers


def checked_key(name: str, configured: VendorSettings) -> str:
    """The key, empty when there is none. Raises Refused(`settings_invalid`) for one that cannot be a header: a stray
    newline in it would make every submission ambiguous."""
    key = configured.api_key.get_secret_value() if configured.api_key else ""
    if key and not re.fullmatch(r"[!-~]+", key):
        raise Refused("settings_invalid", f"ONETAKE_{name.upper()}_API_KEY must be printable ASCII without spaces.")
    return key


def checked_base_url(name: str, configured: VendorSettings, documented: str | None, trusted: frozenset[str]) -> str:
    """Where the vendor is. Raises Refused(`settings_invalid`) unless it is https, or trusted by name."""
    url = configured.base_url or documented
    if url is None:
        raise Refused("settings_invalid", f"No document names {name}'s address: set ONETAKE_{name.upper()}_BASE_URL.")
    try:
        parts = urlsplit(url)
        # An operator's own choice: with https any host and port will do.
        judged = judge(url, trusted | {parts.netloc.lower()} if parts.scheme == "https" else trusted)
    except (Failed, ValueError):
        judged = None
    if judged is not None and not judged.url.query and not judged.url.fragment:
        return url
    raise Refused(
        "settings_invalid",
        f"ONETAKE_{name.upper()}_BASE_URL must be https, or its host must be named in ONETAKE_TRUSTED_HOSTS; "
        "it holds a host and a path, and nothing else.",
    )
