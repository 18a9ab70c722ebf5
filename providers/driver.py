"""The only place that sends to a vendor: clients of its own, explicit timeouts, no redirects, a cap on what is read.

It never retries: Temporal retries reads, and nobody retries a submission that may have arrived. A new connection is
made for each call, because a pooled connection that the vendor has just closed would make a submission ambiguous.
It is over 400 lines because keys, clients and notes of calls are touched here only, so that nothing else can send.
"""

import asyncio
import email.utils
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, Self, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from onetake.core import logs
from onetake.core.calls import NoteCall, VendorCall, unnoted
from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import CATALOGUE, Failed, Refused, TryLater
from onetake.core.money import micros_up
from onetake.core.ports import Account, Body, SubmitOrder, SubmitOutcome, VendorStatus
from onetake.core.secrets import Secret, Secrets
from onetake.core.settings import Settings, VendorSettings
from onetake.media.addresses import judge
from onetake.media.authorities import tls_context
from onetake.media.outbound import Outbound
from onetake.metrics import instruments
from providers.catalogue import SEED_MOST, Catalogue
from providers.vendor import STATUS_DECIDES, Accounts, Lists, VendorAdapter, answered_status, error_of
from providers.vendors import VENDORS

T = TypeVar("T")

TIMEOUT: Final = httpx.Timeout(connect=10.0, read=60.0, write=30.0, pool=10.0)
SHORTEST_ANSWER_S: Final = 20.0  # a busy machine is slow to answer, and a submission without an answer is in doubt
MOST_CONNECTIONS: Final = 200  # of one client: more than a process submits, or reads, at one vendor at a time
MOST_ANSWER_BYTES: Final = 1024 * 1024
MOST_LIST_BYTES: Final = 16 * 1024 * 1024  # nobody knows a list's paging: it may be all of our jobs
MOST_CLOCK_SKEW_S: Final = 120.0  # between our clocks and the vendor's
OWN_CLOCK_ERROR_S: Final = 20.0  # between two clocks of one vendor: that of its jobs, and that of its answers
MINUTE_S: Final = 60.0  # a time without seconds may be that of a vendor that stamps its jobs to the minute
LONGEST_RETRY_AFTER_S: Final = 300.0
OPERATORS_ALARMS: Final = frozenset({"vendor_auth", "vendor_account_empty", "vendor_account_limit"})
SHORTEST_MASKED_KEY: Final = 8
REPLACED: Final = "its key was replaced"

# Nothing has left this machine when one of these is raised; after any other error bytes may have arrived.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def timeout_for(time_scale: float) -> httpx.Timeout:
    """The times of a client; only the wait for an answer is scaled, and never below `SHORTEST_ANSWER_S`."""
    read_s = max(TIMEOUT.read * time_scale, SHORTEST_ANSWER_S) if TIMEOUT.read else None
    return httpx.Timeout(connect=TIMEOUT.connect, read=read_s, write=TIMEOUT.write, pool=TIMEOUT.pool)


def for_reads(timeout: httpx.Timeout) -> httpx.Timeout:
    """Half the wait for an answer: the activity of a read, which also waits for its turn and notes an end, must outlast
    it. A read that was given up is repeated; a submission never is."""
    read_s = None if timeout.read is None else min(timeout.read, max(timeout.read / 2, SHORTEST_ANSWER_S))
    return httpx.Timeout(connect=timeout.connect, read=read_s, write=timeout.write, pool=timeout.pool)


