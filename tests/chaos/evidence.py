"""Everything that a run left behind, read once from its sources, so that the invariants are plain functions over it.

The sources are the database, the simulator's journal, the bucket, every history, the logs, and what was watched while
the run was on. Nothing here judges.
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from minio import Minio
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowHistory

from onetake.core.contracts import GenerationRequest, Plan
from onetake.ledger.database import Database
from onetake.ledger.invariants import violations
from tests.system.harness import Stack

_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Generation:
    """One generation's row."""

    id: str
    tenant: str
    workflow_id: str
    vendor: str
    status: str
    phase: str
    error_code: str | None
    basis: str
    vendor_task_id: str | None
    request: GenerationRequest
    plan: Plan | None
    assets: Sequence[Mapping[str, Any]]
    created_at: float
    ended_at: float | None

    @property
    def prompt_sha256(self) -> str:
        return hashlib.sha256(self.request.prompt.encode()).hexdigest()


@dataclass(frozen=True)
class Hold:
    generation_id: str
    amount_micros: int
    state: Literal["held", "posted", "released", "suspended"]
    actual_micros: int | None
    window_ids: Sequence[int]
    price_version: str
    created_at: float

    @property
    def booked_micros(self) -> int:
        """What counts as spent: posted with its overrun, or in suspense."""
        return self.amount_micros if self.state == "suspended" else self.actual_micros or 0


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    id: int
    generation_id: str
    kind: str
    amount_micros: int
    available_micros: Sequence[int]
    at: float


@dataclass(frozen=True)
class Intent:
    """One submission row. `claims`: the ids that callbacks with its tokens have named."""

    generation_id: str
    vendor: str
    state: str
    vendor_task_id: str | None
    posts: int
    sent_at: float
    claims: Sequence[str] = ()


@dataclass(frozen=True)
class Change:
    """One update of a generation's row, in order."""

    generation_id: str
    from_status: str
    to_status: str
    from_phase: int
    to_phase: int


@dataclass(frozen=True)
class Correction:
    generation_id: str
    from_status: str
    to_status: str


@dataclass(frozen=True)
class Stored:
    """An object as the bucket holds it, read to its last byte."""

    key: str
    sha256: str
    size_bytes: int
    content_type: str


@dataclass(frozen=True)
class Run:
    """One workflow execution with its history."""

    workflow_id: str
    run_id: str
    kind: str
    status: str
    started_at: float
    events: int
    raw: bytes = field(repr=False)
    replay_failure: str | None = None


@dataclass(frozen=True)
class Answer:
    """What the gateway answered to something that was sent there on purpose."""

    sent: str
    status: int
    body: bytes


@dataclass(frozen=True)
class Repeat:
    """What one start with an idempotency key was told."""

    tenant: str
    key: str
    told: str


@dataclass
class Seen:
    """What was watched while the run was on."""

    etags: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    vanished: set[str] = field(default_factory=set[str])
    commands: set[str] = field(default_factory=set[str])
    answers: list[Answer] = field(default_factory=list[Answer])
    repeats: list[Repeat] = field(default_factory=list[Repeat])
    deaths: Counter[str] = field(default_factory=Counter[str])
    calm: set[str] = field(default_factory=set[str])


