"""What `onetake doctor` looks at: each part the settings name, asked one harmless question within a time limit.

It changes nothing, sends nothing to a vendor, and shows addresses but never a secret.
"""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from onetake.core.errors import CATALOGUE, OnetakeError
from onetake.core.settings import Settings

LIMIT_S = 30.0  # a server on a busy machine is slow and not broken


@dataclass(frozen=True)
class Finding:
    """One part: the settings it comes from, what was found, and what to do."""

    part: str
    settings: tuple[str, ...]
    verdict: Literal["fine", "absent", "broken"]
    found: str
    fix: str = ""
    exit_code: int = 0

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


Look = Callable[[Settings], Awaitable[Finding]]


async def examine(settings: Settings) -> list[Finding]:
    """Ask every part side by side; findings come in a fixed order."""
    # Before the clocks run: on a busy machine the imports alone can take as long as a part may.
    importlib.import_module("onetake.worker")  # with it everything that is examined
    from providers.catalogue import load_catalogue

    examinations: tuple[tuple[str, tuple[str, ...], Look], ...] = (
        ("packages", (), _packages),
        ("temporal", ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "ONETAKE_CODEC_KEY"), _temporal),
        ("workers", ("ONETAKE_TASK_QUEUE",), _workers),
        ("database", ("ONETAKE_DATABASE_URL",), _database),
        ("runs", (), _runs),
        ("bucket", ("ONETAKE_S3_ENDPOINT", "ONETAKE_S3_ACCESS_KEY", "ONETAKE_S3_SECRET_KEY"), _bucket),
        *((name, _names_of(name), _vendor(name)) for name in load_catalogue().vendors),
        ("callbacks", ("ONETAKE_CALLBACK_BASE_URL",), _callbacks),
    )
    return list(await asyncio.gather(*(_bounded(part, names, look, settings) for part, names, look in examinations)))


def _names_of(vendor: str) -> tuple[str, ...]:
    return (f"ONETAKE_{vendor.upper()}_BASE_URL", f"ONETAKE_{vendor.upper()}_API_KEY", "ONETAKE_PRICES")


async def _bounded(part: str, names: tuple[str, ...], look: Look, settings: Settings) -> Finding:
    try:
        finding = await asyncio.wait_for(look(settings), LIMIT_S)
    except OnetakeError as error:
        entry = error.entry
        return Finding(part, names, "broken", f"{entry.sentence} {error.detail}".strip(), error.hint, entry.exit_code)
    except TimeoutError:
        fix = "Look at its own log; it accepts connections and does not answer."
        return Finding(part, names, "broken", f"No answer within {LIMIT_S:g} s.", fix, 9)
    return Finding(part, names, finding.verdict, finding.found, finding.fix, finding.exit_code)


def _fine(found: str) -> Finding:
    return Finding("", (), "fine", found)


def _absent(found: str, fix: str) -> Finding:
    return Finding("", (), "absent", found, fix)


def _broken(found: str, fix: str, code: str) -> Finding:
    return Finding("", (), "broken", found, fix, CATALOGUE[code].exit_code)


async def _packages(_: Settings) -> Finding:
    from onetake.worker import refuse_foreign_packages

    refuse_foreign_packages()
    return _fine("workflows, activities and providers are ours")


async def _temporal(settings: Settings) -> Finding:
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
    from temporalio.service import RPCError

    from onetake.engine.temporal import connect, missing_search_attributes, search_attribute_command

    client = await connect(settings)
    version = (await client.workflow_service.get_system_info(GetSystemInfoRequest())).server_version
    found = f"server {version} at {client.service_client.config.target_host}, namespace {client.namespace}"
    create = f"Run: {search_attribute_command(client)}"
    try:
        missing = await missing_search_attributes(client)
    except RPCError as error:
        return _broken(f"{found}; its search attributes cannot be listed ({error.status.name})", create, "usage")
    if missing:
        return _broken(f"{found}; it lacks the search attributes {', '.join(missing)}", create, "settings_invalid")
    return _fine(found)


async def _workers(settings: Settings) -> Finding:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    from onetake.core.names import media_queue, read_queue, submit_queue
    from onetake.engine.temporal import connect
    from providers.catalogue import load_catalogue

    client = await connect(settings)

    async def is_polled(name: str, kind: TaskQueueType.ValueType) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=name), task_queue_type=kind
        )
        return bool((await client.workflow_service.describe_task_queue(request)).pollers)

    base, activity = settings.task_queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
    queues = {base: TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, media_queue(base): activity}
    keyed = [name for name in load_catalogue().vendors if settings.vendor(name).api_key]
    queues |= {name_of(base, name): activity for name in keyed for name_of in (submit_queue, read_queue)}
    silent = [name for name, kind in queues.items() if not await is_polled(name, kind)]
    if silent:
        return _broken(
            f"nobody serves {', '.join(silent)}", "Start `onetake worker`, or `onetake dev`.", "engine_unavailable"
        )
    return _fine(f"served: {', '.join(queues)}")