@dataclass(frozen=True)
class Clients:
    """One vendor's HTTP clients. A vendor that hangs uses up its own connections and no other's, and its submissions
    never wait for its reads. `timeout.read` also bounds a whole exchange."""

    submits: httpx.AsyncClient
    reads: httpx.AsyncClient

    @classmethod
    def opened(cls, timeout: httpx.Timeout = TIMEOUT) -> Self:
        """New ones; close them. Reads wait half as long (`for_reads`). The authorities of `SSL_CERT_FILE` and
        `SSL_CERT_DIR` are trusted beside the usual ones; no proxy of the environment is used."""
        return cls(_new_client(timeout), _new_client(for_reads(timeout)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self.submits.aclose()
        await self.reads.aclose()


def _new_client(timeout: httpx.Timeout) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=0)
    headers = {"User-Agent": "onetake", "Accept": "application/json", "Accept-Encoding": "identity"}
    return httpx.AsyncClient(
        timeout=timeout,
        limits=limits,
        headers=headers,
        verify=tls_context(),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # none is kept: no vendor needs one of ours
        follow_redirects=False,
        trust_env=False,
        http2=False,
    )


_log = logs.logger(__name__)


class Driver:
    """One vendor over HTTP: the `VendorClient` port."""

    def __init__(
        self,
        name: str,
        adapter: VendorAdapter,
        base_url: str,
        api_key: Secret | str,
        *,
        clients: Clients,
        outbound: Outbound,
        note: NoteCall = unnoted,
    ) -> None:
        self.name = name
        self._adapter = adapter
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._clients = clients
        self._outbound = outbound
        self._note = note

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
        outcome = await self._post(order)
        instruments().submitted(self.name, outcome.outcome)
        return outcome

    async def _post(self, order: SubmitOrder) -> SubmitOutcome:
        request = self._adapter.submit_request(self._base_url, order)
        request.stream = _Submission(request.content)
        with self._noted(request) as exchange:
            outcome = await self._submitted(request, order.plan, exchange)
            exchange.outcome = outcome.outcome
        return outcome

    async def _submitted(self, request: httpx.Request, plan: Plan, exchange: "_Exchange") -> SubmitOutcome:
        key = self._key()
        try:
            response = await self._send(self._clients.submits, request, key)
        except _NOT_SENT as error:
            return SubmitOutcome("not_sent", error=error_of("vendor_unreachable"), note=type(error).__name__)
        except Exception as error:  # noqa: BLE001  # whatever it was, bytes may have left: no sixth outcome
            return SubmitOutcome("ambiguous", note=type(error).__name__)
        exchange.status = response.status_code
        outcome = self._adapter.submit_outcome(response)
        if outcome.key_unknown and self._is_replaced(key):
            return SubmitOutcome("not_sent", error=error_of("vendor_unreachable"), note=REPLACED)
        outcome = replace(outcome, reported_micros=_micros(outcome.reported_units, plan))
        if outcome.error is not None and outcome.error.code in OPERATORS_ALARMS:
            _log.error("vendor_refuses_us", vendor=self.name, code=outcome.error.code, hint=outcome.error.hint)
        if outcome.outcome != "throttled":
            return outcome
        return replace(outcome, retry_after_s=_pause_s(response))

    async def read_status(self, plan: Plan, vendor_task_id: str) -> VendorStatus:
        """See `onetake.core.ports.VendorClient.read_status`."""
        response = await self._read(self._adapter.status_request(self._base_url, plan, vendor_task_id))
        status = _understood(self._adapter.read_status(response), response)
        if status.vendor_task_id not in {None, vendor_task_id}:
            raise TryLater("vendor_unavailable", "(the answer is about another task)")
        if status.alarm:
            _log.warning(status.alarm, vendor=self.name, vendor_state=status.reading.vendor_state)
        micros = _micros(status.reported_units, plan)
        least_age_s = _least_age_s(status.created_at, response)
        return replace(
            status, least_age_s=least_age_s, reading=status.reading.model_copy(update={"reported_micros": micros})
        )

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
        return self._outbound.open(url, https_instead=True)

    async def _read(self, request: httpx.Request, most_bytes: int = MOST_ANSWER_BYTES) -> httpx.Response:
        """Send what changes nothing. Whatever goes wrong, the same read works later."""
        with self._noted(request) as exchange:
            response = await self._answered(request, most_bytes, exchange)
            exchange.outcome = "answered"
        return response

    async def _answered(self, request: httpx.Request, most_bytes: int, exchange: "_Exchange") -> httpx.Response:
        key = self._key()
        try:
            response = await self._send(self._clients.reads, request, key, most_bytes)
        except (httpx.HTTPError, httpx.InvalidURL, _AnswerTooLarge, TimeoutError) as error:
            raise TryLater("vendor_unavailable", f"({type(error).__name__})") from None
        exchange.status, status = response.status_code, answered_status(response)
        if status == 429:
            raise TryLater("vendor_throttled", after_s=_pause_s(response))
        if status in (401, 403):
            if self._is_replaced(key):
                raise TryLater("vendor_unavailable", f"({REPLACED})")
            _log.error("vendor_refuses_us", vendor=self.name, code="vendor_auth", hint=CATALOGUE["vendor_auth"].hint)
            raise TryLater("vendor_auth", f"(HTTP {status})", after_s=LONGEST_RETRY_AFTER_S)
        return response

    def _key(self) -> str:
        return self._api_key if isinstance(self._api_key, str) else self._api_key.now()

    def _is_replaced(self, refused: str) -> bool:
        """Whether there is another key than the one that the vendor has refused: then the next try uses that."""
        if isinstance(self._api_key, str) or self._api_key.again() == refused:
            return False
        _log.warning("vendor_key_replaced", vendor=self.name)
        return True

    async def _send(
        self, http: httpx.AsyncClient, request: httpx.Request, key: str, most_bytes: int = MOST_ANSWER_BYTES
    ) -> httpx.Response:
        request.headers["Authorization"] = f"Bearer {key}"
        for name, value in http.headers.items():
            request.headers.setdefault(name, value)
        request.extensions["timeout"] = http.timeout.as_dict()
        response = None
        try:
            async with asyncio.timeout(http.timeout.read):
                response = await http.send(request, stream=True)
                try:
                    content = await _read_capped(response, most_bytes)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, _AnswerTooLarge, TimeoutError):
            if response is None or response.status_code not in STATUS_DECIDES:
                raise
            content = b""  # the status has said it all: a page of a CDN that is packed, cut or slow takes nothing back
        # Raw headers: names and values of any bytes pass. An error text that quotes our key must not carry it on.
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(response.status_code, headers=headers, content=_masked(content, key))

    @contextmanager
    def _noted(self, request: httpx.Request) -> "Generator[_Exchange]":
        """Say of an exchange how it ended, when it has."""
        exchange, began_ns = _Exchange(), time.time_ns()
        try:
            yield exchange
        except TryLater as error:
            exchange.outcome = error.code
            raise
        finally:
            told = (self.name, request.method, request.url.host, exchange.outcome, exchange.status)
            self._note(VendorCall(*told, began_ns, time.time_ns()))


