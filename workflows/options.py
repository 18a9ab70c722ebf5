"""Every timeout and retry policy of the activities, and what the UI says of each. Values are production's.

A plan's `time_scale` (1 in production) shortens what tests and the demo would otherwise wait for; no timeout falls
below `SHORTEST_S`.
"""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import Plan
    from onetake.core.money import format_usd
    from onetake.core.names import Resolution

SHORTEST_S: Final = 3.0
SHORTEST_LIMIT_S: Final = 30.0  # a worker that died is started again within it

VALIDATE_TIMEOUT_S: Final = 20.0
RESERVE_TIMEOUT_S: Final = 30.0
RESERVE_LIMIT_S: Final = 900.0  # the ledger may be away for 15 minutes before the generation fails
SUBMIT_TIMEOUT_S: Final = 120.0  # connect, write and read of one POST, and recording its outcome
SUBMIT_SLACK_S: Final = 60.0  # the activity gives up by itself; the engine only guards
READ_TIMEOUT_S: Final = 60.0
ONE_READ_LIMIT_S: Final = 300.0  # a woken read is tried this long, then polling goes on
PERSIST_TIMEOUT_S: Final = 900.0  # one attempt at the bytes
PERSIST_LIMIT_S: Final = 86_400.0  # storage may be away for a day: the clip is paid for
SETTLE_TIMEOUT_S: Final = 30.0  # one attempt; attempts are unlimited: a settlement is never given up
MOST_VERDICTS: Final = 3  # how often a vendor may say success, then failure
MOST_WAKES: Final = 20  # callbacks honoured; afterwards polling alone

LATE_WINDOW_S: Final = 86_400.0  # a recovery looks for so long: vendors forget a job after a day
LOOK_S: Final = 300.0  # one look for a job whose id is not known; a list is read twice, two minutes apart
FIRST_GAP_S: Final = 60.0  # between looks; doubled each time
LONGEST_GAP_S: Final = 3600.0
RECONCILE_TIMEOUT_S: Final = 600.0  # one pass of the reconciler; it beats
RECONCILE_HEARTBEAT_S: Final = 30.0

QUICK: Final = RetryPolicy(initial_interval=timedelta(seconds=0.5), maximum_interval=timedelta(seconds=15))
_SETTLING: Final[dict[Resolution, str]] = {
    "none": "record the refusal: nothing was held",
    "post": "post the hold: the vendor was paid",
    "release": "release what was held: nothing is owed",
    "suspend": "suspend the hold: the vendor may charge it",
}

PATIENT: Final = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(seconds=60))


def validate() -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": timedelta(seconds=VALIDATE_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=RESERVE_LIMIT_S),
        "retry_policy": QUICK,
        "activity_id": "validate",
        "summary": "check the request and pin its price",
    }


def reserve(plan: Plan) -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": _scaled(RESERVE_TIMEOUT_S, plan),
        "schedule_to_close_timeout": timedelta(seconds=max(RESERVE_LIMIT_S * plan.time_scale, SHORTEST_LIMIT_S)),
        "retry_policy": QUICK,
        "activity_id": "reserve",
        "summary": f"hold {format_usd(plan.price.amount_micros)} on every budget that applies",
    }


def submit(plan: Plan) -> workflow.ActivityConfig:
    limit_s = max(plan.throttle_limit_s, plan.unreachable_limit_s) + SUBMIT_TIMEOUT_S + SUBMIT_SLACK_S
    return {
        "task_queue": plan.queues.submit,
        "start_to_close_timeout": timedelta(seconds=SUBMIT_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=limit_s),
        "heartbeat_timeout": timedelta(seconds=plan.heartbeat_timeout_s),
        "retry_policy": QUICK,
        "cancellation_type": workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        "activity_id": "submit",
        "summary": f"submit to {plan.vendor}, once; a retry only where it took nothing",
    }


def resolve(plan: Plan, number: int, left_s: float) -> workflow.ActivityConfig:
    return {
        "task_queue": plan.queues.read,
        "start_to_close_timeout": _scaled(READ_TIMEOUT_S, plan),
        "schedule_to_close_timeout": timedelta(seconds=max(left_s, 1.0)),
        "retry_policy": PATIENT,
        "activity_id": f"resolve-{number}",
        "summary": f"find out whether {plan.vendor} took the job; one attempt is one look",
    }


def wait(plan: Plan, number: int, left_s: float) -> workflow.ActivityConfig:
    return {
        "task_queue": plan.queues.read,
        "start_to_close_timeout": _scaled(READ_TIMEOUT_S, plan),
        "schedule_to_close_timeout": timedelta(seconds=max(left_s, 1.0)),
        "retry_policy": _after_a_lost_read(plan),
        "activity_id": f"wait-{number}",
        "summary": f"poll {plan.vendor} until its render ends; one attempt is one read",
    }


def _after_a_lost_read(plan: Plan) -> RetryPolicy:
    """A read that died with its worker costs one interval, however many reads came before it."""
    longest_s = max(plan.cadence.max_interval_s, 1.0)
    return RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=longest_s))


def read_once(plan: Plan, number: int) -> workflow.ActivityConfig:
    return {
        "task_queue": plan.queues.read,
        "start_to_close_timeout": _scaled(READ_TIMEOUT_S, plan),
        "schedule_to_close_timeout": _scaled(ONE_READ_LIMIT_S, plan),
        "retry_policy": QUICK,
        "activity_id": f"read-{number}",
        "summary": f"woken by a callback: ask {plan.vendor} itself",
    }


def confirm(plan: Plan, number: int) -> workflow.ActivityConfig:
    summary = f"it said success, then failure: ask {plan.vendor} once more"
    return {**read_once(plan, number), "activity_id": f"confirm-{number}", "summary": summary}


def persist(plan: Plan) -> workflow.ActivityConfig:
    return {
        "task_queue": plan.queues.media,
        "start_to_close_timeout": timedelta(seconds=PERSIST_TIMEOUT_S),
        "schedule_to_close_timeout": _scaled(PERSIST_LIMIT_S, plan),
        "heartbeat_timeout": timedelta(seconds=max(plan.heartbeat_timeout_s, SHORTEST_S)),
        "retry_policy": PATIENT,
        "activity_id": "persist",
        "summary": "store the clip and read it to its last packet",
    }


def settle(plan: Plan | None, resolution: Resolution) -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": _scaled(SETTLE_TIMEOUT_S, plan) if plan else timedelta(seconds=SETTLE_TIMEOUT_S),
        "retry_policy": PATIENT,
        "activity_id": "settle",
        "summary": _SETTLING[resolution],
    }


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
        "activity_id": "correct",
        "summary": "record what was found, once, as the generation's correction",
    }


def reconcile() -> workflow.ActivityConfig:
    return {
        "start_to_close_timeout": timedelta(seconds=RECONCILE_TIMEOUT_S),
        "schedule_to_close_timeout": timedelta(seconds=2 * RECONCILE_TIMEOUT_S),
        "heartbeat_timeout": timedelta(seconds=RECONCILE_HEARTBEAT_S),
        "retry_policy": QUICK,
        "activity_id": "reconcile",
        "summary": "close what is stale: rows, runs and holds that nobody serves",
    }


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
