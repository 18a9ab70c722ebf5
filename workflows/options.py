"""Every timeout and retry policy of the activities, and what the UI says of each. Values are production's.

A plan's `time_scale` (1 in production) shortens what tests and the demo would otherwise wait for; no timeout falls
below `SHORTEST_S`.
"""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import Plan
    from onetake.core.money import format_usd
    from onetake.core.names import Resolution, inputs_queue, sweep_queue
    from onetake.core.ports import LEAST_BYTES_PER_S

SHORTEST_S: Final = 3.0
SHORTEST_LIMIT_S: Final = 30.0  # a worker that died is started again within it

# What a step on the ledger may take inside the workflow's own task; two of them stay below the task's timeout of 10 s.
AT_ONCE_S: Final = 3.0
VALIDATE_TIMEOUT_S: Final = 20.0
RESERVE_TIMEOUT_S: Final = 30.0
RESERVE_LIMIT_S: Final = 900.0  # the ledger may be away for 15 minutes before the generation fails
SUBMIT_TIMEOUT_S: Final = 120.0  # connect, write and read of one POST, and recording its outcome
SUBMIT_SLACK_S: Final = 60.0  # the activity gives up by itself; the engine only guards
READ_TIMEOUT_S: Final = 60.0  # the driver gives up before, and says why; a timeout here would say nothing
ONE_READ_LIMIT_S: Final = 300.0  # a read that nothing waits for is tried this long
KEPT_AWAY_S: Final = 3600.0  # our own slowness moves a deadline by so long, or by the deadline again
LONGEST_DOUBT_S: Final = 600.0  # between two looks at answers that contradict each other
SPARE_S: Final = 2.0  # the last read is due so long before the deadline
# Each leaves 11 events and two workflow tasks. A job that is open after them is unusual: from then on one activity is
# retried, which leaves no events and costs a third. A callback that comes later costs one more task, to cancel it.
MOST_TIMED_READS: Final = 4
CANCEL_LIMIT_S: Final = 10.0  # between the note of a cancellation and the request
INSPECT_TIMEOUT_S: Final = 20.0
PERSIST_SLACK_S: Final = 900.0  # of one attempt, for all but the download: status, upload, reading, waiting for turns
PERSIST_LIMIT_S: Final = 86_400.0  # storage may be away for a day: the clip is paid for
MOST_RECORDS: Final = 2  # of one outcome in databases that lost its row: the second stands on what was told again
LOST_AGAIN_S: Final = 5.0  # before a database is told a second time what it lost; doubled each time
LONGEST_LOST_S: Final = 300.0
SETTLE_TIMEOUT_S: Final = 30.0  # one attempt; attempts are unlimited: a settlement is never given up
MOST_VERDICTS: Final = 3  # how often a vendor may say success, then failure
MOST_WAKES: Final = 20  # callbacks honoured; afterwards polling alone

LATE_WINDOW_S: Final = 86_400.0  # a recovery looks for so long: vendors forget a job after a day
LOOK_S: Final = 300.0  # one look for a job whose id is not known; a list is read twice, two minutes apart
FIRST_GAP_S: Final = 60.0  # between looks; doubled each time
LONGEST_GAP_S: Final = 3600.0
RECONCILE_TIMEOUT_S: Final = 600.0  # one pass of the reconciler; it beats
RECONCILE_HEARTBEAT_S: Final = 30.0
SWEEP_TIMEOUT_S: Final = 4 * 3600.0  # one pass over the bucket; it beats

# Finishing goes before starting, wherever activities of several phases wait for one worker.
SETTLING_FIRST: Final = Priority(priority_key=1)
THEN_PERSISTING: Final = Priority(priority_key=2)
THEN_READING: Final = Priority(priority_key=3)
THEN_SUBMITTING: Final = Priority(priority_key=4)
THEN_STARTING: Final = Priority(priority_key=5)

ONCE: Final = RetryPolicy(maximum_attempts=1)
QUICK: Final = RetryPolicy(initial_interval=timedelta(seconds=0.5), maximum_interval=timedelta(seconds=15))
_SETTLING: Final[dict[Resolution, str]] = {
    "none": "record the refusal: nothing was held",
    "post": "post the hold: the vendor was paid",
    "release": "release what was held: nothing is owed",
    "suspend": "suspend the hold: the vendor may charge it",
}

# Hosts that fail, and looks that wait for their turn, come back ever less often.
EVER_LESS_OFTEN: Final = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
PATIENT: Final = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(seconds=60))


def at_once(config: workflow.ActivityConfig) -> workflow.LocalActivityConfig:
    """The same step inside the workflow's own task: one attempt, which either succeeds at once or is left to the
    activity."""
    limit = timedelta(seconds=AT_ONCE_S)
    return {
        "start_to_close_timeout": limit,
        "schedule_to_close_timeout": limit,
        "retry_policy": ONCE,
        "summary": config.get("summary"),
    }


