"""The reconciler's run and its schedule on a real server: one run, whatever ends it, and no run a minute."""

import asyncio
import base64
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from temporalio import activity
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleSpec,
    WorkflowExecutionStatus,
)
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from onetake.core.contracts import Reconciled, ReconcileInput
from onetake.core.errors import TryLater
from onetake.core.names import RECONCILE
from onetake.core.settings import Settings
from onetake.engine.payloads import keys_of_run
from onetake.engine.schedule import ensure_schedule, schedule_id_of, schedule_state
from onetake.engine.temporal import FailureText, StrictArguments, connect, data_converter
from tests.engine.parts import At
from workflows import reconcile
from workflows.reconcile import Reconcile

EVERY_S = 2.0
LIMIT_S = 240.0


class Passes:
    """Stands for the reconciler: counts, and fails while it is told to."""

    def __init__(self) -> None:
        self.made = 0
        self.failing = False

    @activity.defn(name=RECONCILE)
    async def reconcile(self, order: ReconcileInput) -> Reconciled:
        assert not order.dry_run
        self.made += 1
        if self.failing:
            raise TryLater("ledger_unavailable", "the test says so")
        return Reconciled(looked_at=7, every_s=EVERY_S / 4)


def settings_with(queue: str, key: bytes, *old: bytes) -> Settings:
    texts = [base64.b64encode(each).decode() for each in (key, *old)]
    return Settings.model_validate(
        {
            "codec_key": SecretStr(texts[0]),
            "codec_old_keys": tuple(SecretStr(each) for each in texts[1:]),
            "task_queue": f"schedule-{queue}",
            "reconcile_every_s": EVERY_S,
        }
    )


@asynccontextmanager
async def serving(at: At, settings: Settings, passes: Passes) -> AsyncGenerator[Client]:
    client = await connect(settings, **at)
    # Without our plugin, whose sandbox would not see the patched number of passes.
    bare = await Client.connect(at["address"], namespace=at["namespace"], data_converter=data_converter(settings))
    async with Worker(
        bare,
        task_queue=settings.task_queue,
        workflows=[Reconcile],
        activities=[passes.reconcile],
        interceptors=[FailureText(), StrictArguments()],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        yield client


async def until(true: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(LIMIT_S):
        while not (found := await true()):
            await asyncio.sleep(0.2)
        return found


async def runs_of(client: Client, queue: str) -> dict[str, list[str]]:
    """Run ids by workflow id, of all that the schedule has started."""
    found: dict[str, list[str]] = {}
    async for each in client.list_workflows(f'WorkflowType = "Reconcile" AND TaskQueue = "{queue}"'):
        found.setdefault(each.id, []).append(each.run_id)
    return found


async def test_one_run_goes_on_and_comes_back_when_it_is_ended(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MOST_PASSES", 3)
    passes, settings = Passes(), settings_with("goes-on", secrets.token_bytes(32))
    async with serving(at, settings, passes) as client:
        assert await schedule_state(client, settings) is None
        await asyncio.gather(*(ensure_schedule(client, settings) for _ in range(4)))
        workflow_id = await until(partial(run_of, client, settings))

        # It continues as a new run three times, and the schedule, which asks each two seconds, adds none.
        async def has_gone_on() -> bool:
            runs = await runs_of(client, settings.task_queue)
            assert len(runs) == 1
            return len(runs[workflow_id]) > 3 and passes.made > 9

        await until(has_gone_on)
        handle = client.get_schedule_handle(schedule_id_of(settings.task_queue))

        async def has_skipped() -> bool:
            info = (await handle.describe()).info
            assert info.num_actions == 1
            return info.num_actions_skipped_overlap > 0

        await until(has_skipped)
        assert await run_of(client, settings) == workflow_id

        # Somebody ends it: it comes back.
        await client.get_workflow_handle(workflow_id).terminate("a test")
        again = await until(partial(run_of, client, settings, unlike=workflow_id))

        # A pass that fails is shown with its words, and the next one is made.
        passes.failing = True

        async def shown() -> str | None:
            details = await details_of(client, again)
            return details if "Last" in details and "ledger_unavailable" in details else None

        assert "the test says so" in await until(shown)
        passes.failing = False

        async def good() -> bool:
            details = await details_of(client, again)
            return "7 generations" in details and "ledger_unavailable" not in details

        await until(good)


async def test_a_key_that_is_rotated_and_dropped_stops_no_pass(at: At) -> None:
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    passes, settings = Passes(), settings_with("rotated", first)
    async with serving(at, settings, passes) as client:
        await ensure_schedule(client, settings)
        old = await until(partial(run_of, client, settings))
        await until(partial(more_than, passes, 1))
    # As documented: the new key writes, the old one still reads. The run that needs the old one is replaced.
    rotated = settings_with("rotated", second, first)
    async with serving(at, rotated, passes) as client:
        await ensure_schedule(client, rotated)
        ended = await client.get_workflow_handle(old).describe()
        assert ended.status is WorkflowExecutionStatus.TERMINATED
        now = await until(partial(run_of, client, rotated, unlike=old))
        await until(partial(more_than, passes, passes.made + 1))
    dropped = settings_with("rotated", second)
    async with serving(at, dropped, passes) as client:
        assert len(await keys_of_run(client, now)) == 1
        await ensure_schedule(client, dropped)
        await until(partial(more_than, passes, passes.made))
        assert await run_of(client, dropped) == now


async def test_a_paused_schedule_stays_paused_and_old_arguments_are_replaced(at: At) -> None:
    passes, settings = Passes(), settings_with("paused", secrets.token_bytes(32))
    async with serving(at, settings, passes) as client:
        handle = await client.create_schedule(
            schedule_id_of(settings.task_queue),
            Schedule(
                action=ScheduleActionStartWorkflow("Reconcile", ReconcileInput(), id="old", task_queue="elsewhere"),
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]),
            ),
        )
        await handle.pause(note="an operator looks")

        async def is_paused(*, ours: bool) -> bool:
            state = await schedule_state(client, settings)
            return state is not None and (state.is_ours, state.paused, state.note) == (ours, True, "an operator looks")

        await until(partial(is_paused, ours=False))
        await ensure_schedule(client, settings)
        await until(partial(is_paused, ours=True))
        assert passes.made == 0


async def run_of(client: Client, settings: Settings, unlike: str = "") -> str | None:
    """The workflow id of the run that goes on, if it is another one than that."""
    state = await schedule_state(client, settings)
    return state.run if state and state.is_ours and state.run != unlike else None


async def more_than(passes: Passes, number: int) -> bool:
    return passes.made > number


async def details_of(client: Client, workflow_id: str) -> str:
    """The current details as the UI reads them."""
    handle = client.get_workflow_handle(workflow_id)
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return metadata.current_details
