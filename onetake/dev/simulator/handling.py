"""One request from arrival to answer: receive, let the vendor judge it, write it into the journal, misbehave on demand.

The journal is written before a byte of the answer leaves: what a client could have learned is always in it.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import JsonValue
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from onetake.dev.simulator.assets import Links, clip_of
from onetake.dev.simulator.callbacks import CallbackSender
from onetake.dev.simulator.faults import Fault, Script, script
from onetake.dev.simulator.journal import Entry, Job, Journal, Released, StatusRead, StatusRefused, Submit, Submitted
from onetake.dev.simulator.limits import Limits
from onetake.dev.simulator.reading import (
    LOGIN_PAGE,
    as_the_markers_say,
    fault_of,
    has_links,
    page_of,
    shown_job,
    shown_state,
    spoilt_answer,
)
from onetake.dev.simulator.rendering import Clips
from onetake.dev.simulator.vendor import (
    REFUSED_ON_DEMAND,
    TASK_NOT_FOUND,
    AccountAnswer,
    ClipOrder,
    Page,
    Refusal,
    SimulatedVendor,
    to_json,
)
from onetake.dev.simulator.wire import Reset, Silence

MAX_BODY_BYTES = 1 << 20


@dataclass
class _Arrival:
    """A submission on its way to its record."""

    vendor: SimulatedVendor
    received_at: float
    body: bytes
    prompt_sha256: str | None = None

    def record(self, status: int | None, reason: str, task_id: str | None = None) -> Submit:
        return Submit(
            vendor=self.vendor.name,
            received_at=self.received_at,
            body_sha256=hashlib.sha256(self.body).hexdigest(),
            body_bytes=len(self.body),
            prompt_sha256=self.prompt_sha256,
            accepted=task_id is not None,
            status=status,
            reason=reason,
            task_id=task_id,
        )


@dataclass(frozen=True)
class Terms:
    """What holds for every job of one run of the simulator."""

    render_s: float
    refunds: Callable[[SimulatedVendor], bool]


class RequestHandler:
    """Takes every vendor's requests from arrival to answer."""

    def __init__(self, journal: Journal, clips: Clips, links: Links, callbacks: CallbackSender, terms: Terms) -> None:
        self._journal = journal
        self._clips = clips
        self._links = links
        self._callbacks = callbacks
        self._terms = terms
        self._outages: dict[str, tuple[float, int]] = {}
        self._releases: dict[str, asyncio.Event] = {}
        self.limits = Limits(lambda vendor: journal.running(vendor, time.time()))

    def begin_outage(self, vendor: str, seconds: float, status: int) -> None:
        """Answer with this status on this vendor's API for so long; 0 ends it. Media and callbacks go on."""
        self._outages[vendor] = time.monotonic() + seconds, status

    def release(self, prompt_sha256: str) -> int:
        """End at once all that markers hold up of this prompt: submissions, renders, downloads, and a place in the
        list. Returns how many jobs it has."""
        self._release(prompt_sha256).set()
        found = self._journal.of_prompt(prompt_sha256)
        held = [entry for entry in found if "held" in entry.job.script]
        self._journal.record(Released(prompt_sha256=prompt_sha256, at=time.time()))
        for entry in held:
            self._callbacks.start(entry)
        return len(found)

    def _release(self, prompt_sha256: str) -> asyncio.Event:
        return self._releases.setdefault(prompt_sha256, asyncio.Event())

    async def _hold(self, prompt_sha256: str, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._release(prompt_sha256).wait()

    async def submit(self, vendor: SimulatedVendor, request: Request) -> Response:
        received_at = time.time()
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it, and nothing was received
        arrival = _Arrival(vendor, received_at, body)
        try:
            return await self._judge(arrival, request)
        except Refusal as refusal:
            self._journal.record(Submitted(submit=arrival.record(refusal.status, refusal.detail)))
            return _error(vendor, refusal)

    async def status(self, vendor: SimulatedVendor, request: Request, task_id: str) -> Response:
        try:
            self._admit(vendor, request)
            entry = self._find(vendor, task_id)
            self.limits.admit_read(vendor.name, time.time())
            return self._read_status(vendor, entry)
        except Refusal as refusal:
            if (entry := self._journal.entries.get(task_id)) and entry.job.vendor == vendor.name:
                self._journal.record(StatusRefused(task_id=task_id, at=time.time()))
            return _error(vendor, refusal)

    async def account(self, vendor: SimulatedVendor, request: Request, answer: AccountAnswer) -> Response:
        """Answer a question about the balance."""
        try:
            self._admit(vendor, request)
        except Refusal as refusal:
            return _error(vendor, refusal)
        return _json(200, to_json(answer(self._journal.spent_micros(vendor.name, time.time()))))

    async def listing(self, vendor: SimulatedVendor, request: Request, page: Page) -> Response:
        """Answer with what the vendor makes of all its jobs."""
        try:
            self._admit(vendor, request)
            entries = [
                entry
                for entry in self._journal.entries.values()
                if entry.job.vendor == vendor.name and _is_listed(entry.job, time.time())
            ]
            body = page([(entry.job, self._shown(vendor, entry)) for entry in reversed(entries)])
        except Refusal as refusal:
            return _error(vendor, refusal)
        return _json(200, to_json(body))

    def status_body(self, vendor: SimulatedVendor, entry: Entry) -> bytes:
        """The vendor's status answer as of now, as JSON."""
        return to_json(self._shown(vendor, entry))

    def _shown(self, vendor: SimulatedVendor, entry: Entry) -> JsonValue:
        now = time.time()
        job, state = shown_job(entry, now), shown_state(entry, now)
        urls = self._links.urls(job) if state == "success" and has_links(entry) else []
        return as_the_markers_say(vendor, job, state, urls)

    def _admit(self, vendor: SimulatedVendor, request: Request) -> None:
        until, status = self._outages.get(vendor.name, (0, 0))
        if time.monotonic() < until:
            raise Refusal(status, "the service is temporarily unavailable")
        vendor.authorise(request.headers)

    async def _judge(self, arrival: _Arrival, request: Request) -> Response:
        vendor = arrival.vendor
        self._admit(vendor, request)
        if len(arrival.body) > MAX_BODY_BYTES:
            raise Refusal(400, "the body is too large")
        order = vendor.order(request, arrival.body)
        arrival.prompt_sha256 = hashlib.sha256(order.prompt.encode()).hexdigest()
        try:
            faults = script(order.prompt)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        if slow := faults.find("submit-slow"):
            await self._hold(arrival.prompt_sha256, slow.number)
        if answer := self._refuse_on_demand(arrival, faults):
            return answer
        return await self._accept(arrival, order, faults)

    def _refuse_on_demand(self, arrival: _Arrival, faults: Script) -> Response | None:
        """Play the first fault that ends without a job, as an answer or as a Refusal."""
        for fault in faults:
            match fault.name:
                case "reject":
                    raise Refusal(int(fault.value), REFUSED_ON_DEMAND)
                case "throttle":
                    self._turn_away_first(arrival, fault, 429, "too many requests")
                case "busy":
                    self._turn_away_first(arrival, fault, 503, "the service is busy")
                case "submit-500" | "submit-503":
                    raise Refusal(int(fault.name[-3:]), fault.value or "failed on demand")
                case "submit-page" if not self._is_enough(arrival, fault, fault.page_status):
                    return self._turned_away(arrival, fault.page_status, fault, page_of(fault))
                case "reject-200":
                    body = arrival.vendor.error_in_200(int(fault.value), REFUSED_ON_DEMAND)
                    return self._turned_away(arrival, 200, fault, _json(200, to_json(body)))
                case "submit-html":
                    return self._turned_away(arrival, 200, fault, Response(LOGIN_PAGE, 200, media_type="text/html"))
                case "submit-reset-refused":
                    return self._turned_away(arrival, None, fault, Reset())
                case _:
                    pass
        return None

    def _turn_away_first(self, arrival: _Arrival, fault: Fault, status: int, detail: str) -> None:
        if not self._is_enough(arrival, fault, status):
            raise Refusal(status, detail, fault.count_and_retry_after[1])

    def _is_enough(self, arrival: _Arrival, fault: Fault, status: int) -> bool:
        """Whether as many submissions of this prompt have been answered so as the marker asks for."""
        assert arrival.prompt_sha256 is not None
        answered = self._journal.answers(arrival.vendor.name, arrival.prompt_sha256, status)
        return answered >= fault.count_and_retry_after[0]

    def _turned_away(self, arrival: _Arrival, status: int | None, fault: Fault, answer: Response) -> Response:
        self._journal.record(Submitted(submit=arrival.record(status, fault.name)))
        return answer

    async def _accept(self, arrival: _Arrival, order: ClipOrder, faults: Script) -> Response:
        vendor = arrival.vendor
        self.limits.admit_submit(vendor.name)
        job = self._job(arrival, order, faults)
        status, answer = _answer(vendor, job, self._before(vendor) if "submit-other-id" in faults else job.task_id)
        self._journal.record(Submitted(submit=arrival.record(status, "accepted", job.task_id), job=job))
        entry = self._journal.entries[job.task_id]
        if not {"fail", "never"} & {fault.name for fault in faults}:
            self._clips.start(clip_of(job))
        if "callback-first" in faults and job.callback_url:
            await self._callbacks.try_once(entry)
        self._callbacks.start(entry)
        if hang := faults.find("submit-hang"):
            await self._hold(job.prompt_sha256, hang.number)
        return answer

    def _job(self, arrival: _Arrival, order: ClipOrder, faults: Script) -> Job:
        vendor, delay = arrival.vendor, faults.find("delay")
        render_s = delay.number if delay else self._terms.render_s
        percent = int(charge.value) if (charge := faults.find("charge")) else 100
        assert arrival.prompt_sha256 is not None
        return Job(
            vendor=vendor.name,
            task_id=vendor.new_task_id(),
            model=order.model,
            mode=order.mode,
            duration_s=order.duration_s,
            resolution=order.resolution,
            width=order.width,
            height=order.height,
            sound=order.sound,
            charged_micros=_billed(vendor, order, faults) * percent // 100,
            refund_if_failed=self._terms.refunds(vendor) and "no-refund" not in faults,
            callback_url=order.callback_url,
            prompt_sha256=arrival.prompt_sha256,
            prompt_truncated=order.prompt_truncated,
            created_at=arrival.received_at,
            render_s=0 if "callback-first" in faults else render_s,
            faults=tuple(faults),
            echo=order.echo,
            said=order.said,
        )

    def _before(self, vendor: SimulatedVendor) -> str:
        """The id of the vendor's latest job; an odd one when it has none."""
        ids = [entry.job.task_id for entry in self._journal.entries.values() if entry.job.vendor == vendor.name]
        return ids[-1] if ids else vendor.new_task_id()

    def _find(self, vendor: SimulatedVendor, task_id: str) -> Entry:
        if not task_id:
            raise Refusal(400, "the task id is missing")
        entry = self._journal.entries.get(task_id)
        if entry is None or entry.job.vendor != vendor.name:
            raise Refusal(404, TASK_NOT_FOUND)
        return entry

    def _read_status(self, vendor: SimulatedVendor, entry: Entry) -> Response:
        now = time.time()
        fault, answer = fault_of(entry, now), _json(200, self.status_body(vendor, entry))
        try:
            answer = spoilt_answer(fault, bytes(answer.body)) if fault else answer
        except Refusal as refusal:
            answer = _error(vendor, refusal)
        status = None if isinstance(answer, Reset | Silence) else answer.status_code
        self._journal.record(StatusRead(task_id=entry.job.task_id, at=now, status=status))
        return answer


def _billed(vendor: SimulatedVendor, order: ClipOrder, faults: Script) -> int:
    """The price of what was ordered, or of the seconds that are made where the vendor bills these."""
    if not vendor.bills_generated or "half-duration" not in faults:
        return order.price_micros
    return order.price_micros * max(order.duration_s // 2, 1) // order.duration_s


def _answer(vendor: SimulatedVendor, job: Job, named: str) -> tuple[int | None, Response]:
    """Return what the client is told of an accepted job, under the task id `named`; the status is None when it is told
    nothing."""
    if "submit-reset" in job.script:
        return None, Reset()
    if "submit-502-accepted" in job.script:
        return 502, _json(502, to_json(vendor.error(502, "failed on demand")))
    told = job.model_copy(update={"task_id": named})
    return 200, _json(200, to_json(vendor.receipt(told, with_task_id="submit-no-id" not in job.script)))


def _is_listed(job: Job, now: float) -> bool:
    late = job.script.find("list-late")
    return "list-lost" not in job.script and (late is None or now >= job.created_at + late.number)


async def _body(request: Request) -> bytes:
    """Read the body, but never much more than is allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return bytes(body)


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")


def _error(vendor: SimulatedVendor, refusal: Refusal) -> Response:
    answer = _json(refusal.status, to_json(vendor.error(refusal.status, refusal.detail)))
    answer.headers.update(refusal.headers)
    return answer