def _masked(content: bytes, key: str) -> bytes:
    """An answer without our key. JSON may write each character as an escape, or be in another encoding: then the bytes
    do not show a key that the decoded texts have, and the answer is written anew."""
    if len(key) < SHORTEST_MASKED_KEY:
        return content
    content = content.replace(key.encode(), b"[key]")
    if b"\\" not in content and b"\0" not in content:
        return content
    try:
        plain = json.dumps(json.loads(content))
    except (ValueError, RecursionError):
        return content  # no adapter can read it either
    shown = plain.replace(json.dumps(key)[1:-1], "[key]")
    return content if shown == plain else shown.encode()


@dataclass
class _Exchange:
    """What is said of an exchange under way; a process that is asked to end cuts it off."""

    outcome: str = "cut_off"
    status: int | None = None


def _understood(value: T | None, response: httpx.Response) -> T:
    if value is None:
        raise TryLater("vendor_unavailable", f"(HTTP {response.status_code})", after_s=_pause_s(response))
    return value


def _least_age_s(created_at: float | None, response: httpx.Response) -> float | None:
    """How old a job is at least: by the vendor's own clock, which its answer shows, else by ours, which may differ."""
    if created_at is None:
        return None
    try:
        now, error_s = _moment_of(response.headers["date"]), own_clock_error_s(created_at)
    except (KeyError, ValueError, OverflowError, IndexError):
        now, error_s = time.time(), MOST_CLOCK_SKEW_S + _cut_off_s(created_at)
    return now - created_at - error_s


def own_clock_error_s(created_at: float) -> float:
    """How much younger a job with this time of creation may be than the vendor's own clock says."""
    return OWN_CLOCK_ERROR_S + _cut_off_s(created_at)


def _cut_off_s(created_at: float) -> float:
    return MINUTE_S if created_at % MINUTE_S == 0 else 0.0


def _pause_s(response: httpx.Response) -> float | None:
    return retry_after_s(response.headers.get("retry-after"), time.time())


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
    settings: Settings,
    data: Catalogue,
    *,
    clients: Callable[[], Clients],
    outbound: Outbound,
    live: Secrets | None = None,
    note: NoteCall = unnoted,
) -> dict[str, Driver]:
    """A driver for each vendor that has a key; `clients` opens those of one; `note` hears of each exchange.

    Raises Refused(`settings_invalid`) for a base URL that is not https, and for a key that cannot be a header."""
    drivers, now = dict[str, Driver](), live or Secrets(settings)
    for name, adapter in VENDORS.items():
        configured = settings.vendor(name)
        if checked_key(name, configured):
            api_key = now.secret(f"{name}_api_key", is_header)
            base_url = checked_base_url(name, configured, data.vendors[name].vendor.base_url, settings.trusted_hosts)
            drivers[name] = Driver(name, adapter, base_url, api_key, clients=clients(), outbound=outbound, note=note)
    return drivers


def checked_key(name: str, configured: VendorSettings) -> str:
    """The key, empty when there is none. Raises Refused(`settings_invalid`) for one that cannot be a header: a stray
    newline in it would make every submission ambiguous."""
    key = configured.api_key.get_secret_value() if configured.api_key else ""
    if key and not is_header(key):
        raise Refused("settings_invalid", f"ONETAKE_{name.upper()}_API_KEY must be printable ASCII without spaces.")
    return key


def is_header(key: str) -> bool:
    """Whether a key can be sent at all."""
    return re.fullmatch(r"[!-~]+", key) is not None


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
