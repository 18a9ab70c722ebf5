"""What `onetake doctor` looks at: each part the settings name, asked one harmless question within a time limit.

It changes nothing, sends nothing to a vendor, and shows addresses but never a secret.
"""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from onetake.errors import CATALOGUE, OnetakeError
from onetake.settings import Settings

LIMIT_S = 8.0


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


async def examine(settings: Settings) -> list[Finding]:
    """Ask every part side by side; findings come in a fixed order."""
    examinations: tuple[tuple[str, tuple[str, ...], Callable[[Settings], Awaitable[Finding]]], ...] = (
        ("packages", (), _packages),
        ("temporal", ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "ONETAKE_CODEC_KEY"), _temporal),
        ("workers", ("ONETAKE_TASK_QUEUE",), _workers),
        ("database", ("ONETAKE_DATABASE_URL",), _database),
        ("bucket", ("ONETAKE_S3_ENDPOINT", "ONETAKE_S3_ACCESS_KEY", "ONETAKE_S3_SECRET_KEY"), _bucket),
        ("apixo", ("ONETAKE_APIXO_BASE_URL", "ONETAKE_APIXO_API_KEY"), _apixo),
        ("callbacks", ("ONETAKE_CALLBACK_BASE_URL",), _callbacks),
    )
    return list(await asyncio.gather(*(_bounded(part, names, look, settings) for part, names, look in examinations)))


async def _bounded(
    part: str, names: tuple[str, ...], look: Callable[[Settings], Awaitable[Finding]], settings: Settings
) -> Finding:
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
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
    from temporalio.service import RPCError

    from onetake.contracts import SearchAttribute
    from onetake.temporal import connect

    client = await connect(settings)
    version = (await client.workflow_service.get_system_info(GetSystemInfoRequest())).server_version
    found = f"server {version} at {client.service_client.config.target_host}, namespace {client.namespace}"
    names = " ".join(f"--name {name} --type Keyword" for name in SearchAttribute.ALL)
    create = f"Run: temporal operator search-attribute create --namespace {client.namespace} {names}"
    try:
        request = ListSearchAttributesRequest(namespace=client.namespace)
        present = (await client.operator_service.list_search_attributes(request)).custom_attributes
    except RPCError as error:
        return _broken(f"{found}; its search attributes cannot be listed ({error.status.name})", create, "usage")
    missing = [name for name in SearchAttribute.ALL if name not in present]
    if missing:
        return _broken(f"{found}; it lacks the search attributes {', '.join(missing)}", create, "settings_invalid")
    return _fine(found)


async def _workers(settings: Settings) -> Finding:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    from onetake.temporal import connect

    client = await connect(settings)

    async def is_polled(name: str, kind: TaskQueueType.ValueType) -> bool:
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=name), task_queue_type=kind
        )
        return bool((await client.workflow_service.describe_task_queue(request)).pollers)

    base, activity = settings.task_queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
    queues = {base: TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, f"{base}-media": activity}
    queues |= {f"{base}-{verb}-apixo": activity for verb in ("submit", "read")}
    silent = [name for name, kind in queues.items() if not await is_polled(name, kind)]
    if silent:
        return _broken(
            f"nobody serves {', '.join(silent)}", "Start `onetake worker`, or `onetake dev`.", "engine_unavailable"
        )
    return _fine(f"served: {', '.join(queues)}")


async def _database(settings: Settings) -> Finding:
    from alembic.script import ScriptDirectory

    from onetake.ledger import migrate
    from onetake.ledger.database import Database
    from onetake.settings import require

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


async def _bucket(settings: Settings) -> Finding:
    from onetake.settings import require
    from onetake.storage import BucketStore

    require(settings, "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")
    store = BucketStore.from_settings(settings)
    try:
        await store.check()
    finally:
        store.close()
    return _fine(f"{settings.s3_bucket} at {settings.s3_endpoint}, writable once")


async def _apixo(settings: Settings) -> Finding:
    from providers.catalogue import load_catalogue

    vendor = settings.vendor("apixo")
    base = vendor.base_url or load_catalogue().vendors["apixo"].base_url
    if vendor.api_key is None:
        return _absent(
            f"no key for {base}", "Set ONETAKE_APIXO_API_KEY; `onetake simulator` takes the key sim-apixo-key."
        )
    address = urlsplit(base)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if address.scheme != "https" and not settings.trusted_hosts & {host, f"{host}:{port}"}:
        fix = f"Use https, or trust the host by name: ONETAKE_TRUSTED_HOSTS={host}:{port}."
        return _broken(f"{base} is not https and not trusted", fix, "settings_invalid")
    if not await _answers(host, port):
        return _broken(f"nothing answers at {host}:{port}", "Check ONETAKE_APIXO_BASE_URL.", "vendor_unavailable")
    return _fine(f"{base} answers; its key is set and was not tried")


async def _callbacks(settings: Settings) -> Finding:
    base = settings.callback_base_url
    if not base:
        return _absent("no public address: vendors are only polled", "Set ONETAKE_CALLBACK_BASE_URL to the gateway's.")
    address = urlsplit(base)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if not await _answers(host, port):
        fix = "Start `onetake gateway`, or correct ONETAKE_CALLBACK_BASE_URL. Polling goes on meanwhile."
        return _broken(f"nothing answers at {host}:{port}", fix, "engine_unavailable")
    return _fine(f"the gateway answers at {base}")


async def _answers(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), LIMIT_S / 2)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
