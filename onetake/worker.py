"""The worker process: builds the adapters, injects them into the activities, and serves the task queues of its roles.

Roles: `orchestrate` (workflows, and the short activities on the ledger), `vendors` (one queue a vendor for submissions
and one for status reads) and `media` (bytes, one queue a vendor), so that a slow vendor, a slow host or a large file
holds up nobody else.

It is over 400 lines because every adapter meets its activity here, and nowhere else.
"""

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import (
    FixedSizeSlotSupplier,
    PollerBehaviorAutoscaling,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from activities.cadence import ReadTimes
from activities.inspect import Inspect
from activities.persist import Persist
from activities.reconcile import Reconciling
from activities.recover import Recover
from activities.reserve import Reserve
from activities.resolve import Resolve
from activities.restore import Restore
from activities.settle import Settle
from activities.submit import Record, Submit
from activities.sweep import Sweeping
from activities.validate import Validate
from activities.wait import ReadStatus
from onetake import tracing
from onetake.core import logs
from onetake.core.contracts import Queues
from onetake.core.errors import Refused
from onetake.core.names import ROLES, Role, inputs_queue, sweep_queue, vendor_activity
from onetake.core.ports import LEAST_BYTES_PER_S
from onetake.core.probes import NO_VENDOR_KEY, Readiness, probed
from onetake.core.secrets import Secrets
from onetake.core.settings import Settings, require
from onetake.core.signals import Stop, until_asked_to_end
from onetake.engine.cloud import follow_api_key
from onetake.engine.schedule import ensure_schedule, pass_every_s
from onetake.engine.serving import serve
from onetake.engine.slots import RoomySlots
from onetake.engine.temporal import connect, ensure_search_attributes
from onetake.engine.versioning import Version, of_orchestrator, unversioned
from onetake.ledger.addresses import is_address
from onetake.ledger.database import Database
from onetake.ledger.durability import durability_of
from onetake.ledger.epochs import Epochs
from onetake.ledger.generations import PostgresGenerations
from onetake.ledger.holds import PostgresLedger
from onetake.ledger.pacing import PostgresPacing
from onetake.ledger.rates import PostgresRates
from onetake.ledger.recoveries import Recoveries
from onetake.ledger.revisions import until_migrated
from onetake.ledger.submissions import PostgresSubmissions
from onetake.ledger.terms import PostgresTerms
from onetake.ledger.vendors import PROBE_GAP_S, PostgresVendors
from onetake.media.inputs import INPUT_LIMITS, MOST_REQUESTS, MediaInspector
from onetake.media.outbound import Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool
from onetake.media.storage import BucketStore
from onetake.operations.reconciler import Reconciler
from onetake.operations.sweeping import Sweeper, running_at
from onetake.operations.versions import warn_at_start
from onetake.telemetry import start_telemetry
from providers.admission import RouteAdmission
from providers.driver import Clients, Driver, configured_drivers, timeout_for
from workflows.generation import Generation
from workflows.reconcile import Reconcile
from workflows.recovery import Recovery
from workflows.sweep import Sweep

ALL_ROLES: Final = frozenset(ROLES)

# A run's first task validates, reserves and orders the submission: of a burst no more than these, in a process, are
# doing so. A run whose clip is rendered waits for one of them to end at most, and not for the burst.
MOST_WORKFLOW_TASKS: Final = 40
MOST_LEDGER_ACTIVITIES: Final = 100
MOST_SUBMISSIONS: Final = 50  # at one vendor, per process
MOST_READS: Final = 100
MOST_CLIPS: Final = 8  # of one vendor, per process
MOST_PROBE_S: Final = 4.0  # for one input clip or sound
GRACE: Final = timedelta(seconds=100)  # a POST under way (60 s) and the recording of its outcome end within it
MEDIA_GRACE: Final = timedelta(seconds=5)  # a download is handed over: another worker begins it again
STALE_UPLOAD_S: Final = 3600.0  # beyond what the largest clip needs at the least rate
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
    health_host: str = "127.0.0.1",
    health_port: int | None = None,
    decorate: Decorate = as_it_is,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. Raises OnetakeError when a part is missing.

    `decorate` wraps each port before an activity gets it; tests arm crash points so.
    """
    refuse_foreign_packages()
    require(settings, "database_url")
    health = (health_host, health_port) if health_port else None
    await until_asked_to_end(lambda stop: _run(settings, roles, health, decorate, stop))


async def _run(
    settings: Settings, roles: frozenset[Role], health: tuple[str, int] | None, decorate: Decorate, stop: Stop
) -> None:
    version = Version.named(os.environ) if "orchestrate" in roles else None
    async with AsyncExitStack() as cleanup:
        ready = Readiness(lambda: stop.is_asked)
        if health:
            await cleanup.enter_async_context(probed(*health, ready.lacks))
        await cleanup.enter_async_context(tracing.traced_as("onetake-worker"))
        client = await connect(settings, runtime=start_telemetry(settings, roles))
        following = asyncio.create_task(follow_api_key(client))
        cleanup.callback(following.cancel)
        await ensure_search_attributes(client)
        parts = await _parts(settings, client, decorate, cleanup)
        workers: list[Worker] = []
        if "orchestrate" in roles:
            inspector = await _inspector(settings, cleanup)
            if version is not None:
                await warn_at_start(client, version)
            await ensure_schedule(client, settings)
            workers += [_orchestrator(parts, version), _inspection(parts, inspector, version)]
        if "vendors" in roles:
            workers += [worker for name in parts.drivers for worker in _vendor_workers(parts, name)]
        if "media" in roles:
            workers += await _media_workers(parts, cleanup)
        ready.watch(workers, _lacks(parts, roles))
        await serve(workers, GRACE if roles & {"orchestrate", "vendors"} else MEDIA_GRACE, stop)


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
    secrets: Secrets
    client: Client
    admission: RouteAdmission
    database: Database
    drivers: Mapping[str, Driver]
    vendors: PostgresVendors
    rates: PostgresRates
    times: ReadTimes
    decorate: Decorate


async def _parts(settings: Settings, client: Client, decorate: Decorate, cleanup: AsyncExitStack) -> _Parts:
    admission = RouteAdmission(settings)
    secrets = Secrets(settings)
    database = await Database.connect(secrets.secret("database_url", is_address).now, pool_size=settings.database_pool)
    cleanup.push_async_callback(database.close)
    await until_migrated(database)
    await _say_how_durable(database)
    outbound = Outbound(settings.trusted_hosts)
    cleanup.push_async_callback(outbound.aclose)
    drivers = configured_drivers(
        settings,
        admission.catalogue,
        clients=functools.partial(_clients, settings, cleanup),
        outbound=outbound,
        note=tracing.note_call,
        live=secrets,
    )
    scale = settings.time_scale
    vendors = PostgresVendors(database, probe_gap_s=PROBE_GAP_S * scale, time_scale=scale)
    rates = PostgresRates(database, time_scale=scale)
    asked = bool(settings.callback_base_url)
    times = ReadTimes(PostgresPacing(database, callbacks_asked=asked, time_scale=scale))
    return _Parts(settings, secrets, client, admission, database, drivers, vendors, rates, times, decorate)


async def _say_how_durable(database: Database) -> None:
    durability = await durability_of(database)
    _log.info("database_durability", detail=durability.found)
    for doubt in durability.doubts:
        _log.warning("database_durability", detail=doubt)


def _clients(settings: Settings, cleanup: AsyncExitStack) -> Clients:
    clients = Clients.opened(timeout_for(settings.time_scale))
    cleanup.push_async_callback(clients.aclose)
    return clients


async def _inspector(settings: Settings, cleanup: AsyncExitStack) -> MediaInspector:
    # Not what clips are fetched with: a request waits for its inputs much shorter than a clip that is paid for.
    outbound = Outbound(settings.trusted_hosts, limits=INPUT_LIMITS)
    cleanup.push_async_callback(outbound.aclose)
    reader = await cleanup.enter_async_context(ClipProcess(limit_s=MOST_PROBE_S))
    return MediaInspector(outbound, reader, _spool(settings))


def _orchestrator(parts: _Parts, version: Version | None) -> Worker:
    decorate, ledger = parts.decorate, PostgresLedger(parts.database)
    generations, terms = PostgresGenerations(parts.database), PostgresTerms(parts.database)
    recover = Recover(decorate("correct", Recoveries(parts.database)), decorate("correct", ledger))
    reconciler = Reconciler(
        parts.client,
        parts.database,
        sweep_from=parts.settings.task_queue,
        time_scale=parts.settings.time_scale,
        drift_tolerance_percent=parts.settings.drift_tolerance_percent,
    )
    return Worker(
        parts.client,
        task_queue=parts.settings.task_queue,
        workflows=[Generation, Recovery, Reconcile, Sweep],
        activities=[
            Validate(parts.admission, decorate("validate", generations), terms).validate,
            Reserve(decorate("reserve", ledger), decorate("reserve", parts.vendors), generations).reserve,
            Record(PostgresSubmissions(parts.database)).record,
            Settle(decorate("settle", ledger)).settle,
            Restore(Epochs(parts.database)).restore,
            recover.examine,
            recover.correct,
            Reconciling(reconciler, pass_every_s(parts.settings)).reconcile,
        ],
        max_concurrent_workflow_tasks=MOST_WORKFLOW_TASKS,
        max_concurrent_activities=MOST_LEDGER_ACTIVITIES,
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(minimum=2, maximum=20, initial=5),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=20, initial=5),
        graceful_shutdown_timeout=GRACE,
        deployment_config=of_orchestrator(version, runs_workflows=True),
    )


def _inspection(parts: _Parts, inspector: MediaInspector, version: Version | None) -> Worker:
    """Apart from the other short activities: hosts of inputs may be slow. Of the same version as they are."""
    generations = PostgresGenerations(parts.database)
    inspect = Inspect(parts.admission, parts.decorate("inspect", generations), inspector)
    queue, told = inputs_queue(parts.settings.task_queue), of_orchestrator(version, runs_workflows=False)
    return _queue(parts.client, queue, [inspect.inspect], MOST_REQUESTS, told=told)


def _vendor_workers(parts: _Parts, name: str) -> list[Worker]:
    """One for the vendor's submissions and one for what is read there."""
    decorate, driver, rates = parts.decorate, parts.drivers[name], parts.rates
    callback_base = (
        parts.settings.callback_base_url if parts.admission.catalogue.vendors[name].vendor.callbacks else None
    )
    submissions = PostgresSubmissions(parts.database)
    submit = Submit(
        name,
        decorate("submit", driver),
        decorate("submit", submissions),
        Epochs(parts.database),
        decorate("submit", rates),
        callback_base,
        parts.times,
    )
    read = ReadStatus(name, decorate("wait", driver), decorate("wait", rates), submissions, parts.times)
    resolve = Resolve(name, decorate("resolve", driver), decorate("resolve", submissions), submissions, rates)
    reads = [
        _named(vendor_activity(name, "read_status"), read.read_status),
        _named(vendor_activity(name, "resolve"), resolve.resolve),
    ]
    queues = Queues.of(parts.settings.task_queue, name)
    return [
        _queue(parts.client, queues.submit, [_named(vendor_activity(name, "submit"), submit.submit)], MOST_SUBMISSIONS),
        _queue(parts.client, queues.read, reads, MOST_READS),
    ]


async def _media_workers(parts: _Parts, cleanup: AsyncExitStack) -> list[Worker]:
    """One for each vendor's clips: slots that a slow media host keeps are no other vendor's."""
    settings, decorate = parts.settings, parts.decorate
    require(settings, "s3_endpoint", "s3_access_key", "s3_secret_key")
    puts = MOST_CLIPS * max(len(parts.drivers), 1)
    store = BucketStore.from_settings(settings, parallel_puts=puts, secrets=parts.secrets)
    cleanup.callback(store.close)
    await store.check()
    await store.abort_stale_uploads(STALE_UPLOAD_S + settings.asset_max_bytes / LEAST_BYTES_PER_S)
    reader = ClipProcess()
    cleanup.push_async_callback(reader.aclose)
    spool = _spool(settings)
    persist = Persist(
        {name: decorate("persist", driver) for name, driver in parts.drivers.items()},
        decorate("persist", parts.rates),
        decorate("persist", PostgresSubmissions(parts.database)),
        PostgresGenerations(parts.database),
        decorate("persist", store),
        decorate("persist", reader),
        spool,
    )
    queues = [Queues.of(settings.task_queue, name).media for name in parts.drivers]
    sweeping = Sweeping(Sweeper(running_at(parts.client), parts.database, store))
    sweeper = _queue(parts.client, sweep_queue(settings.task_queue), [sweeping.sweep], 1, MEDIA_GRACE)
    return [*(_media_queue(parts.client, queue, persist, spool) for queue in queues), sweeper]


def _media_queue(client: Client, name: str, persist: Persist, spool: Spool) -> Worker:
    few = FixedSizeSlotSupplier(1)
    return Worker(
        client,
        task_queue=name,
        activities=[persist.persist],
        tuner=WorkerTuner.create_composite(
            workflow_supplier=few,
            activity_supplier=RoomySlots(MOST_CLIPS, spool),
            local_activity_supplier=few,
            nexus_supplier=few,
        ),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=10, initial=2),
        graceful_shutdown_timeout=MEDIA_GRACE,
        deployment_config=unversioned(),
    )