def validate() -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": timedelta(seconds=VALIDATE_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=RESERVE_LIMIT_S),
        "retry_policy": QUICK,
        "priority": THEN_STARTING,
        "activity_id": "validate",
        "summary": "check the request and pin its price",
    }


def inspect(base_queue: str) -> workflow.ActivityConfig:
    """`base_queue` is the run's own. Slow hosts wait apart, and hold up nobody who reserves or settles."""
    return {
        "task_queue": inputs_queue(base_queue),
        "start_to_close_timeout": timedelta(seconds=INSPECT_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=RESERVE_LIMIT_S),
        "retry_policy": EVER_LESS_OFTEN,
        "priority": THEN_STARTING,
        "activity_id": "inspect",
        "summary": "look at the media that the request names",
    }


def reserve(plan: Plan) -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": _scaled(RESERVE_TIMEOUT_S, plan),
        "schedule_to_close_timeout": timedelta(seconds=max(RESERVE_LIMIT_S * plan.time_scale, SHORTEST_LIMIT_S)),
        "retry_policy": QUICK,
        "priority": THEN_STARTING,
        "activity_id": "reserve",
        "summary": f"hold {format_usd(plan.price.amount_micros)} on every budget that applies",
    }


def wait_in_line(plan: Plan, left_s: float) -> workflow.ActivityConfig:
    """The same step, retried until the generation's own deadline: the server times it, and it leaves no events."""
    return {
        **reserve(plan),
        "schedule_to_close_timeout": timedelta(seconds=max(left_s, 0.0) + SUBMIT_SLACK_S),
        "retry_policy": PATIENT,
        "activity_id": "line",
        "summary": f"wait for room at {plan.vendor}, in turn with the other tenants; nothing is held meanwhile",
    }


def submit(plan: Plan, number: int) -> workflow.ActivityConfig:
    limit_s = max(plan.deadline_s, plan.unreachable_limit_s) + SUBMIT_TIMEOUT_S + SUBMIT_SLACK_S
    return {
        "task_queue": plan.queues.submit,
        "start_to_close_timeout": timedelta(seconds=SUBMIT_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=limit_s),
        "heartbeat_timeout": timedelta(seconds=plan.heartbeat_timeout_s),
        "retry_policy": QUICK,
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        "priority": THEN_SUBMITTING,
        "activity_id": f"submit-{number}",
        "summary": f"submit to {plan.vendor}, once; a retry only where it took nothing",
    }


def resolve(plan: Plan, number: int, left_s: float) -> workflow.ActivityConfig:
    return {
        "task_queue": plan.queues.read,
        "start_to_close_timeout": _scaled(READ_TIMEOUT_S, plan),
        "schedule_to_close_timeout": timedelta(seconds=max(left_s, 1.0)),
        "retry_policy": PATIENT,
        "priority": THEN_READING,
        "activity_id": f"resolve-{number}",
        "summary": f"find out whether {plan.vendor} took the job; one attempt is one look",
    }


def read(plan: Plan, number: int, left_s: float) -> workflow.ActivityConfig:
    return {
        "task_queue": plan.queues.read,
        "start_to_close_timeout": _scaled(READ_TIMEOUT_S, plan),
        "schedule_to_close_timeout": timedelta(seconds=max(left_s, 1.0)),
        "retry_policy": _after_a_lost_read(plan),
        "priority": THEN_READING,
        "activity_id": f"read-{number}",
        "summary": f"ask {plan.vendor} about the job",
    }


def poll(plan: Plan, number: int, left_s: float) -> workflow.ActivityConfig:
    summary = f"poll {plan.vendor} until its render ends; one attempt is one read"
    return {**read(plan, number, left_s), "activity_id": f"poll-{number}", "summary": summary}


def _after_a_lost_read(plan: Plan) -> RetryPolicy:
    """A read that died with its worker costs one interval, however many reads came before it."""
    longest_s = max(plan.cadence.max_interval_s, 1.0)
    return RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=longest_s))


def confirm(plan: Plan, number: int) -> workflow.ActivityConfig:
    summary = f"it said success, then failure: ask {plan.vendor} once more"
    return {**read(plan, number, one_read_s(plan)), "activity_id": f"confirm-{number}", "summary": summary}


