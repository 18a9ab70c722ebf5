"""The steps of one generation without Temporal: the product's own activities, called as plain functions.

A peer that calls them does the same work on the same servers as a worker does; only what makes the steps durable, and
what leads from one to the next, is another.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from temporalio.testing import ActivityEnvironment

from activities.cadence import ReadTimes
from activities.persist import Persist
from activities.reserve import Reserve
from activities.settle import Settle
from activities.submit import Submit
from onetake.core.contracts import (
    ErrorInfo,
    GenerationRequest,
    GenerationResult,
    Persisted,
    PersistInput,
    Plan,
    ReserveInput,
    SettleInput,
    SubmitInput,
)
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import FIRST_ATTEMPT
from onetake.core.settings import Settings
from onetake.ledger.database import Database
from onetake.ledger.epochs import Epochs
from onetake.ledger.generations import PostgresGenerations
from onetake.ledger.holds import PostgresLedger
from onetake.ledger.pacing import PostgresPacing
from onetake.ledger.rates import PostgresRates
from onetake.ledger.submissions import PostgresSubmissions
from onetake.ledger.vendors import PROBE_GAP_S, PostgresVendors
from onetake.media.outbound import Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool
from onetake.media.storage import BucketStore
from onetake.worker import MOST_CLIPS, MOST_SUBMISSIONS
from providers.admission import RouteAdmission
from providers.driver import Clients, Driver, configured_drivers

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Accepted:
    """A generation whose row is written."""

    id: str
    workflow_id: str
    request: GenerationRequest
    plan: Plan


class Steps:
    """What a worker does for one generation, step by step. As in a worker, a vendor gets 50 submissions at once, and
    eight clips are stored at once."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        driver: Driver,
        media: tuple[BucketStore, ClipProcess],
        callback_base: str | None,
    ) -> None:
        vendor, store, reader = "apixo", *media
        ledger, generations = PostgresLedger(database), PostgresGenerations(database)
        vendors, rates = PostgresVendors(database, probe_gap_s=PROBE_GAP_S), PostgresRates(database)
        self.driver = driver
        self._generations = generations
        self._admission = RouteAdmission(settings)
        self._reserve = Reserve(ledger, vendors, generations)
        submissions = PostgresSubmissions(database)
        times = ReadTimes(PostgresPacing(database, callbacks_asked=callback_base is not None))
        self._submit = Submit(vendor, driver, submissions, Epochs(database), rates, callback_base, times)
        clients = {vendor: driver}
        self._persist = Persist(clients, rates, submissions, generations, store, reader, Spool())
        self._settle = Settle(ledger)
        self._submissions = asyncio.Semaphore(MOST_SUBMISSIONS)
        self._clips = asyncio.Semaphore(MOST_CLIPS)

    def admitted(self, request: GenerationRequest) -> Plan:
        return self._admission.plan(request, base_queue="bench")

    async def accept(self, request: GenerationRequest) -> Accepted:
        """Price the request and write its row, as the client does."""
        plan = self.admitted(request)
        workflow_id = workflow_id_of(request.tenant, new_generation_id())
        row = await self._generations.accept_once(request, workflow_id=workflow_id, plan=plan)
        return Accepted(row.id, row.workflow_id, request, row.plan or plan)

    async def reserve(self, accepted: Accepted) -> None:
        request, plan = accepted.request, accepted.plan
        order = ReserveInput(
            generation_id=accepted.id,
            attempt=FIRST_ATTEMPT,
            tenant=request.tenant,
            user=request.user,
            feature=request.feature,
            route=plan.route,
            vendor=plan.vendor,
            price=plan.price,
        )
        await _called(self._reserve.reserve, order)

    async def submit(self, accepted: Accepted) -> str:
        """The intent, the POST and its outcome; the vendor's id of the job."""
        order = SubmitInput(
            generation_id=accepted.id,
            attempt=FIRST_ATTEMPT,
            workflow_id=accepted.workflow_id,
            plan=accepted.plan,
            request=accepted.request,
        )
        async with self._submissions:
            submission = await _called(self._submit.submit, order)
        if submission.state != "accepted" or submission.vendor_task_id is None:
            raise RuntimeError(f"a submission was {submission.state}")
        return submission.vendor_task_id

    async def persist(self, accepted: Accepted, task_id: str) -> Persisted:
        """The status, the clip's bytes into the bucket, their proof, and the manifest."""
        order = PersistInput(
            generation_id=accepted.id,
            attempt=FIRST_ATTEMPT,
            tenant=accepted.request.tenant,
            plan=accepted.plan,
            vendor_task_id=task_id,
            woken=True,
        )
        async with self._clips:
            return await _called(self._persist.persist, order)

    async def settle(self, accepted: Accepted, task_id: str, persisted: Persisted) -> GenerationResult:
        order = SettleInput(
            generation_id=accepted.id,
            attempt=FIRST_ATTEMPT,
            tenant=accepted.request.tenant,
            status="completed",
            resolution="post",
            assets=persisted.assets,
            warnings=persisted.warnings,
            vendor_task_id=task_id,
        )
        return await _called(self._settle.settle, order)

    async def abandon(self, accepted: Accepted, task_id: str) -> None:
        """End a generation whose job is not waited for."""
        order = SettleInput(
            generation_id=accepted.id,
            attempt=FIRST_ATTEMPT,
            tenant=accepted.request.tenant,
            status="failed",
            resolution="release",
            error=ErrorInfo.of("vendor_failed"),
            vendor_task_id=task_id,
        )
        await _called(self._settle.settle, order)


@asynccontextmanager
async def steps(settings: Settings, callback_base: str | None) -> AsyncGenerator[Steps]:
    """The activities with adapters of their own, as a worker builds them."""
    async with AsyncExitStack() as cleanup:
        database = await Database.connect(
            settings.database_url.get_secret_value(), pool_size=settings.database_pool, application_name="bench"
        )
        cleanup.push_async_callback(database.close)
        outbound = Outbound(settings.trusted_hosts)
        cleanup.push_async_callback(outbound.aclose)
        clients = await cleanup.enter_async_context(Clients.opened())
        catalogue = RouteAdmission(settings).catalogue
        driver = configured_drivers(settings, catalogue, clients=lambda: clients, outbound=outbound)["apixo"]
        store = BucketStore.from_settings(settings)
        cleanup.callback(store.close)
        reader = await cleanup.enter_async_context(ClipProcess())
        yield Steps(settings, database, driver, (store, reader), callback_base)


async def _called(activity: Callable[[A], Awaitable[T]], order: A) -> T:
    """Call an activity outside a worker: its first try, with no limits; nobody keeps its heartbeats."""
    return await ActivityEnvironment().run(activity, order)
