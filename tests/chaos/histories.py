"""I7, I8, I17, I18, I19: the engine's own records, and the options that the workflows give it."""

import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median
from types import ModuleType
from typing import Any, Final, cast

from onetake.core.contracts import Plan
from tests.chaos.evidence import Evidence, Generation
from tests.providers.parts import plan_of, request_for
from workflows import options

UNSERVED_S: Final = 120.0
LEAST_UNSERVED_S: Final = 30.0
SPARE_S: Final = 3600.0
MOST_EVENTS: Final = 2_000
MOST_BYTES: Final = 10 * 1024 * 1024
TYPICAL_EVENTS: Final = 60
QUIET_S: Final = 60.0  # the longest attempt that need not heartbeat
UNBOUNDED: Final = frozenset({"settle", "release", "correct", "record"})  # money that was decided is never given up


def i7(evidence: Evidence) -> list[str]:
    """No hold stays open for two minutes without a run that serves it."""
    limit_s = max(UNSERVED_S * evidence.time_scale, LEAST_UNSERVED_S)
    running = {run.workflow_id for run in evidence.runs if run.status == "running"}
    workflow_of = {generation.id: generation.workflow_id for generation in evidence.generations}
    return [
        f"{hold.generation_id}: held for {evidence.taken_at - hold.created_at:.0f} s, and nobody serves it"
        for hold in evidence.holds
        if hold.state == "held"
        and workflow_of[hold.generation_id] not in running
        and evidence.taken_at - hold.created_at > limit_s
    ]


def i8(evidence: Evidence) -> list[str]:
    """No run is open for longer than its deadline and an hour."""
    by_workflow = {generation.workflow_id: generation for generation in evidence.generations}
    return [
        f"{run.workflow_id}: open for {evidence.taken_at - run.started_at:.0f} s"
        for run in evidence.runs
        if run.status == "running"
        and evidence.taken_at - run.started_at > _longest_s(evidence, by_workflow.get(run.workflow_id))
    ]


def _longest_s(evidence: Evidence, generation: Generation | None) -> float:
    spare_s = max(SPARE_S * evidence.time_scale, LEAST_UNSERVED_S)
    if generation is None or generation.plan is None:
        return options.LATE_WINDOW_S * evidence.time_scale + spare_s
    plan = generation.plan
    return 2 * plan.deadline_s + plan.unknown_deadline_s + spare_s


def i17(evidence: Evidence) -> list[str]:
    """Every history of the run replays on today's code."""
    return [f"{run.workflow_id}: {run.replay_failure}" for run in evidence.runs if run.replay_failure]


def i18(evidence: Evidence) -> list[str]:
    """No history comes near the engine's limits, and the usual one is short."""
    broken = [
        f"{run.workflow_id}: {run.events} events, {len(run.raw)} bytes"
        for run in evidence.runs
        if run.events >= MOST_EVENTS or len(run.raw) >= MOST_BYTES
    ]
    usual = [run.events for run in evidence.runs if run.kind == "Generation" and run.status == "completed"]
    if usual and median(usual) >= TYPICAL_EVENTS:
        broken.append(f"a completed run has {median(usual):.0f} events as a rule")
    return broken


def i19(module: ModuleType = options) -> list[str]:
    """Every activity beats or ends its attempt within a minute, and is not tried for ever. Reads the options only."""
    plan = plan_of(request_for())
    made = [(name, make(plan, each)) for name, each in _functions_of(module)]
    return [line for name, config in made if "activity_id" in config for line in _unbounded(name, config)]


def _functions_of(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    members: dict[str, Any] = vars(module)
    for name, each in members.items():
        if not inspect.isfunction(each) or each.__module__ != module.__name__ or name.startswith("_"):
            continue
        if inspect.signature(each).return_annotation is not float:  # those are times
            yield name, each


def make(plan: Plan, function: Callable[..., Any]) -> dict[str, Any]:
    """What a function of the options gives for a plan; an empty one when it gives no options."""
    given: dict[str, Any] = {"plan": plan, "number": 1, "left_s": 600.0, "resolution": "post"}
    given |= {"woken": True, "config": {}, "base_queue": "onetake"}
    made = function(**{name: given[name] for name in inspect.signature(function).parameters})
    return cast("dict[str, Any]", made) if isinstance(made, dict) else {}


def _unbounded(name: str, config: dict[str, Any]) -> Iterator[str]:
    attempt: timedelta = config["start_to_close_timeout"]
    if attempt.total_seconds() > QUIET_S and "heartbeat_timeout" not in config:
        yield f"{name}: an attempt may be silent for {attempt.total_seconds():g} s"
    retry = config.get("retry_policy")
    bounded = "schedule_to_close_timeout" in config or (retry is not None and retry.maximum_attempts > 0)
    if not bounded and name not in UNBOUNDED:
        yield f"{name}: tried for ever"
