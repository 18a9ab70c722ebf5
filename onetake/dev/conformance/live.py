"""Scenarios against a running simulator over real HTTP: each route's job once, from the order to the clip and the bill.

The jobs of all routes run side by side once; each scenario looks at one thing of all of them. A real vendor is never
asked: the address must belong to a simulator, whose journal says what it received, charged and called back.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.errors import OnetakeError, TryLater
from onetake.core.money import format_usd
from onetake.core.ports import SubmitOutcome, VendorStatus
from onetake.dev.conformance.peer import LIMIT_S, Peer, answering, playing
from onetake.dev.conformance.under_test import VendorUnderTest
from onetake.media.authorities import tls_context
from onetake.media.outbound import Limits, Outbound
from providers.driver import Clients, Driver

PATIENT = Limits(connect_s=LIMIT_S, headers_s=LIMIT_S, read_s=LIMIT_S, window_s=LIMIT_S)
EVERY_S = 0.1
RENDER_S = 0.3


@dataclass
class Run:
    """One job, and what was seen of it."""

    mode: str
    request: GenerationRequest
    plan: Plan
    token: str
    outcome: SubmitOutcome
    status: VendorStatus | None = None
    clip: bytes | str = ""
    journal: Mapping[str, Any] = field(default_factory=dict[str, Any])
    submissions: int = 0
    callback: bytes | None = None


class Live:
    """The runs of one vendor at one simulator."""

    def __init__(self, vendor: VendorUnderTest, url: str) -> None:
        self.vendor = vendor
        self.url = url
        self.base_url = f"{url}{vendor.simulated.base_path}"

    async def runs(self) -> list[Run]:
        """Order one clip on every route and follow each to its end."""
        async with playing(answering(200, b"", content_type="text/plain")) as gateway, self.driver() as driver:
            wanted = (self._run(driver, gateway, name) for name, _ in self.vendor.routes())
            return list(await asyncio.gather(*wanted))

    @asynccontextmanager
    async def driver(self, api_key: str | None = None) -> AsyncGenerator[Driver]:
        vendor = self.vendor
        async with Clients.opened(httpx.Timeout(LIMIT_S)) as clients:
            outbound = Outbound(frozenset({urlsplit(self.url).netloc}), limits=PATIENT)
            try:
                key = api_key or vendor.api_key
                yield Driver(vendor.name, vendor.adapter, self.base_url, key, clients=clients, outbound=outbound)
            finally:
                await outbound.aclose()

    def request(self, name: str, markers: str = "") -> GenerationRequest:
        """A short and small clip with a prompt of its own."""
        found = self.vendor.data.route(name)
        assert found is not None
        route = found[2]
        return self.vendor.request(
            name,
            prompt=f"[[sim:delay={RENDER_S}]]{markers} A paper boat, {secrets.token_hex(8)}.",
            duration_s=min(route.duration_s.legal),
            resolution=route.resolutions.choices[0],
        )

    async def _run(self, driver: Driver, gateway: Peer, name: str) -> Run:
        vendor, request, token = self.vendor, self.request(name), secrets.token_hex(16)
        callback_url = f"{gateway.url}/callbacks/{vendor.name}/{token}" if vendor.facts.vendor.callbacks else None
        order = vendor.order(request, callback_url)
        run = Run(name.rpartition("/")[2], request, order.plan, token, await driver.submit(order))
        if run.outcome.vendor_task_id is None:
            return run
        run.status = await self.ended(driver, run.plan, run.outcome.vendor_task_id)
        if run.status and run.status.links:
            run.clip = await _download(driver, run.status.links[0])
        run.journal, run.submissions = await self._booked(run)
        if run.journal.get("callback_host"):  # the simulated vendor has understood where to call
            run.callback = await _delivered(gateway, f"/callbacks/{vendor.name}/{token}")
        return run

    async def ended(self, driver: Driver, plan: Plan, task_id: str) -> VendorStatus | None:
        """Read the job's status until it is no longer open, or the time is over."""
        status: VendorStatus | None = None
        async for _ in _until_limit():
            try:
                status = await driver.read_status(plan, task_id)
            except TryLater:
                continue
            if status.reading.state != "open":
                break
        return status

    async def _booked(self, run: Run) -> tuple[Mapping[str, Any], int]:
        """The job in the simulator's journal, and how many submissions of its prompt the journal has."""
        prompt_sha256 = hashlib.sha256(run.request.prompt.encode()).hexdigest()
        tls = tls_context()
        async with httpx.AsyncClient(base_url=self.url, verify=tls, trust_env=False, timeout=LIMIT_S) as http:
            job = (await http.get(f"/journal/jobs/{run.outcome.vendor_task_id}")).json()
            journal = (await http.get("/journal", params={"vendor": self.vendor.name})).json()
        return job, sum(submit["prompt_sha256"] == prompt_sha256 for submit in journal["submits"])


# -- What is looked at -------------------------------------------------------------------------------------------------


