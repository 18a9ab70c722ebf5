"""A job that is known is never dropped: the real workflow on a real Temporal, with activities that are made up."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from onetake.core import names
from onetake.core.contracts import (
    GenerationResult,
    Message,
    Persisted,
    Plan,
    RecordInput,
    Recovered,
    RecoveryCase,
    RecoveryRequest,
    Reserved,
    StatusReading,
    Submission,
    SubmitInput,
    SubmitTries,
    Validated,
    WakeSignal,
)
from onetake.core.errors import Failed, TryLater
from onetake.core.settings import Settings
from onetake.dev.devstack.temporal_server import register_search_attributes
from onetake.engine.temporal import connect
from tests.providers.parts import PROMPT, plan_of, request_for
from tests.servers import Servers
from tests.workflows.test_delivered import asset
from workflows import options
from workflows.generation import Generation
from workflows.outcomes import learned_by
from workflows.recovery import Recovery

TASK_ID = "task-1"
AWAY = 3  # tries for which the ledger stays away


@pytest.fixture(scope="module")
def at(servers: Servers) -> tuple[str, str]:
    environ = servers.of_ones_own("known-jobs")
    register_search_attributes(names.SearchAttribute.ALL, environ)
    return environ["TEMPORAL_ADDRESS"], environ["TEMPORAL_NAMESPACE"]


@pytest.fixture
async def client(at: tuple[str, str]) -> Client:
    return await connect(Settings(insecure_plaintext_history=True), address=at[0], namespace=at[1])


@pytest.fixture
async def unsandboxed(at: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client whose workers' workflows see what a test has patched."""
    monkeypatch.setattr("onetake.engine.temporal.sandbox", UnsandboxedWorkflowRunner)
    return await connect(Settings(insecure_plaintext_history=True), address=at[0], namespace=at[1])


class MadeUp:
    """A vendor and a ledger. `answers` is what the submission ends with."""

    def __init__(self, plan: Plan, answers: Submission) -> None:
        self.plan = plan
        self.answers = answers
        self.records: list[RecordInput] = []
        self.resolved = 0
        self.settled: Any = None
        self.corrected: Any = None
        self.vendor_knows = True
        self.turnless = ""  # the read that the ledger gives no turn
        self.readings: list[Any] = []  # what reads answer before the job is done: an error, or a reading; None hangs

    def activities(self) -> list[Callable[..., Any]]:
        known: dict[str, Callable[..., Any]] = {
            names.VALIDATE: _always(Validated(generation_id="gen_1", plan=self.plan)),
            names.RESERVE: _always(Reserved(amount_micros=1, budgets=0)),
            "apixo.submit": _always(self.answers),
            "apixo.resolve": self._resolve,
            "apixo.read_status": self._read_status,
            names.EXAMINE: self._examine,
            names.CORRECT: self._correct,
            names.RECORD: self._record,
            names.PERSIST: self._persist,
            names.SETTLE: self._settle,
        }
        return [_activity(name, answer) for name, answer in known.items()]

    def _record(self, order: dict[str, Any]) -> Submission:
        self.records.append(RecordInput.model_validate(order))
        if len(self.records) <= AWAY:
            raise TryLater("ledger_unavailable", after_s=0.05)
        return self.records[-1].submission.model_copy(update={"unrecorded": False})

    async def _read_status(self, _: object) -> StatusReading:
        assert self.vendor_knows
        if activity.info().activity_id == self.turnless:
            raise TryLater("ledger_unavailable", after_s=0.5)
        if self.readings:
            said = self.readings.pop(0)
            if said is None:
                await asyncio.sleep(60)
            if isinstance(said, Exception):
                raise said
            return StatusReading.model_validate(said)
        return StatusReading(state="succeeded", vendor_state="done")

    def _examine(self, _: object) -> RecoveryCase:
        kept = {"vendor_task_id": TASK_ID, "hold": "posted", "is_kept": True}
        return RecoveryCase.model_validate(
            {"generation_id": "gen_1", "attempt": 1, "tenant": "acme", "plan": self.plan, **kept}
        )

    def _correct(self, order: dict[str, Any]) -> Recovered:
        self.corrected = order
        return Recovered(changed=True)

    def _resolve(self, _: object) -> Submission:
        self.resolved += 1
        return Submission(state="ambiguous")

    def _persist(self, _: object) -> Persisted:
        reading = StatusReading(state="succeeded", vendor_state="done")
        return Persisted(reading=reading, assets=(asset(self.plan.duration_s),), manifest_key="m")

    def _settle(self, order: dict[str, Any]) -> GenerationResult:
        self.settled = order
        return GenerationResult(
            id="gen_1", status=order["status"], phase="done", route=self.plan.route, workflow_id="w"
        )


