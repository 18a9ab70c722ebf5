"""One vendor under test: its adapter, its facts, its simulation, and requests made from its own catalogue.

Answers come from the simulator's file of the vendor, which was written from the vendor's documents and not from our
adapter: each side checks the other.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import httpx
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.ports import SubmitOrder
from onetake.core.settings import Settings
from onetake.dev.simulator.faults import Fault
from onetake.dev.simulator.journal import Job, JobState
from onetake.dev.simulator.vendor import AccountAnswer, ClipOrder, Page, Refusal, ShownState, SimulatedVendor
from providers.admission import RouteAdmission
from providers.catalogue import Catalogue, Route, VendorData
from providers.vendor import Accounts, Lists, VendorAdapter

BASE_URL = "https://proxy.example/for/us/v9"
CALLBACK_URL = "https://onetake.example/callbacks/vendor/kit-token"
PROMPT = "A paper boat on a mountain lake."
LINKS = ("https://media.example/kit/0.mp4",)

FUNCTIONS: Mapping[str, str] = {
    "submit_request": "submit_request(base_url: str, order: SubmitOrder) -> httpx.Request",
    "submit_outcome": "submit_outcome(response: httpx.Response) -> SubmitOutcome",
    "status_request": "status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request",
    "read_status": "read_status(response: httpx.Response) -> VendorStatus | None",
    "callback_hint": "callback_hint(body: bytes) -> CallbackHint",
}

# What an adapter offers besides, when its facts promise it.
OPTIONAL: Mapping[str, Mapping[str, str]] = {
    "lists_jobs": {
        "list_request": "list_request(base_url: str, plan: Plan) -> httpx.Request",
        "listed_jobs": "listed_jobs(response: httpx.Response, order: SubmitOrder) -> tuple[ListedJob, ...] | None",
    },
    "balance": {
        "account_request": "account_request(base_url: str) -> httpx.Request",
        "read_account": "read_account(response: httpx.Response) -> Account | None",
    },
}


class Lacking(Exception):
    """The adapter lacks a function, or one of its functions raised what it never may. The text says what to do."""


class _Offered:
    """An adapter as scenarios call it: what is missing or raises becomes `Lacking`."""

    def __init__(self, adapter: object) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._adapter, name, None)
        if not callable(function):
            raise Lacking(f"needs {name}")

        def call(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except Exception as error:
                raise Lacking(f"{name} must not raise: {place_of(error)}") from error

        return call


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


@dataclass(frozen=True)
class Verdict:
    """What the simulated vendor says of a request: the order it understood, or why it refuses."""

    status: int
    order: ClipOrder | None = None
    detail: str = ""
    task_id: str | None = None


class _Judge:
    """A handler that understands requests and does nothing else: no job, no journal."""

    def __init__(self, jobs: Sequence[tuple[Job, JsonValue]] = (), spent_micros: int = 0) -> None:
        self.verdict = Verdict(0, detail="the request reached no endpoint of the simulated vendor")
        self._jobs = jobs
        self._spent_micros = spent_micros

    async def submit(self, vendor: SimulatedVendor, request: Request) -> Response:
        try:
            vendor.authorise(request.headers)
            self.verdict = Verdict(200, order=vendor.order(request, await request.body()))
        except Refusal as refusal:
            self.verdict = Verdict(refusal.status, detail=refusal.detail)
        return Response()

    async def status(self, vendor: SimulatedVendor, request: Request, task_id: str) -> Response:
        del vendor, request
        self.verdict = Verdict(200, task_id=task_id)
        return Response()

    async def listing(self, vendor: SimulatedVendor, request: Request, page: Page) -> Response:
        del vendor, request
        return JSONResponse(page(self._jobs))

    async def account(self, vendor: SimulatedVendor, request: Request, answer: AccountAnswer) -> Response:
        del vendor, request
        return JSONResponse(answer(self._spent_micros))


@dataclass(frozen=True)
class VendorUnderTest:
    """A vendor with everything that the scenarios need."""

    name: str
    module: object
    data: Catalogue
    settings: Settings
    simulated: SimulatedVendor
    api_key: str

    @cached_property
    def adapter(self) -> VendorAdapter:
        return cast("VendorAdapter", _Offered(self.module))

    @property
    def lister(self) -> Lists:
        return cast("Lists", self.adapter)

    @property
    def accountant(self) -> Accounts:
        return cast("Accounts", self.adapter)

    @property
    def facts(self) -> VendorData:
        return self.data.vendors[self.name]

    @cached_property
    def admission(self) -> RouteAdmission:
        return RouteAdmission(self.settings, self.data)

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The vendor's routes, by their whole names."""
        for route in self.facts.routes:
            yield f"{self.name}/{route.model}/{route.mode}", route

    @property
    def first_route(self) -> str:
        return next(name for name, _ in self.routes())

    def request(self, name: str, /, **fields: Any) -> GenerationRequest:
        """A request with the inputs that the route cannot do without, and these fields."""
        found = self.data.route(name)
        assert found is not None
        return GenerationRequest.model_validate({"route": name, "prompt": PROMPT, **needed(found[2]), **fields})

    def plan(self, request: GenerationRequest) -> Plan:
        return self.admission.plan(request, base_queue="onetake")

    def order(self, request: GenerationRequest, callback_url: str | None = None) -> SubmitOrder:
        return SubmitOrder(self.plan(request), request, callback_url, request.seed)

    async def judged(self, order: SubmitOrder) -> Verdict:
        """Have the simulated vendor judge the request that the adapter builds."""
        return await self._heard(self.adapter.submit_request(f"http://simulator{self.simulated.base_path}", order))

    async def asked_for(self, plan: Plan, task_id: str) -> str | None:
        """The task id that the simulated vendor understands when its status is asked for."""
        request = self.adapter.status_request(f"http://simulator{self.simulated.base_path}", plan, task_id)
        return (await self._heard(request)).task_id

    async def listing(self, plan: Plan, jobs: Sequence[tuple[Job, JsonValue]]) -> httpx.Response:
        """The simulated vendor's list of these jobs, as the adapter asks for it."""
        request = self.lister.list_request(f"http://simulator{self.simulated.base_path}", plan)
        return await self._answered(_Judge(jobs), request)

    async def account(self, spent_micros: int) -> httpx.Response:
        """The simulated vendor's account after so much was spent, as the adapter asks for it."""
        request = self.accountant.account_request(f"http://simulator{self.simulated.base_path}")
        return await self._answered(_Judge(spent_micros=spent_micros), request)

    async def _heard(self, request: httpx.Request) -> Verdict:
        judge = _Judge()
        await self._answered(judge, request)
        return judge.verdict

    async def _answered(self, judge: _Judge, request: httpx.Request) -> httpx.Response:
        app = Starlette(routes=[Mount(f"/{self.name}", routes=[*self.simulated.routes(judge)])])
        request.headers["Authorization"] = f"Bearer {self.api_key}"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.send(request)

    async def job(self, fail_code: str | None = None) -> Job:
        """A job as the simulated vendor would have accepted it, on the first route."""
        verdict = await self.judged(self.order(self.request(self.first_route)))
        if verdict.order is None:
            raise Lacking(f"the simulated vendor takes no request of {self.first_route}: {verdict.detail}")
        return _job(self.simulated, verdict.order, (Fault(name="fail", value=fail_code),) if fail_code else ())

    def job_of(self, order: ClipOrder) -> Job:
        """A job that the simulated vendor has just accepted."""
        return _job(self.simulated, order, ())

    async def status(self, state: ShownState | JobState, links: Sequence[str] = ()) -> tuple[Job, JsonValue]:
        """A job and the simulated vendor's status answer about it."""
        job = await self.job("ProviderError" if state == "failed" else None)
        return job, self.simulated.status(job, state, links)