async def every_route_is_accepted(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """The running simulator accepts one job on every route, for one submission."""
    del live
    for run in runs:
        if run.outcome.outcome != "accepted":
            yield f"{run.mode}: {run.outcome.outcome} {run.outcome.error or run.outcome.note}"
        elif run.submissions != 1:
            yield f"{run.mode}: the journal has {run.submissions} submissions of one order"


async def every_job_ends_well(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """Every job is polled to its success."""
    del live
    for run in _accepted(runs):
        if run.status is None or run.status.reading.state != "succeeded":
            yield f"{run.mode}: {run.status.reading.state if run.status else 'no status was understood'}"


async def every_clip_arrives(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """Every clip can be downloaded, without our key."""
    del live
    for run in _accepted(runs):
        if isinstance(run.clip, str):
            yield f"{run.mode}: {run.clip or 'there is no link'}"
        elif b"ftyp" not in run.clip[:32]:
            yield f"{run.mode}: what was downloaded is no MP4"


async def every_callback_arrives(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """Every callback arrives at our token's address, is acknowledged, and names its job."""
    if not live.vendor.facts.vendor.callbacks:
        return
    for run in _accepted(runs):
        if run.callback is None:
            yield f"{run.mode}: no callback came to our address"
        elif live.vendor.adapter.callback_hint(run.callback).task_id != run.outcome.vendor_task_id:
            yield f"{run.mode}: callback_hint does not find the job in what came"


async def every_job_costs_what_we_expect(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """The simulator's journal charges every job what our plan expects, and reports no other amount."""
    del live
    for run in _accepted(runs):
        expected = run.plan.price.amount_micros
        if (charged := run.journal.get("charged_micros")) != expected:
            shown = "nothing" if charged is None else format_usd(charged)
            yield f"{run.mode}: the journal charged {shown}, the plan expects {format_usd(expected)}"
        reported = (run.outcome.reported_micros, run.status.reading.reported_micros if run.status else None)
        for amount in reported:
            if amount not in (None, expected):
                yield f"{run.mode}: the vendor reports {format_usd(amount)}, the plan expects {format_usd(expected)}"


async def refusals_are_understood(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """A wrong key, an empty account, a refused request and a throttle are told apart, and none of them made a job."""
    del runs
    wanted = {
        "[[sim:reject=402]]": ("rejected", "vendor_account_empty"),
        "[[sim:reject=400]]": ("rejected", "vendor_rejected"),
        "[[sim:throttle=1,3]]": ("throttled", "vendor_throttled"),
        "[[sim:submit-500]]": ("ambiguous", ""),
        "[[sim:submit-reset-refused]]": ("ambiguous", ""),
    }
    async with live.driver() as driver:
        for marker, expected in wanted.items():
            order = live.vendor.order(live.request(live.vendor.first_route, marker))
            found = await driver.submit(order)
            if (found.outcome, found.error.code if found.error else "") != expected:
                yield f"{marker} is {found.outcome} {found.error.code if found.error else ''}"
    async with live.driver(api_key=f"{live.vendor.simulated.key_prefix}another-key") as driver:
        found = await driver.submit(live.vendor.order(live.request(live.vendor.first_route)))
        if (found.outcome, found.error.code if found.error else "") != ("rejected", "vendor_auth"):
            yield f"a wrong key is {found.outcome} {found.error.code if found.error else ''}"


async def doubtful_submissions_are_ambiguous(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """A job that was accepted behind a reset, a 502 or a receipt without an id is ambiguous, and is there once."""
    del runs
    async with live.driver() as driver:
        for marker in ("[[sim:submit-reset]]", "[[sim:submit-502-accepted]]", "[[sim:submit-no-id]]"):
            request = live.request(live.vendor.first_route, marker)
            found = await driver.submit(live.vendor.order(request))
            if found.outcome != "ambiguous":
                yield f"{marker} is {found.outcome}"


async def a_failing_job_is_read_to_its_end(live: Live, runs: list[Run]) -> AsyncIterator[str]:
    """A job that fails is read to its failure, through an unknown state, server errors and throttles."""
    del runs
    markers = "[[sim:fail=ProviderError]][[sim:status-unknown]][[sim:status-500=1]][[sim:status-429=1]]"
    request = live.request(live.vendor.first_route, markers)
    async with live.driver() as driver:
        found = await driver.submit(live.vendor.order(request))
        if found.vendor_task_id is None:
            yield f"the submission is {found.outcome}"
            return
        status = await live.ended(driver, live.vendor.plan(request), found.vendor_task_id)
    if status is None or status.reading.state != "failed":
        yield f"the job is {status.reading.state if status else 'not understood'}"


def _accepted(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.outcome.outcome == "accepted"]


async def _download(driver: Driver, link: str) -> bytes | str:
    """The clip, or why there is none."""
    content = b""
    try:
        async with driver.download(link) as body:
            async for chunk in body.chunks:
                content += chunk
    except OnetakeError as error:
        return str(error)
    return content


async def _delivered(gateway: Peer, path: str) -> bytes | None:
    async for _ in _until_limit():
        for request in gateway.requests:
            head, _, body = request.partition(b"\r\n\r\n")
            if head.startswith(f"POST {path} ".encode()):
                return body
    return None


async def _until_limit() -> AsyncIterator[None]:
    """Come round until the time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LIMIT_S
    while loop.time() < end:
        yield
        await asyncio.sleep(EVERY_S)
