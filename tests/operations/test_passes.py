"""A pass of the reconciler on real rows, with a Temporal that answers as the test says."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.contracts import GenerationRequest, Reconciled
from onetake.core.errors import TryLater
from onetake.ledger import Database, PostgresGenerations, recoveries
from onetake.ledger.database import connect_once
from onetake.ledger.passes import Passes
from onetake.operations import runs
from onetake.operations.reconciler import Reconciler
from onetake.operations.showing import Showing
from tests.providers.parts import plan_of

Accept = Callable[..., Awaitable[str]]
AcceptMany = Callable[[int], Awaitable[list[str]]]

SETTLED = [("run_closed", "settled")]


@dataclass
class Description:
    status: WorkflowExecutionStatus
    raw_description: DescribeWorkflowExecutionResponse


@dataclass(frozen=True)
class Listed:
    id: str


@dataclass
class Temporal:
    """`states` by workflow id, `errors` by workflow id, what it lists, and what it was asked. Others it knows not."""

    states: dict[str, str] = field(default_factory=dict[str, str])
    errors: dict[str, str] = field(default_factory=dict[str, str])
    listed: list[str] | None = None
    start_says: str = "OK"
    described: list[str] = field(default_factory=list[str])
    canceled: list[str] = field(default_factory=list[str])
    namespace: str = "default"
    data_converter: DataConverter = field(default_factory=DataConverter)
    started: list[str] = field(default_factory=list[str])

    def get_workflow_handle(self, workflow_id: str) -> "Handle":
        return Handle(self, workflow_id)

    async def list_workflows(self, query: str, **_: object) -> AsyncGenerator[Listed]:
        assert query == 'WorkflowType = "Generation" AND ExecutionStatus = "Running"'
        if self.listed is None:
            raise rpc_error("UNIMPLEMENTED")
        for each in self.listed:
            yield Listed(each)

    async def start_workflow(self, *_: object, id: str, **__: object) -> None:  # noqa: A002
        if self.start_says != "OK":
            raise rpc_error(self.start_says)
        self.started.append(id)


@dataclass(frozen=True)
class Handle:
    temporal: Temporal
    id: str

    async def describe(self, **_: object) -> Description:
        temporal = self.temporal
        temporal.described.append(self.id)
        if error := temporal.errors.get(self.id, temporal.errors.get("*")):
            raise rpc_error(error)
        if (state := temporal.states.get(self.id)) is None:
            raise rpc_error("NOT_FOUND")
        raw = DescribeWorkflowExecutionResponse()
        raw.workflow_extended_info.cancel_requested = self.id in temporal.canceled
        return Description(WorkflowExecutionStatus[state], raw)

    async def fetch_history(self) -> WorkflowHistory:
        return WorkflowHistory(self.id, [])

    async def cancel(self, **_: object) -> None:
        self.temporal.canceled.append(self.id)


def rpc_error(status: str) -> RPCError:
    return RPCError("what it said", RPCStatusCode[status], b"")


def reconciler_of(temporal: Temporal, database: Database) -> Reconciler:
    return Reconciler(cast("Client", cast("Any", temporal)), database)


def told(reconciled: Reconciled) -> list[tuple[str, str]]:
    return [(each.kind, each.action) for each in reconciled.findings]


@pytest.fixture
def aged(database: Database) -> Callable[[timedelta], Awaitable[None]]:
    """Let all rows have been accepted so long ago."""

    async def aged(by: timedelta) -> None:
        await database.row("update onetake.generation set created_at = created_at - $1::interval", by)

    return aged


Aged = Callable[[timedelta], Awaitable[None]]


@pytest.fixture
def running(accept: Accept, database: Database, aged: Aged) -> Callable[..., Awaitable[dict[str, str]]]:
    """Accept so many generations whose runs have reached the database; workflow ids by id, the oldest first."""

    async def running(number: int = 1) -> dict[str, str]:
        for _ in range(number):
            await accept()
        await database.row("update onetake.generation set origin_run_id = 'run', status = 'in_progress'")
        await aged(timedelta(minutes=2))
        rows = await database.rows("select id, workflow_id from onetake.generation order by created_at, id")
        return {row["id"]: row["workflow_id"] for row in rows}

    return running


async def test_a_run_that_is_hard_to_read_costs_its_own_row_only(
    database: Database, running: Callable[..., Awaitable[dict[str, str]]]
) -> None:
    hard, gone, fine = (await running(3)).values()
    temporal = Temporal(states={fine: "RUNNING", gone: "FAILED"}, errors={hard: "DEADLINE_EXCEEDED"})
    reconciled = await reconciler_of(temporal, database).run_once()
    assert sorted(told(reconciled)) == [("not_looked_at", "none"), *SETTLED]
    assert reconciled.looked_at == 3


async def test_a_part_that_fails_ends_no_other_and_is_noted_until_a_pass_is_good(
    database: Database, running: Callable[..., Awaitable[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone,) = (await running()).values()
    reconciler = reconciler_of(Temporal(states={gone: "TERMINATED"}), database)

    async def failing(*_: object) -> None:
        raise TryLater("ledger_unavailable", "a slow part")

    with monkeypatch.context() as patched:
        patched.setattr(reconciler, "_go_through_suspense", failing)
        with pytest.raises(TryLater):
            await reconciler.run_once()
    status = await database.answer("select status from onetake.generation")
    last = await Passes(database).last()
    assert status["status"] == "failed"
    assert last is not None
    assert (last.good_at, last.error) == (None, "ledger_unavailable: The database cannot be used. a slow part")
    await reconciler.run_once()
    last = await Passes(database).last()
    assert last is not None
    assert last.error is None
    assert last.age_s is not None
    assert last.age_s < 60


@pytest.mark.parametrize("error", [TryLater("ledger_unavailable", "a slow sum"), ValueError("a gauge")])
async def test_gauges_that_cannot_be_set_fail_no_pass(
    database: Database,
    running: Callable[..., Awaitable[dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    (gone,) = (await running()).values()

    async def failing(_: Showing) -> None:
        raise error

    monkeypatch.setattr(Showing, "show", failing)
    assert told(await reconciler_of(Temporal(states={gone: "FAILED"}), database).run_once()) == SETTLED
    last = await Passes(database).last()
    assert last is not None
    assert last.error is None
    assert last.good_at is not None


async def test_a_temporal_that_answers_nobody_ends_the_pass_instead_of_asking_for_each(
    database: Database, running: Callable[..., Awaitable[dict[str, str]]]
) -> None:
    await running(60)
    temporal = Temporal(errors={"*": "UNAVAILABLE"})
    with pytest.raises(TryLater) as caught:
        await reconciler_of(temporal, database).run_once()
    assert caught.value.code == "engine_unavailable"
    assert len(temporal.described) <= 60


async def test_many_runs_are_listed_and_described_in_turn(
    database: Database, running: Callable[..., Awaitable[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST_LOOKS", 4)
    ids = list((await running(10)).values())
    temporal = Temporal(states=dict.fromkeys(ids, "RUNNING"), listed=ids)
    reconciler = reconciler_of(temporal, database)
    for turn in (ids[:4], ids[4:8], ids[8:], ids[:4]):
        temporal.described.clear()
        assert (await reconciler.run_once()).looked_at == 10
        assert sorted(temporal.described) == sorted(turn)


async def test_a_run_that_the_list_lacks_is_described_before_anything_is_ended(
    database: Database, running: Callable[..., Awaitable[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST_LOOKS", 1)
    *ids, late, gone = (await running(6)).values()
    temporal = Temporal(states={**dict.fromkeys([*ids, late], "RUNNING"), gone: "COMPLETED"}, listed=ids)
    assert told(await reconciler_of(temporal, database).run_once()) == SETTLED
    assert {late, gone} <= set(temporal.described)


async def test_without_a_list_every_run_is_described(
    database: Database, running: Callable[..., Awaitable[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST_LOOKS", 1)
    ids = list((await running(3)).values())
    temporal = Temporal(states=dict.fromkeys(ids, "RUNNING"), listed=None)
    await reconciler_of(temporal, database).run_once()
    assert sorted(temporal.described) == sorted(ids)


async def test_a_noted_cancellation_is_delivered_once(
    database: Database, generations: PostgresGenerations, running: Callable[..., Awaitable[dict[str, str]]]
) -> None:
    """The client died between its note and its request, or Temporal refused the request."""
    ((generation_id, workflow_id),) = (await running()).items()
    await generations.mark_cancel_requested(generation_id)
    temporal = Temporal(states={workflow_id: "RUNNING"})
    reconciler = reconciler_of(temporal, database)
    assert told(await reconciler.run_once(dry_run=True)) == [("cancel_undelivered", "canceled")]
    assert temporal.canceled == []
    assert told(await reconciler.run_once()) == [("cancel_undelivered", "canceled")]
    assert told(await reconciler.run_once()) == []
    assert temporal.canceled == [workflow_id]


async def test_a_noted_cancellation_is_delivered_among_very_many_runs(
    database: Database,
    generations: PostgresGenerations,
    running: Callable[..., Awaitable[dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "MOST_LOOKS", 1)
    rows = await running(5)
    (*_, (generation_id, workflow_id)) = rows.items()
    await generations.mark_cancel_requested(generation_id)
    temporal = Temporal(states=dict.fromkeys(rows.values(), "RUNNING"), listed=list(rows.values()))
    await reconciler_of(temporal, database).run_once()
    assert temporal.canceled == [workflow_id]


@pytest.fixture
def keyed(generations: PostgresGenerations, aged: Aged) -> Callable[[timedelta], Awaitable[str]]:
    """A row with a key whose start was cut off so long ago; its workflow id."""

    async def keyed(ago: timedelta) -> str:
        request = GenerationRequest(
            route="apixo/wan-2.6/text-to-video", prompt="a fox", tenant="acme", idempotency_key="k-1"
        )
        workflow_id = "gen/acme/gen_01890000-0000-7000-8000-000000000001"
        await generations.accept_once(request, workflow_id=workflow_id, plan=plan_of(request))
        await aged(ago)
        return workflow_id

    return keyed


async def test_a_start_that_temporal_never_takes_is_given_up_after_an_hour(
    database: Database, keyed: Callable[[timedelta], Awaitable[str]], aged: Aged
) -> None:
    await keyed(timedelta(minutes=30))
    reconciler = reconciler_of(Temporal(start_says="INVALID_ARGUMENT"), database)
    assert told(await reconciler.run_once()) == [("never_started", "none")]
    await aged(timedelta(minutes=31))
    assert told(await reconciler.run_once()) == [("never_started", "expired")]
    assert told(await reconciler.run_once()) == []


@pytest.mark.parametrize("says", ["RESOURCE_EXHAUSTED", "PERMISSION_DENIED"])
async def test_a_start_that_may_yet_be_taken_is_not_given_up(
    database: Database, keyed: Callable[[timedelta], Awaitable[str]], says: str
) -> None:
    workflow_id = await keyed(timedelta(hours=5))
    temporal = Temporal(start_says=says)
    reconciler = reconciler_of(temporal, database)
    assert told(await reconciler.run_once()) == [("never_started", "none")]
    temporal.start_says = "OK"
    assert told(await reconciler.run_once()) == [("never_started", "started")]
    assert temporal.started == [workflow_id]


async def test_a_row_that_no_program_can_read_is_given_up_after_an_hour(
    database: Database, accept_many: AcceptMany, aged: Aged
) -> None:
    await accept_many(1)
    await aged(timedelta(minutes=30))
    reconciler = reconciler_of(Temporal(), database)
    assert told(await reconciler.run_once()) == [("never_started", "none")]
    await aged(timedelta(minutes=31))
    assert told(await reconciler.run_once()) == [("never_started", "expired")]


# Each statement of a pass: its values, the table that may be long, and the indexes that it finds its rows there by.
PLANS = {
    "open rows": ("_OPEN", (timedelta(0), None, "", 500), "generation", ["generation_open"]),
    "amounts in suspense": ("_SUSPENDED", ("", 500, None), "hold", ["hold_suspended"]),
    "runs that Temporal must know": ("_KNOWN_RUNS", (16,), "generation", ["generation_ended", "generation_open"]),
}

_OTHER_INDEXES = """
select case when c.conname is null then format('drop index onetake.%I', n.relname)
       else format('alter table onetake.%I drop constraint %I cascade', $1::text, c.conname) end as drop
from pg_index i join pg_class n on n.oid = i.indexrelid
left join pg_constraint c on c.conindid = i.indexrelid and c.conrelid = i.indrelid
where i.indrelid = format('onetake.%I', $1::text)::regclass and n.relname <> all ($2::text[])
"""


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("statement", "values", "table", "indexes"), PLANS.values(), ids=PLANS)
async def test_what_a_pass_reads_is_found_by_an_index_of_its_own(
    database_url: str, statement: str, values: tuple[object, ...], table: str, indexes: list[str]
) -> None:
    session = await connect_once(database_url)
    try:
        # Which of several indexes PostgreSQL takes hangs on how long it thinks the tables are. Without the others it
        # takes these wherever they serve.
        for row in await session.fetch(_OTHER_INDEXES, table, indexes):
            await session.execute(row["drop"])
        await session.execute("set enable_seqscan = off")
        rows = await session.fetch(f"explain {getattr(recoveries, statement)}", *values)
        plan = "\n".join(row["QUERY PLAN"] for row in rows)
        assert [index for index in indexes if not re.search(rf"\b{index}\b", plan)] == [], plan
        assert f"Seq Scan on {table} " not in plan
    finally:
        await session.close()
