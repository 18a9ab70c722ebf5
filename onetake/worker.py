"""The worker process: builds the adapters, injects them into the activities, and serves the task queues of its roles.

Roles: `orchestrate` (workflows, and the short activities on the ledger), `vendors` (one queue a vendor for submissions
and one for status reads) and `media` (bytes), so that a slow vendor or a large file holds up nobody else.
"""

import asyncio
import functools
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from activities.persist import Persist
from activities.reconcile import Reconciling
from activities.recover import Recover
from activities.reserve import Reserve
from activities.resolve import Resolve
from activities.settle import Settle
from activities.submit import Submit
from activities.validate import Validate
from activities.wait import ReadStatus
from onetake.core import logs
from onetake.core.contracts import Queues
from onetake.core.errors import Refused
from onetake.core.names import ROLES, Role, media_queue, vendor_activity
from onetake.core.settings import Settings, require
from onetake.engine.schedule import ensure_schedule
from onetake.engine.temporal import connect, ensure_search_attributes
from onetake.ledger.database import Database
from onetake.ledger.generations import PostgresGenerations
from onetake.ledger.holds import PostgresLedger
from onetake.ledger.recoveries import Recoveries
from onetake.ledger.submissions import PostgresSubmissions
from onetake.ledger.vendors import PROBE_GAP_S, PostgresVendors
from onetake.media.inputs import INPUT_LIMITS, MediaInspector
from onetake.media.outbound import Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool
from onetake.media.storage import BucketStore
from onetake.operations.reconciler import Reconciler
from providers.admission import RouteAdmission
from providers.driver import Driver, configured_drivers, new_http_client, timeout_for
from workflows.generation import Generation
from workflows.reconcile import Reconcile
from workflows.recovery import Recovery

ALL_ROLES: Final = frozenset(ROLES)

MOST_WORKFLOW_TASKS: Final = 100
MOST_LEDGER_ACTIVITIES: Final = 100
MOST_SUBMISSIONS: Final = 50  # at one vendor, per process
MOST_READS: Final = 100
MOST_CLIPS: Final = 8
MOST_PROBE_S: Final = 4.0  # for one input clip or sound
GRACE: Final = timedelta(seconds=100)  # a POST under way (60 s) and the recording of its outcome end within it
MEDIA_GRACE: Final = timedelta(seconds=5)  # a download is handed over: another worker begins it again
STALE_UPLOAD_S: Final = 3600.0
OWN_PACKAGES: Final = ("workflows", "activities", "providers")

_log = logs.logger(__name__)

T = TypeVar("T")


class Decorate(Protocol):
    """Wraps a port for the activity that calls it."""

    def __call__(self, activity: str, port: T) -> T: ...


def as_it_is(activity: str, port: T) -> T:
    """The port itself."""
    del activity
    return port


