"""How Temporal stands for us: its namespace and search attributes, the codec's key, who polls, the reconciler's
schedule, and the runs that are open."""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
import base64
import binascii
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from onetake.cli.doctor.findings import Finding, absent, broken, fine, warning
from onetake.cli.doctor.patience import PASSING
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import Refused
from onetake.core.settings import Settings

if TYPE_CHECKING:
    from temporalio.api.taskqueue.v1 import PollerInfo
    from temporalio.client import Client

    from onetake.engine.schedule import ScheduleState
    from onetake.operations.versions import Queue

BY_HAND: Final = "`onetake reconcile` makes a pass by hand."
KEY_BYTES: Final = 32
NEW_KEY: Final = "Set ONETAKE_CODEC_KEY to the output of `openssl rand -base64 32`."
NEWEST: Final = 5  # runs whose histories are asked for the key that wrote them


async def codec(setup: Setup) -> Finding | list[Finding]:
    """Whether there is a key, it is one, and it opens what the newest runs have written."""
    settings = setup.settings
    if found := _of_keys(settings):
        return found
    from onetake.core.names import GENERATION_WORKFLOW
    from onetake.engine.codec import key_id
    from onetake.engine.payloads import keys_of_run

    client = await setup.engine()
    query = f'WorkflowType = "{GENERATION_WORKFLOW}"'
    newest = [each.id async for each in client.list_workflows(query, limit=NEWEST, page_size=NEWEST)]
    used = frozenset[str]().union(*await asyncio.gather(*(keys_of_run(client, each) for each in newest)))
    if lost := used - {key_id(key) for key in settings.codec_keys}:
        found = f"the newest runs were written with the key {', '.join(sorted(lost))}, which is not among ours"
        fix = "Set ONETAKE_CODEC_OLD_KEYS to the key that was used before: without it these runs cannot go on."
        return broken("codec_key_differs", found, fix, "settings_invalid")
    ours = f"key {key_id(settings.codec_keys[0])}" if settings.codec_keys else "no key, as you asked: plain histories"
    return fine(f"{ours}; it opens the newest {len(newest)} runs")


def _of_keys(settings: Settings) -> list[Finding]:
    if not settings.codec_key and not settings.insecure_plaintext_history:
        found = "there is no key: prompts would be readable in Temporal's histories, so nothing starts"
        return [broken("codec_key_missing", found, NEW_KEY, "settings_invalid")]
    named = {"ONETAKE_CODEC_KEY": [settings.codec_key] if settings.codec_key else []}
    named["ONETAKE_CODEC_OLD_KEYS"] = list(settings.codec_old_keys)
    for name, keys in named.items():
        sizes = [_size_of(key.get_secret_value()) for key in keys]
        if wrong := [size for size in sizes if size != KEY_BYTES]:
            size = "not base64" if wrong[0] is None else f"{wrong[0]} bytes"
            found = f"{name} is {size}, and must be {KEY_BYTES} bytes in base64"
            fix = NEW_KEY if name == "ONETAKE_CODEC_KEY" else f"Correct {name}: the keys, separated by commas."
            return [broken("codec_key_malformed", found, fix, "settings_invalid")]
    return []


def _size_of(text: str) -> int | None:
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return None


