"""The workflow's timeouts: production's values, and how a plan's scale shortens them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.workflow import ActivityConfig

from activities.submit import BRACKET_LIMIT_S, RECORD_LIMIT_S
from onetake.core.contracts import Plan
from onetake.ledger.database import STATEMENT_TIMEOUT_S
from providers.driver import for_reads, timeout_for
from tests.providers.parts import PROMPT, plan_of, request_for
from workflows import options

LEDGER_S = 2 * STATEMENT_TIMEOUT_S  # a read's turn before it, and a note of the end after it

Made = Callable[[Plan], ActivityConfig]
CONFIGS: dict[str, Made] = {
    "validate": lambda _: options.validate(),
    "inspect": lambda _: options.inspect("onetake"),
    "reserve": options.reserve,
    "submit-2": lambda plan: options.submit(plan, 2),
    "resolve-3": lambda plan: options.resolve(plan, 3, 1800),
    "poll-4": lambda plan: options.poll(plan, 4, 1800),
    "read-5": lambda plan: options.read(plan, 5, 1800),
    "confirm-6": lambda plan: options.confirm(plan, 6),
    "persist-7": lambda plan: options.persist(plan, 7, woken=True),
    "record": options.record,
    "settle": lambda plan: options.settle(plan, "post"),
}
START_TO_CLOSE_S = {
    "validate": 20,
    "inspect": 20,
    "reserve": 30,
    "submit-2": 120,
    "resolve-3": 60,
    "poll-4": 60,
    "read-5": 60,
    "confirm-6": 60,
    "persist-7": 2**29 / (16 * 1024) + 900,  # 512 MiB at 16 KiB a second, and all but the download
    "record": 30,
    "settle": 30,
}
SCHEDULE_TO_CLOSE_S = {
    "validate": 900,
    "inspect": 900,
    "reserve": 900,
    "submit-2": 1980,
    "resolve-3": 1800,
    "poll-4": 1800,
    "read-5": 1800,
    "confirm-6": 300,
    "persist-7": 86_400,
}
HEARTBEAT_S = {"submit-2": 15, "persist-7": 15}
QUEUES = {
    "inspect": "onetake-inputs",
    "submit-2": "onetake-submit-apixo",
    "resolve-3": "onetake-read-apixo",
    "poll-4": "onetake-read-apixo",
    "read-5": "onetake-read-apixo",
    "confirm-6": "onetake-read-apixo",
    "persist-7": "onetake-media-apixo",
}


def _seconds(config: ActivityConfig, name: str) -> float | None:
    value = config.get(name)
    return value.total_seconds() if isinstance(value, timedelta) else None


@pytest.mark.parametrize("name", CONFIGS)
def test_the_values_of_production(name: str) -> None:
    config = CONFIGS[name](plan_of(request_for()))
    assert START_TO_CLOSE_S[name] == _seconds(config, "start_to_close_timeout")
    assert SCHEDULE_TO_CLOSE_S.get(name) == _seconds(config, "schedule_to_close_timeout")
    assert HEARTBEAT_S.get(name) == _seconds(config, "heartbeat_timeout")
    assert QUEUES.get(name) == config.get("task_queue")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_activity_has_an_id_a_summary_and_a_retry_without_a_limit(name: str) -> None:
    config = CONFIGS[name](plan_of(request_for()))
    assert config.get("activity_id") == name
    summary, retry = config.get("summary"), config.get("retry_policy")
    assert summary
    assert len(summary) < 120
    assert PROMPT not in summary
    assert retry is not None
    assert retry.maximum_attempts == 0, "time limits end a phase, not a count of attempts"


def test_finishing_goes_before_starting() -> None:
    configs = [made(plan_of(request_for())) for made in CONFIGS.values()]
    names = ["settle", "persist-7", "read-5", "submit-2", "validate"]
    keys = {str(config.get("activity_id")): config.get("priority") for config in configs}
    ranks = [priority.priority_key for name in names if (priority := keys[name])]
    assert ranks == [1, 2, 3, 4, 5]


def test_a_step_on_the_ledger_is_tried_once_and_briefly_in_the_workflows_own_task() -> None:
    for made in (options.validate(), options.reserve(plan_of(request_for())), options.settle(None, "post")):
        short = options.at_once(made)
        limit, retry = short.get("schedule_to_close_timeout"), short.get("retry_policy")
        assert limit is not None
        assert retry is not None
        assert (limit.total_seconds(), retry.maximum_attempts) == (options.AT_ONCE_S, 1)
        assert short.get("summary") == made.get("summary")


@pytest.mark.parametrize("scale", [0.5, 0.05, 0.001])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_scale_shortens_and_never_below_what_a_busy_machine_needs(name: str, scale: float) -> None:
    whole = CONFIGS[name](plan_of(request_for()))
    short = CONFIGS[name](plan_of(request_for(), time_scale=scale))
    for limit in ("start_to_close_timeout", "schedule_to_close_timeout"):
        before, after = _seconds(whole, limit), _seconds(short, limit)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert min(before, options.SHORTEST_S) <= after <= before
    heartbeat_s = _seconds(short, "heartbeat_timeout")
    assert heartbeat_s is None or heartbeat_s >= 2


def test_a_post_and_its_limits_fit_into_their_activity() -> None:
    """The activity gives up by itself, with a code; the engine's timeout would only say that time is over."""
    plan = plan_of(request_for())
    limit_s = _seconds(options.submit(plan, 1), "schedule_to_close_timeout")
    assert limit_s is not None
    assert limit_s > plan.deadline_s + options.SUBMIT_TIMEOUT_S


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("name", ["submit-2", "resolve-3", "poll-4", "read-5", "confirm-6", "persist-7"])
def test_a_vendor_that_hangs_is_given_up_by_the_driver_and_not_by_the_engine(name: str, scale: float) -> None:
    """A timeout of the engine's does not say that it was the vendor who let us wait."""
    timeout = timeout_for(scale)
    exchange_s = (timeout if name == "submit-2" else for_reads(timeout)).read
    limit_s = _seconds(CONFIGS[name](plan_of(request_for(), time_scale=scale)), "start_to_close_timeout")
    assert exchange_s is not None
    assert limit_s is not None
    beside_s = BRACKET_LIMIT_S + RECORD_LIMIT_S if name == "submit-2" else LEDGER_S * scale
    assert limit_s >= exchange_s + beside_s