async def run_worker(
    settings: Settings,
    roles: frozenset[Role] = ALL_ROLES,
    *,
    health_port: int | None = None,
    decorate: Decorate = as_it_is,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. Raises OnetakeError when a part is missing.

    `decorate` wraps each port before an activity gets it; tests arm crash points so.
    """
    refuse_foreign_packages()
    require(settings, "database_url")
    async with AsyncExitStack() as cleanup:
        client = await connect(settings)
        await ensure_search_attributes(client)
        parts = await _parts(settings, client, decorate, cleanup)
        workers: list[Worker] = []
        if "orchestrate" in roles:
            inspector = await _inspector(settings, cleanup)
            await ensure_schedule(client, settings)
            workers.append(_orchestrator(parts, inspector))
        if "vendors" in roles:
            workers += [worker for name in parts.drivers for worker in _vendor_workers(parts, name)]
        if "media" in roles:
            workers.append(await _media_worker(parts, cleanup))
        await _serve(workers, health_port)


def refuse_foreign_packages() -> None:
    """Our packages have plain names at the top level: refuse to run when another distribution claims one of them."""
    owners = packages_distributions()
    claimed = {name: sorted({owner for owner in owners.get(name, ()) if owner != "onetake"}) for name in OWN_PACKAGES}
    foreign = [f"{name} (by {', '.join(names)})" for name, names in claimed.items() if names]
    if foreign:
        raise Refused("settings_invalid", f"Other distributions claim our packages: {'; '.join(foreign)}.")


@dataclass(frozen=True)
class _Parts:
    """What the activities of one process share."""

    settings: Settings
    client: Client
    admission: RouteAdmission
    database: Database
    drivers: Mapping[str, Driver]
    vendors: PostgresVendors
    decorate: Decorate


async def _parts(settings: Settings, client: Client, decorate: Decorate, cleanup: AsyncExitStack) -> _Parts:
    admission = RouteAdmission(settings)
    database = await Database.connect(settings.database_url.get_secret_value(), pool_size=settings.database_pool)
    cleanup.push_async_callback(database.close)
    outbound = Outbound(settings.trusted_hosts)
    cleanup.push_async_callback(outbound.aclose)
    http = await cleanup.enter_async_context(new_http_client(timeout_for(settings.time_scale)))
    drivers = configured_drivers(settings, admission.catalogue, http=http, outbound=outbound)
    vendors = PostgresVendors(database, probe_gap_s=PROBE_GAP_S * settings.time_scale)
    return _Parts(settings, client, admission, database, drivers, vendors, decorate)


async def _inspector(settings: Settings, cleanup: AsyncExitStack) -> MediaInspector:
    # Not what clips are fetched with: a request waits for its inputs much shorter than a clip that is paid for.
    outbound = Outbound(settings.trusted_hosts, limits=INPUT_LIMITS)
    cleanup.push_async_callback(outbound.aclose)
    reader = await cleanup.enter_async_context(ClipProcess(limit_s=MOST_PROBE_S))
    return MediaInspector(outbound, reader, _spool(settings))


def _orchestrator(parts: _Parts, inspector: MediaInspector) -> Worker:
    decorate, ledger = parts.decorate, PostgresLedger(parts.database)
    recover = Recover(decorate("correct", Recoveries(parts.database)), decorate("correct", ledger))
    reconciler = Reconciler(parts.client, parts.database, time_scale=parts.settings.time_scale)
    return Worker(
        parts.client,
        task_queue=parts.settings.task_queue,
        workflows=[Generation, Recovery, Reconcile],
        activities=[
            Validate(parts.admission, decorate("validate", PostgresGenerations(parts.database)), inspector).validate,
            Reserve(decorate("reserve", ledger), decorate("reserve", parts.vendors)).reserve,
            Settle(decorate("settle", ledger)).settle,
            recover.examine,
            recover.correct,
            Reconciling(reconciler).reconcile,
        ],
        max_concurrent_workflow_tasks=MOST_WORKFLOW_TASKS,
        max_concurrent_activities=MOST_LEDGER_ACTIVITIES,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, maximum=20, initial=5),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=20, initial=5),
        graceful_shutdown_timeout=GRACE,
    )


def _vendor_workers(parts: _Parts, name: str) -> list[Worker]:
    """One for the vendor's submissions and one for what is read there."""
    decorate, driver, vendors = parts.decorate, parts.drivers[name], parts.vendors
    callback_base = (
        parts.settings.callback_base_url if parts.admission.catalogue.vendors[name].vendor.callbacks else None
    )
    submissions = PostgresSubmissions(parts.database)
    submit = Submit(
        name, decorate("submit", driver), decorate("submit", submissions), decorate("submit", vendors), callback_base
    )
    read = ReadStatus(name, decorate("wait", driver), decorate("wait", vendors))
    resolve = Resolve(name, decorate("resolve", driver), decorate("resolve", submissions), submissions, vendors)
    reads = [
        _named(vendor_activity(name, "read_status"), read.read_status),
        _named(vendor_activity(name, "resolve"), resolve.resolve),
    ]
    queues = Queues.of(parts.settings.task_queue, name)
    return [
        _queue(parts.client, queues.submit, [_named(vendor_activity(name, "submit"), submit.submit)], MOST_SUBMISSIONS),
        _queue(parts.client, queues.read, reads, MOST_READS),
    ]


async def _media_worker(parts: _Parts, cleanup: AsyncExitStack) -> Worker:
    settings, decorate = parts.settings, parts.decorate
    require(settings, "s3_endpoint", "s3_access_key", "s3_secret_key")
    store = BucketStore.from_settings(settings)
    cleanup.callback(store.close)
    await store.check()
    await store.abort_stale_uploads(STALE_UPLOAD_S)
    reader = ClipProcess()
    cleanup.push_async_callback(reader.aclose)
    persist = Persist(
        {name: decorate("persist", driver) for name, driver in parts.drivers.items()},
        PostgresGenerations(parts.database),
        decorate("persist", store),
        decorate("persist", reader),
        _spool(settings),
    )
    return _queue(parts.client, media_queue(settings.task_queue), [persist.persist], MOST_CLIPS, MEDIA_GRACE)


def _spool(settings: Settings) -> Spool:
    """Where files stand while they are looked at, rid of what killed workers left there."""
    spool = Spool(Path(settings.spool_dir) if settings.spool_dir else None)
    spool.sweep()
    return spool


def _queue(
    client: Client, name: str, activities: Sequence[Callable[..., Any]], most: int, grace: timedelta = GRACE
) -> Worker:
    return Worker(
        client,
        task_queue=name,
        activities=activities,
        max_concurrent_activities=most,
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=10, initial=2),
        graceful_shutdown_timeout=grace,
    )


def _named(name: str, method: Callable[[Any], Awaitable[Any]]) -> Callable[..., Any]:
    """Register a bound method under a vendor's own activity type."""

    @functools.wraps(method)
    async def call(order: Any) -> Any:
        return await method(order)

    return activity.defn(name=name)(call)


async def _serve(workers: Sequence[Worker], health_port: int | None) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as running:
        for worker in workers:
            running.create_task(worker.run())
        health = await asyncio.start_server(_healthy, "127.0.0.1", health_port) if health_port else None
        _log.info("worker_started", queues=[worker.task_queue for worker in workers])
        await stopping.wait()
        _log.info("worker_stopping")
        # Together: a queue that stopped later would go on taking submissions that nobody has time to finish.
        await asyncio.gather(*(worker.shutdown() for worker in workers))
        if health:
            health.close()


async def _healthy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer any request with 200: the process has connected to all its parts and polls its queues."""
    async with asyncio.timeout(5):
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
        await writer.drain()
    writer.close()