def _job(simulated: SimulatedVendor, order: ClipOrder, faults: tuple[Fault, ...]) -> Job:
    return Job(
        vendor=simulated.name,
        task_id=simulated.new_task_id(),
        model=order.model,
        mode=order.mode,
        duration_s=order.duration_s,
        resolution=order.resolution,
        width=order.width,
        height=order.height,
        sound=order.sound,
        charged_micros=order.price_micros,
        refund_if_failed=simulated.refunds_failed_jobs,
        callback_url=order.callback_url,
        prompt_sha256="0" * 64,
        prompt_truncated=order.prompt_truncated,
        created_at=1_700_000_000,
        render_s=6,
        faults=faults,
        echo=order.echo,
        said=order.said,
    )


def needed(route: Route) -> dict[str, Any]:
    """The inputs that a route cannot do without."""
    found: dict[str, Any] = {}
    if route.image.least:
        found["image"] = "https://media.example/first.png"
    if route.videos.least:
        found["videos"] = videos(route.videos.least)
    if route.references.least:
        found["references"] = references(route, route.references.least)
    return found


def videos(number: int) -> tuple[str, ...]:
    return tuple(f"https://media.example/clip-{at}.mp4" for at in range(number))


def references(route: Route, number: int) -> tuple[str, ...]:
    """So many references, videos before images, as far as the route takes either kind."""
    clips = min(number, route.reference_kinds.video)
    names = [f"character-{at}.mp4" for at in range(clips)] + [f"character-{at}.png" for at in range(clips, number)]
    return tuple(f"https://media.example/{name}" for name in names)


def answer(status: int, body: JsonValue) -> httpx.Response:
    """An answer in JSON."""
    return httpx.Response(status, json=body)
