"""The schedule that keeps the reconciler's run going, made by the workers, so that no deployment can forget it.

It starts the run, and starts it again within a minute after its end; while the run goes on, also as a new one, nothing
is started. Neither holds an argument: no key of the codec is needed to read the schedule.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from onetake.core import logs
from onetake.core.names import RECONCILE_WORKFLOW
from onetake.core.settings import Settings
from onetake.engine.codec import key_id
from onetake.engine.limits import RPC_LIMIT
from onetake.engine.payloads import keys_of_run

LEAST_EVERY_S: Final = 2.0
USUAL_EVERY_S: Final = 60.0
RUN_LIMIT: Final = timedelta(hours=12)  # twice what a run takes: one that is stuck is replaced

_log = logs.logger(__name__)


@dataclass(frozen=True)
class ScheduleState:
    """The schedule as Temporal has it. `run` is the workflow id of the run that goes on, None when none does.
    `task_queue` is where its runs go."""

    paused: bool
    note: str
    is_ours: bool
    run: str | None
    task_queue: str = ""


def schedule_id_of(task_queue: str) -> str:
    """One schedule for each deployment that shares a task queue."""
    return f"reconcile/{task_queue}"


def pass_every_s(settings: Settings) -> float:
    """Seconds between passes."""
    return max((settings.reconcile_every_s or USUAL_EVERY_S) * settings.time_scale, LEAST_EVERY_S)


async def ensure_schedule(client: Client, settings: Settings) -> None:
    """Make the schedule, or bring it to today's; 0 seconds leaves it alone. Repeatable, from many workers at once. A
    schedule that somebody has paused stays paused.

    A run whose history was written with a key that is not the one in use is ended, for it would stop at the day that
    this key is taken away; the schedule starts another. A server that refuses is logged, not fatal: generations run
    without it, `onetake reconcile` runs a pass by hand, and `onetake doctor` is red.
    """
    if settings.reconcile_every_s <= 0:
        return
    schedule = _schedule(settings)
    try:
        await client.create_schedule(schedule_id_of(settings.task_queue), schedule, rpc_timeout=RPC_LIMIT)
    except ScheduleAlreadyRunningError:
        await _update(client, settings, schedule)
    except RPCError as error:
        _log.warning("schedule_not_made", code="engine_unavailable", detail=error.status.name)


async def schedule_state(client: Client, settings: Settings) -> ScheduleState | None:
    """How the schedule stands; None when there is none. Raises RPCError."""
    try:
        handle = client.get_schedule_handle(schedule_id_of(settings.task_queue))
        found = await handle.describe(rpc_timeout=RPC_LIMIT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    running = [each for each in found.info.running_actions if isinstance(each, ScheduleActionExecutionStartWorkflow)]
    present = found.schedule
    return ScheduleState(
        paused=present.state.paused,
        note=present.state.note or "",
        is_ours=_essence(present) == _essence(_schedule(settings)),
        run=running[0].workflow_id if running else None,
        task_queue=cast("ScheduleActionStartWorkflow", present.action).task_queue,
    )


async def _update(client: Client, settings: Settings, schedule: Schedule) -> None:
    def changed(found: ScheduleUpdateInput) -> ScheduleUpdate | None:
        present = found.description.schedule
        if _essence(present) == _essence(schedule):
            return None
        present.action, present.spec, present.policy = schedule.action, schedule.spec, schedule.policy
        return ScheduleUpdate(present)

    try:
        await client.get_schedule_handle(schedule_id_of(settings.task_queue)).update(changed, rpc_timeout=RPC_LIMIT)
        state = await schedule_state(client, settings)
        if state is not None and state.run is not None:
            await _end_what_needs_another_key(client, settings, state.run)
    except RPCError as error:
        _log.warning("schedule_not_updated", code="engine_unavailable", detail=error.status.name)


async def _end_what_needs_another_key(client: Client, settings: Settings, workflow_id: str) -> None:
    keys = await keys_of_run(client, workflow_id)
    if keys - {key_id(key) for key in settings.codec_keys[:1]}:
        await client.get_workflow_handle(workflow_id).terminate(
            reason="the codec's key is another one now; the schedule starts a new run", rpc_timeout=RPC_LIMIT
        )
        _log.info("reconciler_run_replaced", workflow_id=workflow_id)


def _essence(schedule: Schedule) -> tuple[object, ...]:
    """What must be as today's code would make it."""
    action = cast("ScheduleActionStartWorkflow", schedule.action)
    return (
        [(each.every, each.offset) for each in schedule.spec.intervals],
        (action.workflow, len(action.args), action.id, action.task_queue, action.run_timeout),
        schedule.policy.overlap,
    )


def _schedule(settings: Settings) -> Schedule:
    action = ScheduleActionStartWorkflow(
        RECONCILE_WORKFLOW,
        id=f"reconcile/{settings.task_queue}",
        task_queue=settings.task_queue,
        run_timeout=RUN_LIMIT,
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=pass_every_s(settings)))])
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=1))
    return Schedule(action=action, spec=spec, policy=policy)