def test_a_cancellation_waits_for_the_end_of_a_post() -> None:
    config = options.submit(plan_of(request_for()), 1)
    assert config.get("cancellation_type") == workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


def test_a_read_that_is_lost_after_many_reads_costs_one_interval() -> None:
    """Attempts count the reads: a backoff that grew with them would leave a finished clip lying."""
    plan = plan_of(request_for())
    retry = options.poll(plan, 4, 1800).get("retry_policy")
    assert retry is not None
    assert retry.maximum_interval is not None
    assert retry.maximum_interval.total_seconds() == plan.cadence.max_interval_s
    assert retry.initial_interval <= retry.maximum_interval


def test_a_wait_is_never_shorter_than_the_engine_allows() -> None:
    plan = plan_of(request_for())
    assert _seconds(options.read(plan, 1, -5), "schedule_to_close_timeout") == 1
    assert _seconds(options.resolve(plan, 1, 0.2), "schedule_to_close_timeout") == 1


def test_a_settlement_says_what_it_does_to_the_hold() -> None:
    plan = plan_of(request_for())
    assert options.settle(plan, "suspend").get("summary") == "suspend the hold: the vendor may charge it"
    assert "nothing was held" in (options.settle(None, "none").get("summary") or "")
    assert _seconds(options.settle(None, "none"), "start_to_close_timeout") == 30