def spool_of(settings: Settings) -> Spool:
    """Where files stand while they are looked at."""
    place = Path(settings.spool_dir) if settings.spool_dir else None
    return Spool(place, reserve_bytes=settings.spool_reserve_bytes)


def _spool(settings: Settings) -> Spool:
    """The spool, rid of what killed workers left there."""
    spool = spool_of(settings)
    spool.sweep()
    return spool


def _queue(
    client: Client,
    name: str,
    activities: Sequence[Callable[..., Any]],
    most: int,
    grace: timedelta = GRACE,
    told: WorkerDeploymentConfig | None = None,
) -> Worker:
    return Worker(
        client,
        task_queue=name,
        activities=activities,
        max_concurrent_activities=most,
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=10, initial=2),
        graceful_shutdown_timeout=grace,
        deployment_config=told or unversioned(),
    )


def _named(name: str, method: Callable[[Any], Awaitable[Any]]) -> Callable[..., Any]:
    """Register a bound method under a vendor's own activity type."""

    @functools.wraps(method)
    async def call(order: Any) -> Any:
        return await method(order)

    return activity.defn(name=name)(call)


def _lacks(parts: _Parts, roles: frozenset[Role]) -> Callable[[], list[str]]:
    """What keeps the process from work apart from its queues. A key of the first vendor is read at the start only."""
    keys = [NO_VENDOR_KEY] if roles & {"vendors", "media"} and not parts.drivers else []
    if keys:
        _log.warning("no_vendor_key", hint="Set a key, such as ONETAKE_GMI_API_KEY, and start the worker again.")
    room = _room(parts.settings) if "media" in roles else list[str]
    return lambda: [*keys, *room()]


def _room(settings: Settings) -> Callable[[], list[str]]:
    """Whether the spool takes clips: nothing, or that it is full."""
    spool = spool_of(settings)
    return lambda: [] if spool.free_bytes else ["spool_full"]
