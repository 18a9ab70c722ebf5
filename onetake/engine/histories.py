"""Recorded histories against today's code: from Temporal, or from a file that its tools exported."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

from temporalio.client import WorkflowHistory
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from onetake.core.errors import Refused, TryLater
from onetake.core.ids import is_generation_id
from onetake.core.settings import Settings, require
from onetake.engine.temporal import connect, namespace_in_use, plugin
from onetake.ledger.database import Database
from onetake.ledger.generations import PostgresGenerations
from workflows.generation import Generation
from workflows.reconcile import Reconcile
from workflows.recovery import Recovery

WORKFLOWS: Final = (Generation, Recovery, Reconcile)
LONGEST: Final = 2_000  # characters of a difference
_SENTENCE: Final = re.compile(r'message: "((?:[^"\\]|\\.)+)"')

Verdict = tuple[str, int, str | None]
"""The workflow's id, how many events its history has, and the first thing that differs."""


async def replay_run(settings: Settings, name: str) -> Verdict:
    """Replay a run that Temporal keeps, by the generation's id or the workflow's. Raises Refused, TryLater."""
    workflow_id = await _workflow_id(settings, name)
    engine = await connect(settings)
    try:
        history = await engine.get_workflow_handle(workflow_id).fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise Refused("generation_not_found", f"Temporal keeps no run {workflow_id}.") from None
        raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None
    return await _replay(settings, history, engine.namespace)


async def replay_file(settings: Settings, path: Path, workflow_id: str | None) -> Verdict:
    """Replay an exported history (JSON of the UI or of `temporal workflow show`). Raises Refused(`usage`)."""
    try:
        document: Any = json.loads(await asyncio.to_thread(path.read_text, encoding="utf-8"))
        document = document if "events" in document else document["history"]
        name = workflow_id or _id_in(document)
        history = WorkflowHistory.from_json(name, document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        detail = f"{path} is no exported history, or does not name its workflow: give --workflow-id."
        raise Refused("usage", detail) from None
    return await _replay(settings, history, namespace_in_use())


def _id_in(document: Any) -> str:
    return str(document["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"])


async def _workflow_id(settings: Settings, name: str) -> str:
    if not is_generation_id(name):
        return name
    require(settings, "database_url")
    database = await Database.connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        record = await PostgresGenerations(database).get(name)
    finally:
        await database.close()
    if record is None:
        raise Refused("generation_not_found")
    return record.workflow_id


async def _replay(settings: Settings, history: WorkflowHistory, namespace: str) -> Verdict:
    replayer = Replayer(workflows=list(WORKFLOWS), plugins=[plugin(settings)], namespace=namespace)
    outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    difference = _difference(str(outcome.replay_failure)) if outcome.replay_failure else None
    return history.workflow_id, len(list(history.events)), difference


def _difference(failure: str) -> str:
    """The engine's own sentence about the first command that differs, out of its dump of the whole failure."""
    found = _SENTENCE.search(failure)
    sentence = found[1].replace("\\'", "'").replace('\\"', '"') if found else failure
    return sentence[:LONGEST]


def silence_engine() -> None:
    """Keep the SDK's core from writing its own account of a difference to stdout. Before the first client is made."""
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="off"))))