def persist(plan: Plan, number: int, *, woken: bool) -> workflow.ActivityConfig:
    summary = "store the clip and read it to its last packet"
    config: workflow.ActivityConfig = {
        "task_queue": plan.queues.media,
        "start_to_close_timeout": timedelta(seconds=persist_timeout_s(plan)),
        "schedule_to_close_timeout": _scaled(PERSIST_LIMIT_S, plan),
        "heartbeat_timeout": timedelta(seconds=max(plan.heartbeat_timeout_s, SHORTEST_S)),
        "retry_policy": PATIENT,
        "priority": THEN_PERSISTING,
        "activity_id": f"persist-{number}",
        "summary": f"a callback came: ask {plan.vendor} itself, and {summary}" if woken else summary,
    }
    if woken:  # while no media worker has time, those who read for this vendor may have it
        config["schedule_to_start_timeout"] = timedelta(seconds=max(one_read_s(plan), SHORTEST_LIMIT_S))
    return config


def record(plan: Plan) -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": _scaled(SETTLE_TIMEOUT_S, plan),
        "retry_policy": PATIENT,
        "priority": SETTLING_FIRST,
        "activity_id": "record",
        "summary": f"record what {plan.vendor} answered, which the ledger was too far away to take",
    }


def settle(plan: Plan | None, resolution: Resolution) -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": _scaled(SETTLE_TIMEOUT_S, plan) if plan else timedelta(seconds=SETTLE_TIMEOUT_S),
        "retry_policy": PATIENT,
        "priority": SETTLING_FIRST,
        "activity_id": "settle",
        "summary": _SETTLING[resolution],
    }


def restore(plan: Plan) -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": _scaled(SETTLE_TIMEOUT_S, plan),
        "retry_policy": PATIENT,
        "priority": SETTLING_FIRST,
        "summary": "the database failed over: write again what it lost",
    }


def lost_again_s(plan: Plan, times: int) -> float:
    """The pause before a database that was told so many times what it lost is told again."""
    return min(LOST_AGAIN_S * 2 ** min(times - 1, 10), LONGEST_LOST_S) * plan.time_scale


def examine() -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": timedelta(seconds=SETTLE_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=LATE_WINDOW_S),
        "retry_policy": PATIENT,  # for a day: a recovery that gave up is not begun again by itself
        "activity_id": "examine",
        "summary": "what the ledger says of this generation",
    }


def correct() -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": timedelta(seconds=SETTLE_TIMEOUT_S),
        "retry_policy": PATIENT,
        "priority": SETTLING_FIRST,
        "activity_id": "correct",
        "summary": "record what was found, once, as the generation's correction",
    }


def reconcile() -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": timedelta(seconds=RECONCILE_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=2 * RECONCILE_TIMEOUT_S),
        "heartbeat_timeout": timedelta(seconds=RECONCILE_HEARTBEAT_S),
        "retry_policy": ONCE,  # the next pass is the retry
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        "activity_id": "reconcile",
        "summary": "close what is stale: rows, runs and holds that nobody serves",
    }


def kept_away_s(plan: Plan, deadline_s: float) -> float:
    """How long after its deadline a vendor may still be asked first, whom we could not ask before, in seconds."""
    return deadline_s + max(deadline_s, KEPT_AWAY_S * plan.time_scale)


def persist_timeout_s(plan: Plan) -> float:
    """How long one attempt at the bytes may last: the largest clip that is allowed, at the least rate that is."""
    return min(plan.max_asset_bytes / LEAST_BYTES_PER_S + PERSIST_SLACK_S, PERSIST_LIMIT_S)


def sweep(base_queue: str) -> workflow.ActivityConfig:
    return {
        "task_queue": sweep_queue(base_queue),
        "start_to_close_timeout": timedelta(seconds=SWEEP_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=2 * SWEEP_TIMEOUT_S),
        "heartbeat_timeout": timedelta(seconds=RECONCILE_HEARTBEAT_S),
        "retry_policy": PATIENT,
        "priority": THEN_STARTING,
        "activity_id": "sweep",
        "summary": "remove copies of clips that no manifest names",
    }


def one_read_s(plan: Plan) -> float:
    """How long a read is tried that no deadline ends, in seconds."""
    return max(ONE_READ_LIMIT_S * plan.time_scale, SHORTEST_S)


def last_look_s(plan: Plan) -> float:
    """How long the last look at an unknown outcome waits for a worker that can take it."""
    return max(RESERVE_LIMIT_S * plan.time_scale, SHORTEST_LIMIT_S)


def late_window_s(plan: Plan) -> float:
    """How long a recovery looks, in seconds."""
    return max(LATE_WINDOW_S * plan.time_scale, SHORTEST_LIMIT_S)


def look_s(plan: Plan) -> float:
    """How long one look for a job without an id takes, in seconds."""
    return max(LOOK_S * plan.time_scale, SHORTEST_S)


def _scaled(seconds: float, plan: Plan) -> timedelta:
    return timedelta(seconds=max(seconds * plan.time_scale, SHORTEST_S))
