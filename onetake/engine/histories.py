"""Recorded histories against today's code: of runs that Temporal keeps, of its open runs, and of exported files."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from temporalio.client import Client, WorkflowHistory
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Replayer

from onetake.core.errors import Refused, TryLater
from onetake.core.ids import is_generation_id
from onetake.core.names import GENERATION_WORKFLOW, RECONCILE_WORKFLOW, RECOVERY_WORKFLOW, SWEEP_WORKFLOW
from onetake.core.settings import Settings, require
from onetake.engine.codec import key_id
from onetake.engine.limits import RPC_LIMIT
from onetake.engine.payloads import keys_of, namespace_of
from onetake.engine.temporal import connect, namespace_in_use, plugin
from onetake.ledger.database import Database
from onetake.ledger.generations import PostgresGenerations
from workflows.generation import Generation
from workflows.reconcile import Reconcile
from workflows.recovery import Recovery
from workflows.sweep import Sweep

WORKFLOWS: Final = (Generation, Recovery, Reconcile, Sweep)
KINDS: Final = (GENERATION_WORKFLOW, RECOVERY_WORKFLOW, RECONCILE_WORKFLOW, SWEEP_WORKFLOW)
LONGEST: Final = 2_000  # characters of a difference
PAGE: Final = 500
SAY_EVERY: Final = 50
_SENTENCE: Final = re.compile(r'message: "((?:[^"\\]|\\.)+)"')
_EVENT: Final = re.compile(r"HistoryEvent\(id: (\d+)")
_RECORDED: Final = re.compile(r"event '([^']+)'")


@dataclass(frozen=True)
class Verdict:
    """How today's code repeats one history. `difference` is the first thing that differs, at the event `event` where
    the engine tells it; None when nothing does."""

    workflow_id: str
    run_id: str
    events: int
    difference: str | None = None
    event: int | None = None


@dataclass(frozen=True)
class OpenRuns:
    """The open runs of a namespace: how many there were, and the verdicts on those that were replayed."""

    found: int
    verdicts: tuple[Verdict, ...]


async def replay_run(settings: Settings, name: str) -> Verdict:
    """Replay a run that Temporal keeps, by the generation's id or the workflow's. Raises Refused, TryLater."""
    workflow_id = await _workflow_id(settings, name)
    engine = await connect(settings)
    history = await _fetched(engine, workflow_id, None)
    if history is None:
        raise Refused("generation_not_found", f"Temporal keeps no run {workflow_id}.")
    return await _replay(settings, history, engine.namespace)


async def replay_files(settings: Settings, path: Path, workflow_id: str | None) -> list[Verdict]:
    """Replay exported histories (JSON of the UI or of `temporal workflow show`): a file, or all `*.json` of a folder.

    Raises Refused(`usage` for what is none, `settings_invalid` for a key of the codec that is not there)."""
    files = await asyncio.to_thread(_files_at, path)
    if not files:
        raise Refused("usage", f"{path} holds no exported history (*.json).")
    histories = [await _read(file, workflow_id) for file in files]
    return [await _replay(settings, each, namespace_of(each.events) or namespace_in_use()) for each in histories]


def _files_at(path: Path) -> list[Path]:
    return sorted(path.rglob("*.json")) if path.is_dir() else [path]


async def replay_open_runs(settings: Settings, sample: int, say: Callable[[str], None]) -> OpenRuns:
    """Replay the open runs of our task queue, of each workflow `sample` at most, spread evenly over all there are; with
    0 all of them.

    A run that closes meanwhile is left out. Raises Refused(`settings_invalid`), TryLater(`engine_unavailable`).
    """
    engine = await connect(settings)
    found, verdicts = 0, list[Verdict]()
    for kind in KINDS:
        query = f"ExecutionStatus = 'Running' AND WorkflowType = '{kind}' AND TaskQueue = '{settings.task_queue}'"
        try:
            number = (await engine.count_workflows(query, rpc_timeout=RPC_LIMIT)).count
            found += number
            async for workflow_id, run_id in _spread(engine, query, number, sample or number):
                history = await _fetched(engine, workflow_id, run_id)
                if history is not None:
                    verdicts.append(await _replay(settings, history, engine.namespace))
                if len(verdicts) % SAY_EVERY == 1:
                    say(f"{kind}: {len(verdicts)} runs replayed")
        except RPCError as error:
            raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None
    return OpenRuns(found, tuple(verdicts))


async def _spread(engine: Client, query: str, number: int, sample: int) -> AsyncIterator[tuple[str, str]]:
    """So many of the runs, evenly in the order of their starts, that old and young ones are among them."""
    taken = 0
    async for place, run in _numbered(engine, query):
        if taken < sample and place * sample >= taken * number:
            taken += 1
            yield run


async def _numbered(engine: Client, query: str) -> AsyncIterator[tuple[int, tuple[str, str]]]:
    place = 0
    async for run in engine.list_workflows(query, page_size=PAGE, rpc_timeout=RPC_LIMIT):
        yield place, (run.id, run.run_id)
        place += 1


async def _fetched(engine: Client, workflow_id: str, run_id: str | None) -> WorkflowHistory | None:
    """A run's history so far; None when Temporal has none."""
    try:
        return await engine.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None


async def _read(path: Path, workflow_id: str | None) -> WorkflowHistory:
    try:
        document: Any = json.loads(await asyncio.to_thread(path.read_text, encoding="utf-8"))
        document = document if "events" in document else document["history"]
        name = workflow_id or _id_in(document)
        return WorkflowHistory.from_json(name, document)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        detail = f"{path} is no exported history, or does not name its workflow: give --workflow-id."
    raise Refused("usage", detail)


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
    _refuse_missing_keys(settings, history)
    replayer = Replayer(workflows=list(WORKFLOWS), plugins=[plugin(settings)], namespace=namespace)
    outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    events = list(history.events)
    said = Verdict(history.workflow_id, history.run_id, len(events))
    if outcome.replay_failure is None:
        return said
    difference = _difference(str(outcome.replay_failure))
    return Verdict(said.workflow_id, said.run_id, said.events, difference, _first_event(difference, events))


def _difference(failure: str) -> str:
    """The engine's own sentence about the first command that differs, out of its dump of the whole failure."""
    found = _SENTENCE.search(failure)
    sentence = found[1].replace("\\'", "'").replace('\\"', '"') if found else failure
    return sentence[:LONGEST]


def _first_event(difference: str, events: Sequence[Any]) -> int | None:
    """The event that a sentence of the engine is about: it has its id, or the name that was recorded in it."""
    if numbered := _EVENT.search(difference):
        return int(numbered[1])
    named = _RECORDED.search(difference)
    return next((int(each.event_id) for each in events if named and f'"{named[1]}"' in str(each)), None)


# -- Keys of the codec -------------------------------------------------------------------------------------------------


def _refuse_missing_keys(settings: Settings, history: WorkflowHistory) -> None:
    """A history that cannot be read is no history that differs. Raises Refused(`settings_invalid`)."""
    known = {key_id(key) for key in settings.codec_keys}
    if missing := sorted(keys_of(history.events) - known):
        lacks = f"ONETAKE_CODEC_KEY and ONETAKE_CODEC_OLD_KEYS lack the key {', '.join(missing)}"
        raise Refused("settings_invalid", f"{lacks}, with which {history.workflow_id} was written.")


def silence_engine() -> None:
    """Keep the SDK's core from writing its own account of a difference to stdout. Before the first client is made."""
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="off"))))