@dataclass(frozen=True)
class Evidence:
    """All of it, as of `taken_at` (Unix seconds). `time_scale` is the run's; times are not scaled back."""

    taken_at: float
    time_scale: float
    generations: Sequence[Generation] = ()
    holds: Sequence[Hold] = ()
    journal: Sequence[Entry] = ()
    intents: Sequence[Intent] = ()
    changes: Sequence[Change] = ()
    corrections: Sequence[Correction] = ()
    limits: Mapping[int, int] = field(default_factory=dict[int, int])
    ledger: Sequence[str] = ()
    rows: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    submits: Sequence[Mapping[str, Any]] = ()
    jobs: Sequence[Mapping[str, Any]] = ()
    objects: Sequence[Stored] = ()
    uploads: Sequence[str] = ()
    spool: Sequence[str] = ()
    runs: Sequence[Run] = ()
    logs: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    prompt: str = ""
    connects: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    before_second_pass: Sequence[str] = ()
    after_second_pass: Sequence[str] = ()
    prices: Mapping[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    seen: Seen = field(default_factory=Seen)

    def hold_of(self, generation_id: str) -> Hold | None:
        return next((hold for hold in self.holds if hold.generation_id == generation_id), None)

    def intent_of(self, generation_id: str) -> Intent | None:
        return next((intent for intent in self.intents if intent.generation_id == generation_id), None)

    def jobs_of(self, generation: Generation) -> list[Mapping[str, Any]]:
        """The jobs in the vendor's journal that this generation's prompt has made."""
        return [job for job in self.jobs if job["prompt_sha256"] == generation.prompt_sha256]


# -- The database ------------------------------------------------------------------------------------------------------

AUDIT: Final = """
create schema chaos;
create table chaos.change (id bigint generated always as identity, generation_id text, from_status text, to_status text,
    from_phase onetake.phase, to_phase onetake.phase);
create function chaos.note() returns trigger language plpgsql as $$ begin
    insert into chaos.change (generation_id, from_status, to_status, from_phase, to_phase)
    values (new.id, old.status, new.status, old.phase, new.phase);
    return null;
end $$;
create trigger note_change after update on onetake.generation for each row
    when (old.status <> new.status or old.phase <> new.phase) execute function chaos.note();
"""

_GENERATIONS: Final = """
select id, tenant, workflow_id, vendor, status, phase, error ->> 'code' as error_code, basis,
       vendor_task_id, request::text as request, plan::text as plan, assets::text as assets, created_at, ended_at
from onetake.generation order by id
"""
_INTENTS: Final = """
select s.generation_id, s.vendor, s.state, s.vendor_task_id, s.posts, s.sent_at,
       array(select distinct i.claimed_task_id from onetake.callback_inbox i join onetake.callback_token t
             using (token_sha256) where t.generation_id = s.generation_id and i.claimed_task_id is not null) as claims
from onetake.submission s
"""
_CHANGES: Final = """
select generation_id, from_status, to_status, array_position(enum_range(null::onetake.phase), from_phase) as from_phase,
       array_position(enum_range(null::onetake.phase), to_phase) as to_phase
from chaos.change order by id
"""


async def of_database(database: Database) -> dict[str, Any]:
    """The parts of the evidence that the database holds."""
    holds = await database.rows(
        """select generation_id, amount_micros, state, actual_micros, window_ids, price_version, created_at
        from onetake.hold"""
    )
    journal = await database.rows(
        "select id, generation_id, kind, amount_micros, available_micros, at from onetake.event order by id"
    )
    windows = await database.rows("select id, limit_micros from onetake.budget_window")
    corrections = await database.rows("select generation_id, from_status, to_status from onetake.correction")
    return {
        "generations": [_generation(dict(row)) for row in await database.rows(_GENERATIONS)],
        "holds": [Hold(**_timed(row)) for row in holds],
        "journal": [Entry(**_timed(row)) for row in journal],
        "intents": [Intent(**_timed(row)) for row in await database.rows(_INTENTS)],
        "changes": [Change(**dict(row)) for row in await database.rows(_CHANGES)],
        "corrections": [Correction(**dict(row)) for row in corrections],
        "limits": {row["id"]: row["limit_micros"] for row in windows},
        "ledger": await violations(database),
        "rows": {table: await _text_of(database, table) for table in await _tables(database)},
    }


async def _tables(database: Database) -> list[str]:
    rows = await database.rows("select tablename from pg_tables where schemaname = 'onetake'")
    return [row["tablename"] for row in rows]


async def _text_of(database: Database, table: str) -> bytes:
    """A table as text. A generation's row holds the request, and so the prompt, by design: it is left out."""
    whole = "to_jsonb(t) - 'request'" if table == "generation" else "to_jsonb(t)"
    rows = await database.rows(f"select ({whole})::text as line from onetake.{table} t")
    return "\n".join(row["line"] for row in rows).encode()


async def journal_of(database: Database) -> list[str]:
    """What the reconciler may change, as lines to compare: the journal, the ends, the intents and the corrections."""
    lines = await database.rows(
        """select 'event ' || id || generation_id || kind || amount_micros as line from onetake.event
        union all select 'end ' || id || status || phase || assets from onetake.generation
        union all select 'intent ' || generation_id || state from onetake.submission
        union all select 'correction ' || generation_id from onetake.correction order by line"""
    )
    return [row["line"] for row in lines]


def _generation(row: dict[str, Any]) -> Generation:
    row["request"] = GenerationRequest.model_validate_json(row["request"])
    row["plan"] = Plan.model_validate_json(row["plan"]) if row["plan"] else None
    row["assets"] = json.loads(row["assets"])
    return Generation(**_timed(row))


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.timestamp() if isinstance(value, datetime) else value for name, value in row.items()}


