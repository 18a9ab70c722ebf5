"""What a failover took of runs is written from their histories, which are recorded ones, with or without an end."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.contracts import GenerationRecord, Restored, RestoreInput
from onetake.core.errors import TryLater
from onetake.core.settings import Settings
from onetake.engine.temporal import data_converter
from onetake.engine.told import Told, told_by
from onetake.ledger import Database, Epochs, PostgresGenerations
from onetake.ledger.invariants import violations
from onetake.operations import failover
from onetake.operations.failover import AfterFailover, known_by
from onetake.operations.reconciler import Reconciler
from tests.replay.record import HISTORIES
from tests.replay.stories import CODEC_KEY

COMPLETED, FAILED = "finished-by-polling", "render-failed"


@dataclass
class Temporal:
    """Has the run of each story under the id it was written for, in this state."""

    states: dict[str, str] = field(default_factory=dict[str, str])
    namespace: str = "default"
    data_converter: DataConverter = field(
        default_factory=lambda: data_converter(Settings.model_validate({"codec_key": CODEC_KEY}))
    )
    histories: dict[str, WorkflowHistory] = field(default_factory=dict[str, WorkflowHistory])

    def add(self, story: str, state: str) -> str:
        history = json.loads((HISTORIES / f"{story}.json").read_text(encoding="utf-8"))
        workflow_id = history["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"]
        self.histories[workflow_id] = WorkflowHistory.from_json(workflow_id, history)
        self.states[workflow_id] = state
        return workflow_id

    @property
    def client(self) -> Client:
        return cast("Client", cast("Any", self))

    def get_workflow_handle(self, workflow_id: str) -> "Handle":
        return Handle(self, workflow_id)

    def list_workflows(self, *_: object, **__: object) -> "Listing":
        return Listing([Described(each, WorkflowExecutionStatus[state]) for each, state in self.states.items()])


@dataclass(frozen=True)
class Described:
    id: str
    status: WorkflowExecutionStatus
    raw_description: DescribeWorkflowExecutionResponse = field(default_factory=DescribeWorkflowExecutionResponse)


@dataclass(frozen=True)
class Handle:
    temporal: Temporal
    id: str

    async def describe(self, **_: object) -> Described:
        return Described(self.id, WorkflowExecutionStatus[self.temporal.states.get(self.id, "RUNNING")])

    async def fetch_history(self) -> WorkflowHistory:
        if self.id not in self.temporal.histories:
            raise RPCError("it has forgotten it", RPCStatusCode.NOT_FOUND, b"")
        return self.temporal.histories[self.id]


@dataclass
class Listing:
    current_page: list[Described]
    next_page_token: bytes | None = None

    async def fetch_next_page(self, **_: object) -> None: ...


async def told_before(client: Client, workflow_id: str) -> Told:
    """What a run tells that was recorded on a database which has failed over since."""
    told = await told_by(client, workflow_id)
    return replace(told, reserved=told.reserved and told.reserved.model_copy(update={"epoch": "1-1"}))


@pytest.fixture
def temporal(monkeypatch: pytest.MonkeyPatch) -> Temporal:
    monkeypatch.setattr(failover, "told_by", told_before)
    return Temporal()


Opened = Callable[[str], Awaitable[str]]


@pytest.fixture
def opened(database: Database, temporal: Temporal) -> Opened:
    """Write all of a run but its end, long ago; the generation's id."""

    async def opened(workflow_id: str) -> str:
        order = known_by(workflow_id, await told_before(temporal.client, workflow_id))
        assert order is not None
        await Epochs(database).restore(order)
        await database.row("update onetake.generation set created_at = created_at - $1::interval", timedelta(hours=1))
        return order.generation_id

    return opened


async def record_of(database: Database, generation_id: str) -> GenerationRecord:
    record = await PostgresGenerations(database).get(generation_id)
    assert record is not None
    return record


@pytest.mark.parametrize(
    ("story", "state", "status", "code"),
    [(COMPLETED, "COMPLETED", "completed", None), (FAILED, "FAILED", "failed", "vendor_failed")],
)
async def test_a_closed_run_whose_settlement_is_lost_ends_as_it_was_answered(
    database: Database, temporal: Temporal, opened: Opened, story: str, state: str, status: str, code: str | None
) -> None:
    workflow_id = temporal.add(story, state)
    generation_id = await opened(workflow_id)
    told = await told_by(temporal.client, workflow_id)
    assert told.result is not None
    (finding,) = (await Reconciler(temporal.client, database).run_once()).findings
    assert (finding.kind, finding.action) == ("run_closed", "settled")
    record = await record_of(database, generation_id)
    assert (record.status, record.error and record.error.code) == (status, code)
    assert (record.assets, record.cost) == (told.result.assets, told.result.cost)
    assert await violations(database) == []