def _always(answer: Message) -> Callable[..., Message]:
    return lambda *_: answer


def _activity(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
    @activity.defn(name=name)
    async def call(order: dict[str, Any]) -> Any:
        answered = answer(order)
        return await answered if inspect.isawaitable(answered) else answered

    return call


@asynccontextmanager
async def playing(
    client: Client, answers: Submission, *, media: bool = True, **planned: object
) -> AsyncGenerator[tuple[MadeUp, str]]:
    """Without `media`, nobody takes a persist. `planned` changes the plan."""
    queue = f"known-{uuid4()}"
    plan = plan_of(request_for(), time_scale=0.001)
    queues = plan.queues.model_copy(update=dict.fromkeys(("base", "submit", "read", *["media"] * media), queue))
    made_up = MadeUp(plan.model_copy(update={"queues": queues} | planned), answers)
    activities = made_up.activities()
    async with Worker(client, task_queue=queue, workflows=[Generation, Recovery], activities=activities):
        yield made_up, queue


async def test_a_job_that_the_ledger_was_too_far_away_to_record_is_recorded_and_completed(client: Client) -> None:
    answers = Submission(state="accepted", vendor_task_id=TASK_ID, post=1, unrecorded=True)
    async with playing(client, answers) as (made_up, queue):
        result = await client.execute_workflow(Generation.run, request_for(), id=f"known/{uuid4()}", task_queue=queue)
        assert (result.status, made_up.resolved) == ("completed", 0)
        assert len(made_up.records) > AWAY
        assert made_up.records[0].submission == answers
        assert (made_up.settled["vendor_task_id"], made_up.settled["resolution"]) == (TASK_ID, "post")


async def test_a_job_that_is_recorded_needs_no_second_step(client: Client) -> None:
    async with playing(client, Submission(state="accepted", vendor_task_id=TASK_ID)) as (made_up, queue):
        await client.execute_workflow(Generation.run, request_for(), id=f"known/{uuid4()}", task_queue=queue)
        assert made_up.records == []


async def test_a_clip_that_is_kept_is_read_again_without_its_vendor(client: Client) -> None:
    """It has forgotten the job by then: nobody asks it."""
    async with playing(client, Submission(state="accepted")) as (made_up, queue):
        made_up.vendor_knows = False
        request = RecoveryRequest(generation_id="gen_1", tenant="acme", goal="persist", who="a test", why="a test")
        recovered = await client.execute_workflow(Recovery.run, request, id=f"kept/{uuid4()}", task_queue=queue)
    assert (recovered.changed, recovered.error) == (True, None)
    (kept,) = made_up.corrected["assets"]
    assert kept["key"] == asset(5).key


@activity.defn
async def learn_and_hang(order: SubmitInput) -> Submission:
    """As when the process dies that has an answer and could not store it."""
    learned = Submission(state="accepted", vendor_task_id=order.workflow_id)
    activity.heartbeat(SubmitTries(learned=learned))
    await asyncio.sleep(60)
    raise AssertionError


@workflow.defn(sandboxed=False)
class Losing:
    """A submission whose worker is gone, and whose time is over before another takes it."""

    @workflow.run
    async def run(self, plan: Plan) -> Submission | None:
        order = SubmitInput(generation_id="g", attempt=1, workflow_id=TASK_ID, plan=plan, request=request_for())
        try:
            return await workflow.execute_activity(
                learn_and_hang,
                order,
                start_to_close_timeout=timedelta(seconds=1),
                retry_policy=RetryPolicy(timedelta(seconds=0.1), 1.0, maximum_attempts=4),  # one that told is enough
            )
        except ActivityError as error:
            return learned_by(error)


async def test_what_was_learned_before_the_time_was_over_is_in_the_failure(client: Client) -> None:
    queue = f"losing-{uuid4()}"
    async with Worker(client, task_queue=queue, workflows=[Losing], activities=[learn_and_hang]):
        learned = await client.execute_workflow(
            Losing.run, plan_of(request_for()), id=f"losing/{uuid4()}", task_queue=queue
        )
    assert learned is not None
    assert (learned.state, learned.vendor_task_id) == ("accepted", TASK_ID)
    assert PROMPT not in str(learned)


# -- What becomes of it until its deadline -----------------------------------------------------------------------------

ACCEPTED = Submission(state="accepted", vendor_task_id=TASK_ID)
FAILED = {"state": "failed", "vendor_state": "broken"}
DEADLINE_S = 4.0  # a read that begins in the first moment is one at the deadline
SCALE = 0.01  # a read that no deadline ends is tried for 3 s, and what kept us away counts up to 40 s


async def begin(client: Client, queue: str, *wakes: WakeSignal) -> WorkflowHandle[Generation, GenerationResult]:
    """Start a generation, and call it back at once: it recalls that when it begins to wait."""
    handle = await client.start_workflow(Generation.run, request_for(), id=f"known/{uuid4()}", task_queue=queue)
    for wake in wakes:
        await handle.signal(Generation.wake, wake)
    return handle


async def test_a_deadline_does_not_pass_while_the_ledger_gives_no_read_its_turn(client: Client) -> None:
    """It has passed, but for what is spared, when the first read's time is over."""
    async with playing(client, ACCEPTED, deadline_s=DEADLINE_S, time_scale=SCALE) as (made_up, queue):
        made_up.turnless, made_up.readings = "read-1", [FAILED]
        with pytest.raises(WorkflowFailureError):
            await (await begin(client, queue)).result()
        assert (made_up.settled["error"]["code"], made_up.readings) == ("vendor_failed", [])


async def test_a_deadline_does_not_pass_when_a_callback_brought_no_word_of_the_vendors(
    unsandboxed: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cuts off a read, and while there is time no media worker is there to take the step that it wakes."""
    monkeypatch.setattr(options, "SHORTEST_LIMIT_S", options.SHORTEST_S)
    planned = {"deadline_s": DEADLINE_S, "time_scale": SCALE}
    async with playing(unsandboxed, ACCEPTED, media=False, **planned) as (made_up, queue):
        made_up.readings = [None, FAILED]
        handle = await begin(unsandboxed, queue)
        while len(made_up.readings) == 2:
            await asyncio.sleep(0.05)
        await handle.signal(Generation.wake, WakeSignal())
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert made_up.settled["error"]["code"] == "vendor_failed"


async def test_answers_that_contradict_each_other_are_looked_into_ever_less_often(client: Client) -> None:
    async with playing(client, ACCEPTED, callbacks=True, deadline_s=60.0) as (made_up, queue):
        made_up.readings = [Failed("vendor_protocol_error")] * 5 + [FAILED]
        handle = await begin(client, queue)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        timers = [event.timer_started_event_attributes async for event in handle.fetch_history_events()]
    pauses_s = [timer.start_to_fire_timeout.ToTimedelta().total_seconds() for timer in timers if timer.timer_id]
    assert pauses_s[-4:] == pytest.approx([2 * pause_s for pause_s in pauses_s[-5:-1]], rel=0.01)


async def test_a_job_that_was_named_and_of_which_no_row_tells_keeps_no_clip_from_being_taken(client: Client) -> None:
    async with playing(client, ACCEPTED, callbacks=True) as (made_up, queue):
        handle = await begin(client, queue, WakeSignal(claimed_task_id="another"))
        result = await handle.result()
        assert (result.status, made_up.resolved) == ("completed", 1)
