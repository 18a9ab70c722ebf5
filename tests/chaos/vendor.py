"""I4, I5, I23, I31 and the promise itself: our generations against the vendors' own journal."""

from collections.abc import Mapping
from typing import Any, Final

from activities.cadence import JITTER, SAFETY_GAP_S
from onetake.core.contracts import Plan
from providers.driver import own_clock_error_s
from tests.chaos.evidence import Evidence, Generation
from workflows.options import kept_away_s

DEADLINE_SLACK_S: Final = 5.0  # the last read comes a little before the deadline
CALM_SLACK_S: Final = 240.0  # a hang
POST_S: Final = 60.0  # between the intent to send, against which a job's age is held, and the job
# With these a job that succeeds delivers a clip that can be fetched, and can be told apart from others.
DELIVERS: Final = frozenset(
    {
        "delay",
        "silent",
        "throttle",
        "callback-first",
        "no-callback",
        "callback-duplicate",
        "status-500",
        "status-429",
        "submit-slow",
        "submit-hang",
        "submit-reset",
        "submit-502-accepted",
        "submit-no-id",
    }
)


def i4(evidence: Evidence) -> list[str]:
    """One job for a generation at most, every job is a generation's, and the id that we know is that job's, unless the
    vendor named another one and nothing could tell us."""
    broken: list[str] = []
    for generation in evidence.generations:
        ids, believed = [job["task_id"] for job in evidence.jobs_of(generation)], generation.vendor_task_id
        if len(ids) > 1:
            broken.append(f"{generation.id}: {len(ids)} jobs: {', '.join(ids)}")
        if believed and ids and believed not in ids and _was_told(evidence, generation):
            broken.append(f"{generation.id}: believes in {believed}, its job is {ids[0]}")
    known = {generation.prompt_sha256 for generation in evidence.generations}
    return broken + [f"{job['task_id']}: nobody's" for job in evidence.jobs if job["prompt_sha256"] not in known]


def _was_told(evidence: Evidence, generation: Generation) -> bool:
    """Whether anything said before its end that the job is not this generation's: the age of the job, or a callback of
    either that we took. A vendor that calls once may call while no gateway is there."""
    mine = evidence.jobs_of(generation)
    others = [job for job in evidence.jobs if job["task_id"] == generation.vendor_task_id]
    if not others or not all("submit-other-id" in job["faults"] for job in mine):
        return True
    ended_at = generation.ended_at or evidence.taken_at
    heard = any(
        each["acknowledged"] and each["at"] <= ended_at for job in (*mine, *others) for each in job["callbacks"]
    )
    made_at = others[0]["created_at"]
    return heard or made_at < mine[0]["created_at"] - own_clock_error_s(int(made_at)) - POST_S


def i5(evidence: Evidence) -> list[str]:
    """Nothing arrived at a vendor before its hold was committed, nor more often than intents were."""
    held_at = {entry.generation_id: entry.at for entry in evidence.journal if entry.kind == "hold"}
    broken: list[str] = []
    for generation in evidence.generations:
        arrivals = [s for s in evidence.submits if s["prompt_sha256"] == generation.prompt_sha256]
        intent, at = evidence.intent_of(generation.id), held_at.get(generation.id)
        early = [s for s in arrivals if at is None or s["received_at"] < at]
        if early:
            broken.append(f"{generation.id}: bytes arrived at {early[0]['received_at']}, its hold is of {at}")
        if len(arrivals) > (intent.posts if intent else 0):
            broken.append(f"{generation.id}: {len(arrivals)} arrivals, {intent.posts if intent else 0} intents")
    return broken


def i23(evidence: Evidence) -> list[str]:
    """From the vendor's success to `completed` in a gap between reads and the transfer, where nothing disturbed."""
    broken: list[str] = []
    for generation in evidence.generations:
        jobs, plan = evidence.jobs_of(generation), generation.plan
        if generation.id not in evidence.seen.calm or plan is None:
            continue
        if generation.status != "completed" or not jobs or generation.ended_at is None:
            broken.append(f"{generation.id}: undisturbed, and ended as {generation.status} ({generation.error_code})")
        elif (lag_s := generation.ended_at - jobs[0]["finished_at"]) > _longest_gap_s(plan) + CALM_SLACK_S:
            broken.append(f"{generation.id}: completed {lag_s:.1f} s after the vendor's success")
    return broken


def _longest_gap_s(plan: Plan) -> float:
    """Between two reads of a short render, also while callbacks arrive and reads are a safety net."""
    return max(plan.cadence.max_interval_s, SAFETY_GAP_S * (1 + JITTER) * plan.time_scale)


def i31(evidence: Evidence) -> list[str]:
    """No end is decided by our own clock: the vendor was asked at the deadline, and answered 429 who ends throttled.

    Where our own absence keeps us from asking, an end comes after an hour of it, scaled, and not before."""
    broken: list[str] = []
    refused = {submit["vendor"] for submit in evidence.submits if submit["status"] == 429}
    for generation in evidence.generations:
        if generation.error_code == "vendor_throttled" and generation.vendor not in refused:
            broken.append(f"{generation.id}: ended as throttled, and {generation.vendor} never answered 429")
        for job in evidence.jobs_of(generation) if generation.error_code == "vendor_timeout" else ():
            deadline = job["created_at"] + (generation.plan.deadline_s if generation.plan else 0)
            if _was_kept_away(generation, job["created_at"]):
                continue
            if (job["last_read_at"] or 0) < deadline - DEADLINE_SLACK_S:
                broken.append(f"{generation.id}: ended by its deadline {deadline}, last asked at {job['last_read_at']}")
    return broken


def _was_kept_away(generation: Generation, since: float) -> bool:
    plan, ended_at = generation.plan, generation.ended_at
    return plan is not None and ended_at is not None and ended_at - since >= kept_away_s(plan, plan.deadline_s)


def lost(evidence: Evidence) -> list[str]:
    """A render that was paid for is stored, or its amount is in suspense, or the ledger says what became of it."""
    broken: list[str] = []
    for generation in evidence.generations:
        hold = evidence.hold_of(generation.id)
        paid = [job for job in evidence.jobs_of(generation) if job["charged_micros"] > job["refunded_micros"]]
        kept = generation.assets or (hold and hold.state in {"suspended", "posted"})
        if paid and not kept:
            broken.append(f"{generation.id}: {paid[0]['task_id']} was paid for and is neither stored nor booked")
    return broken


def found(evidence: Evidence) -> list[str]:
    """A job that the vendor delivered and that could be found has become `completed`; suspense is for the rest."""
    return [
        f"{generation.id}: its clip was there to be had, it ended as {generation.status} ({generation.error_code})"
        for generation in evidence.generations
        for job in evidence.jobs_of(generation)
        if generation.status == "failed" and _delivers(job) and _can_be_found(evidence, generation, job)
    ]


def _delivers(job: Mapping[str, Any]) -> bool:
    return job["state"] == "success" and {fault.partition("=")[0] for fault in job["faults"]} <= DELIVERS


def _can_be_found(evidence: Evidence, generation: Generation, job: Mapping[str, Any]) -> bool:
    intent = evidence.intent_of(generation.id)
    return intent is not None and job["task_id"] in {intent.vendor_task_id, *intent.claims}
