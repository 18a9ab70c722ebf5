"""The schedule that runs the reconciler, made by the workers themselves, so that no deployment can forget it."""

from datetime import timedelta
from typing import Final

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError

from onetake.core import logs
from onetake.core.contracts import ReconcileInput
from onetake.core.names import RECONCILE_WORKFLOW
from onetake.core.settings import Settings
from onetake.engine.limits import RPC_LIMIT

LEAST_EVERY_S: Final = 2.0
RUN_LIMIT: Final = timedelta(minutes=30)

_log = logs.logger(__name__)


def schedule_id_of(task_queue: str) -> str:
    """One schedule for each deployment that shares a task queue."""
    return f"reconcile/{task_queue}"


async def ensure_schedule(client: Client, settings: Settings) -> None:
    """Make the schedule, or bring it to the settings; 0 seconds leaves it alone. Repeatable, from many workers at once.

    A server that refuses is logged, not fatal: generations run without it, `onetake reconcile` runs a pass by hand.
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


async def _update(client: Client, settings: Settings, schedule: Schedule) -> None:
    def changed(found: ScheduleUpdateInput) -> ScheduleUpdate | None:
        present = found.description.schedule
        if present.spec.intervals == schedule.spec.intervals:
            return None
        present.spec = schedule.spec
        return ScheduleUpdate(present)

    try:
        handle = client.get_schedule_handle(schedule_id_of(settings.task_queue))
        await handle.update(changed, rpc_timeout=RPC_LIMIT)
    except RPCError as error:
        _log.warning("schedule_not_updated", code="engine_unavailable", detail=error.status.name)


def _schedule(settings: Settings) -> Schedule:
    every_s = max(settings.reconcile_every_s * settings.time_scale, LEAST_EVERY_S)
    action = ScheduleActionStartWorkflow(
        RECONCILE_WORKFLOW,
        ReconcileInput(),
        id=f"reconcile/{settings.task_queue}",
        task_queue=settings.task_queue,
        execution_timeout=RUN_LIMIT,
        static_summary="close what is stale: rows, runs and holds that nobody serves",
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=every_s))])
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(minutes=1))
    return Schedule(action=action, spec=spec, policy=policy)