@pytest.mark.parametrize(("state", "code"), [("TERMINATED", "terminated_by_operator"), ("TIMED_OUT", "run_lost")])
async def test_a_run_that_tells_no_end_is_lost(
    database: Database, temporal: Temporal, opened: Opened, state: str, code: str
) -> None:
    workflow_id = temporal.add(COMPLETED, state)
    generation_id = await opened(workflow_id)
    history = temporal.histories[workflow_id]
    temporal.histories[workflow_id] = WorkflowHistory(workflow_id, history.events[:5])
    await Reconciler(temporal.client, database).run_once()
    record = await record_of(database, generation_id)
    assert record.error is not None
    assert record.error.code == code


async def test_a_closed_run_whose_history_cannot_be_read_is_left(
    database: Database, temporal: Temporal, opened: Opened
) -> None:
    workflow_id = temporal.add(COMPLETED, "COMPLETED")
    generation_id = await opened(workflow_id)
    del temporal.histories[workflow_id]
    (finding,) = (await Reconciler(temporal.client, database).run_once()).findings
    assert (finding.kind, finding.action) == ("run_closed", "none")
    assert (await record_of(database, generation_id)).status == "in_progress"


async def test_a_reported_cost_of_nothing_is_written_again_as_nothing(
    database: Database, temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = temporal.add(COMPLETED, "COMPLETED")
    told = await told_before(temporal.client, workflow_id)
    assert told.result is not None
    free = told.result.cost.model_copy(update={"settled_micros": 0, "basis": "vendor_reported"})

    async def told_free(*_: object) -> Told:
        return replace(told, result=told.result and told.result.model_copy(update={"cost": free}))

    monkeypatch.setattr(failover, "told_by", told_free)
    await AfterFailover(temporal.client, database).run_once()
    assert (await record_of(database, told.result.id)).cost == free
    assert await violations(database) == []


async def test_one_run_that_cannot_be_written_costs_no_other(
    database: Database, temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    hard, fine = temporal.add(FAILED, "FAILED"), temporal.add(COMPLETED, "COMPLETED")
    restore = Epochs.restore

    async def restored(self: Epochs, order: RestoreInput) -> Restored:
        if order.workflow_id == hard:
            raise TryLater("ledger_unavailable", "a check")
        return await restore(self, order)

    monkeypatch.setattr(Epochs, "restore", restored)
    findings = (await AfterFailover(temporal.client, database).run_once()).findings
    assert [each.action for each in findings] == ["none", "restored"]
    assert "ledger_unavailable" in findings[0].found
    rows = await database.rows("select workflow_id from onetake.generation")
    assert [row["workflow_id"] for row in rows] == [fine]


async def test_a_run_that_waits_for_its_reservation_lacks_nothing(database: Database, temporal: Temporal) -> None:
    workflow_id = temporal.add(COMPLETED, "RUNNING")
    whole = temporal.histories[workflow_id]
    temporal.histories[workflow_id] = WorkflowHistory(workflow_id, await _until_reserved(temporal, workflow_id))
    for dry_run in (True, False):
        assert len((await AfterFailover(temporal.client, database).run_once(dry_run=dry_run)).findings) == 1
    for dry_run in (True, False):
        assert (await AfterFailover(temporal.client, database).run_once(dry_run=dry_run)).findings == ()
    temporal.histories[workflow_id] = whole
    (finding,) = (await AfterFailover(temporal.client, database).run_once(dry_run=True)).findings
    assert finding.found == "its records are incomplete"


async def _until_reserved(temporal: Temporal, workflow_id: str) -> list[Any]:
    """The events before the one that told of the reservation."""
    whole = temporal.histories[workflow_id].events
    for number in range(len(whole) + 1):
        temporal.histories[workflow_id] = WorkflowHistory(workflow_id, whole[:number])
        if (await told_by(temporal.client, workflow_id)).reserved is not None:
            return list(whole[: number - 1])
    raise AssertionError


async def test_a_run_that_a_plain_client_started_with_bytes_costs_no_other_its_mending(database: Database) -> None:
    temporal = Temporal()
    foreign, ours = temporal.add(FAILED, "FAILED"), temporal.add(COMPLETED, "COMPLETED")
    (payload,) = temporal.histories[foreign].events[0].workflow_execution_started_event_attributes.input.payloads
    payload.metadata.clear()
    payload.metadata["encoding"] = b"binary/plain"
    findings = (await AfterFailover(temporal.client, database).run_once()).findings
    told = {each.found.partition(":")[0]: each.action for each in findings}
    assert told[foreign] == "none"
    assert ours not in told, "it has an id of its own"
    assert [each.action for each in findings].count("restored") == 1