async def temporal(setup: Setup) -> Finding | list[Finding]:
    """The server, the namespace, how long it keeps runs, and our search attributes."""
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
    from temporalio.service import RPCError, RPCStatusCode

    from onetake.engine.limits import RPC_LIMIT

    client = await setup.engine()
    address = client.service_client.config.target_host
    version = (await client.workflow_service.get_system_info(GetSystemInfoRequest())).server_version
    found = f"server {version} at {address}, namespace {client.namespace}"
    try:
        request = DescribeNamespaceRequest(namespace=client.namespace)
        described = await client.workflow_service.describe_namespace(request, timeout=RPC_LIMIT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            told = f"server {version} at {address} has no namespace {client.namespace}"
            return broken("namespace_missing", told, _namespace_command(client), "settings_invalid")
        if error.status is not RPCStatusCode.PERMISSION_DENIED:
            raise
        kept_s = None
    else:
        kept_s = float(described.config.workflow_execution_retention_ttl.seconds)
    findings = [*_of_retention(client, kept_s), *await _of_attributes(client, found)]
    return findings or fine(found)


def _namespace_command(client: "Client") -> str:
    from onetake.engine.cloud import is_cloud

    if is_cloud(client):
        return "Set TEMPORAL_NAMESPACE to NAME.ACCOUNT as Cloud shows it, or make it: tcld namespace create"
    named = f"--namespace {client.namespace} --retention 720h"
    return f"Correct TEMPORAL_NAMESPACE, or run: temporal operator namespace create {named}"


def _of_retention(client: "Client", kept_s: float | None) -> list[Finding]:
    """A history that is gone cannot say what a restored database lacks."""
    from onetake.engine.cloud import is_cloud
    from workflows.options import LATE_WINDOW_S

    if kept_s is None or kept_s >= LATE_WINDOW_S:
        return []
    found = f"{client.namespace} keeps closed runs for {kept_s / 3600:g} h, and a recovery may need them for"
    fix = f"Run: temporal operator namespace update --namespace {client.namespace} --retention 720h"
    if is_cloud(client):
        fix = f"Run: tcld namespace retention set --namespace {client.namespace} --retention-days 30"
    return [broken("retention_short", f"{found} {LATE_WINDOW_S / 3600:g} h", fix, "settings_invalid")]


async def _of_attributes(client: "Client", found: str) -> list[Finding]:
    from temporalio.service import RPCError

    from onetake.engine.temporal import missing_search_attributes, search_attribute_command

    create = f"Run: {search_attribute_command(client)}"
    try:
        missing = await missing_search_attributes(client)
    except Refused as error:
        remove = f"temporal operator search-attribute remove --namespace {client.namespace} --name NAME"
        fix = f"Run: {remove}. Then r{create[1:]}"
        return [broken("search_attribute_type", f"{found}; {error.detail}", fix, "settings_invalid")]
    except RPCError as error:
        if error.status.name in PASSING:
            raise
        told = f"{found}; its search attributes cannot be listed ({error.status.name})"
        return [broken("search_attributes_unreadable", told, create, "usage")]
    if not missing:
        return []
    told = f"{found}; it lacks the search attributes {', '.join(missing)}"
    return [broken("search_attribute_missing", told, create, "settings_invalid")]


async def workers(setup: Setup) -> Finding:
    """Whether every queue has somebody who polls it."""
    polled = await pollers(setup)
    silent = [queue.name for queue, told in polled.items() if not told]
    if silent:
        names = ", ".join(dict.fromkeys(silent))
        fix = "Start `onetake worker` with the role that serves it, or `onetake dev`."
        return broken("queue_without_poller", f"nobody serves {names}", fix, "engine_unavailable")
    return fine(f"served: {', '.join(dict.fromkeys(queue.name for queue in polled))}")


async def pollers(setup: Setup) -> "dict[Queue, list[PollerInfo]]":
    """Who polls each queue of this deployment, as Temporal lists it. Raises RPCError."""
    return await setup.once("pollers", partial(_pollers, setup))


async def _pollers(setup: Setup) -> "dict[Queue, list[PollerInfo]]":
    from onetake.operations.versions import all_queues, pollers_of

    return await pollers_of(await setup.engine(), all_queues(setup.settings.task_queue, setup.keyed))


async def schedule(setup: Setup) -> Finding:
    """Whether the schedule is there, as today's code makes it, not paused, and its run can be read."""
    from temporalio.service import RPCError, RPCStatusCode

    from onetake.engine.schedule import schedule_id_of, schedule_state

    settings = setup.settings
    name = schedule_id_of(settings.task_queue)
    if settings.reconcile_every_s <= 0:
        return absent("schedule_not_wanted", "ONETAKE_RECONCILE_EVERY_S is 0: no worker makes one", BY_HAND)
    client = await setup.engine()
    try:
        state = await schedule_state(client, settings)
        return await of_schedule(client, settings, name, state)
    except RPCError as error:
        if error.status is not RPCStatusCode.PERMISSION_DENIED:
            raise
        refused = f"{name} may not be looked at ({error.status.name})"
        return warning("schedule_unreadable", refused, f"Give the key the right to read schedules. {BY_HAND}")


async def of_schedule(client: "Client", settings: Settings, name: str, state: "ScheduleState | None") -> Finding:
    """What is to be said of the schedule as it was read."""
    from onetake.engine.codec import key_id
    from onetake.engine.payloads import keys_of_run

    if state is None:
        fix = f"Start `onetake worker`, which makes it. {BY_HAND}"
        return broken("schedule_missing", f"there is no {name}", fix, "engine_unavailable")
    if state.paused:
        note = f" ({state.note})" if state.note else ""
        fix = f"Run: temporal schedule toggle --unpause --schedule-id {name} --reason WHY. {BY_HAND}"
        return broken("schedule_paused", f"{name} is paused{note}", fix, "engine_unavailable")
    if not state.is_ours:
        queue = f"; its runs go to the queue {state.task_queue}" if state.task_queue != settings.task_queue else ""
        found = f"{name} is not as this version makes it{queue}"
        return broken("schedule_differs", found, "Restart `onetake worker`, which mends it.", "engine_unavailable")
    if state.run is None:
        fix = "It begins within a minute; if not, look at it in the UI."
        return warning("schedule_without_run", f"{name} is there, and no run goes on", fix)
    if lost := await keys_of_run(client, state.run) - {key_id(key) for key in settings.codec_keys}:
        fix = "Set ONETAKE_CODEC_OLD_KEYS, or restart `onetake worker`, which replaces the run."
        found = f"the run of {name} needs the codec key {', '.join(sorted(lost))}"
        return broken("schedule_key_differs", found, fix, "settings_invalid")
    return fine(f"{name} keeps {state.run} going")


async def runs(setup: Setup) -> Finding:
    """Whether an open run is stuck."""
    from onetake.operations.reconciler import Reconciler

    client, database = await asyncio.gather(setup.engine(), setup.database())
    stuck = await Reconciler(client, database, time_scale=setup.settings.time_scale).stuck()
    if not stuck:
        return fine("none is stuck")
    first = f"{stuck[0].generation_id}: {stuck[0].found}"
    fix = "`onetake replay --history ID` says what differs; deploy the code that can go on, or start workers."
    if "could not read it" in first:
        fix = "Give the media workers more memory and processor time; the clip is read again by itself."
    return broken("runs_stuck", f"{len(stuck)} stuck; {first}", fix, "engine_unavailable")


def named(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return ", ".join(sorted(names))