async def _database(settings: Settings) -> Finding:
    from alembic.script import ScriptDirectory

    from onetake.core.settings import require
    from onetake.ledger import migrate
    from onetake.ledger.database import Database

    require(settings, "database_url")
    database = await Database.connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        server = await database.row("show server_version")
        present = await database.row("select version_num from onetake.alembic_version")
    finally:
        await database.close()
    revision = present["version_num"] if present else "none"
    newest = ScriptDirectory(str(Path(migrate.__file__).with_name("migrations"))).get_current_head()
    found = f"PostgreSQL {server['server_version'] if server else '?'}, tables at revision {revision}"
    if revision != newest:
        return _broken(f"{found}; this version needs {newest}", "Run `onetake migrate`.", "ledger_unavailable")
    return _fine(found)


async def _runs(settings: Settings) -> Finding:
    from onetake.core.settings import require
    from onetake.engine.temporal import connect
    from onetake.ledger.database import Database
    from onetake.operations.reconciler import Reconciler

    require(settings, "database_url")
    client = await connect(settings)
    database = await Database.connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        stuck = await Reconciler(client, database, time_scale=settings.time_scale).stuck()
    finally:
        await database.close()
    if stuck:
        first = f"{stuck[0].generation_id}: {stuck[0].found}"
        fix = "`onetake replay --history ID` says what differs; deploy the code that can go on, or start workers."
        return _broken(f"{len(stuck)} stuck; {first}", fix, "engine_unavailable")
    return _fine("none is stuck")


async def _bucket(settings: Settings) -> Finding:
    from onetake.core.settings import require
    from onetake.media.storage import BucketStore

    require(settings, "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")
    store = BucketStore.from_settings(settings)
    try:
        await store.check()
    finally:
        store.close()
    return _fine(f"{settings.s3_bucket} at {settings.s3_endpoint} can be read")


def _vendor(name: str) -> Look:
    async def look(settings: Settings) -> Finding:
        from providers.catalogue import load_catalogue
        from providers.driver import checked_base_url, checked_key

        configured, facts = settings.vendor(name), load_catalogue().vendors[name].vendor
        if not checked_key(name, configured):
            fix = f"Set ONETAKE_{name.upper()}_API_KEY to use it, or let `onetake dev` simulate it."
            return _absent(f"no key for {configured.base_url or facts.base_url or 'it'}", fix)
        base = checked_base_url(name, configured, facts.base_url, settings.trusted_hosts)
        host, port = _host_and_port(base)
        if not await _answers(host, port):
            fix = f"Check ONETAKE_{name.upper()}_BASE_URL."
            return _broken(f"nothing answers at {host}:{port}", fix, "vendor_unavailable")
        found = f"{base} answers; its key is set and was not tried"
        unpriced = _unpriced(name, settings)
        if unpriced:
            return _absent(f"{found}; no price for {', '.join(unpriced)}", CATALOGUE["price_missing"].hint)
        return _fine(f"{found}; every route has a price")

    return look


def _unpriced(vendor: str, settings: Settings) -> list[str]:
    """The modes of a vendor that cannot run for want of a price."""
    from onetake.cli.routes import clip_prices
    from providers.catalogue import load_catalogue

    data = load_catalogue()
    names = [name for name in data.route_names() if name.startswith(f"{vendor}/")]
    return [
        name.rpartition("/")[2]
        for name in names
        if any(price["amount_micros"] is None for price in clip_prices(name, data, settings))
    ]


async def _callbacks(settings: Settings) -> Finding:
    base = settings.callback_base_url
    if not base:
        return _absent("no public address: vendors are only polled", "Set ONETAKE_CALLBACK_BASE_URL to the gateway's.")
    host, port = _host_and_port(base)
    if not await _answers(host, port):
        fix = "Start `onetake gateway`, or correct ONETAKE_CALLBACK_BASE_URL. Polling goes on meanwhile."
        return _broken(f"nothing answers at {host}:{port}", fix, "engine_unavailable")
    return _fine(f"the gateway answers at {base}")


def _host_and_port(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "", address.port or (443 if address.scheme == "https" else 80)


async def _answers(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), LIMIT_S / 2)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