# -- The bucket --------------------------------------------------------------------------------------------------------


def bucket_of(stack: Stack) -> tuple[Minio, str]:
    """A client of the test's own, and the bucket's name."""
    settings = stack.settings()
    client = Minio(
        endpoint=settings.s3_endpoint.removeprefix("http://"),
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=settings.s3_secure,
        region=settings.s3_region,
    )
    return client, settings.s3_bucket


def of_bucket(stack: Stack) -> list[Stored]:
    """Every object, read whole."""
    client, bucket = bucket_of(stack)
    return [_stored(client, bucket, str(found.object_name)) for found in client.list_objects(bucket, recursive=True)]


def _stored(client: Minio, bucket: str, key: str) -> Stored:
    with client.get_object(bucket_name=bucket, object_name=key) as answer:
        body: bytes = answer.read()
        kind = answer.headers.get("content-type", "")
    return Stored(key, hashlib.sha256(body).hexdigest(), len(body), kind)


def etags_of(stack: Stack) -> dict[str, str]:
    """Each key with what identifies its present version."""
    client, bucket = bucket_of(stack)
    found = client.list_objects(bucket, recursive=True)
    return {str(each.object_name): f"{each.etag} {each.last_modified}" for each in found}


# -- Temporal ----------------------------------------------------------------------------------------------------------


async def histories_of(engine: Client) -> list[tuple[WorkflowExecution, WorkflowHistory]]:
    """Every execution with its whole history."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(execution: WorkflowExecution) -> tuple[WorkflowExecution, WorkflowHistory]:
        async with gate:
            handle = engine.get_workflow_handle(execution.id, run_id=execution.run_id)
            return execution, await handle.fetch_history()

    return await asyncio.gather(*[one(execution) async for execution in engine.list_workflows()])


def run_of(execution: WorkflowExecution, history: WorkflowHistory, replay_failure: str | None) -> Run:
    status = execution.status or WorkflowExecutionStatus.RUNNING
    return Run(
        workflow_id=execution.id,
        run_id=execution.run_id,
        kind=execution.workflow_type,
        status=status.name.lower(),
        started_at=execution.start_time.timestamp(),
        events=len(history.events),
        raw=b"".join(event.SerializeToString() for event in history.events),
        replay_failure=replay_failure,
    )


# -- This machine ------------------------------------------------------------------------------------------------------


def logs_of(home: Path) -> dict[str, bytes]:
    """The logs of our own parts; the servers' own say what they like."""
    servers = {"postgres", "temporal", "s3"}
    paths = [path for path in (home / "logs").glob("*.log") if path.name.partition(".")[0] not in servers]
    return {path.name: path.read_bytes() for path in paths}


def commands_of(groups: set[int]) -> set[str]:
    """The command lines of all processes of these process groups, as `ps` shows them to everybody."""
    commands: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            if group in groups:
                commands.add((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return commands
