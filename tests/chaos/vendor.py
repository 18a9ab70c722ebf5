"""I4, I5, I23 and the promise itself: our generations against the vendors' own journal."""

from collections.abc import Mapping
from typing import Any, Final

from tests.chaos.evidence import Evidence, Generation

CALM_SLACK_S: Final = 30.0  # two cores, and everything else that runs beside
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
    """One job for a generation at most, every job is a generation's, and the id that we know is that job's."""
    broken: list[str] = []
    for generation in evidence.generations:
        ids = [job["task_id"] for job in evidence.jobs_of(generation)]
        if len(ids) > 1:
            broken.append(f"{generation.id}: {len(ids)} jobs: {', '.join(ids)}")
        if generation.vendor_task_id and ids and generation.vendor_task_id not in ids:
            broken.append(f"{generation.id}: believes in {generation.vendor_task_id}, its job is {ids[0]}")
    known = {generation.prompt_sha256 for generation in evidence.generations}
    return broken + [f"{job['task_id']}: nobody's" for job in evidence.jobs if job["prompt_sha256"] not in known]


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
    """From the vendor's success to `completed` in a poll and the transfer, for generations that nothing disturbed."""
    broken: list[str] = []
    for generation in evidence.generations:
        jobs, plan = evidence.jobs_of(generation), generation.plan
        if generation.id not in evidence.seen.calm or plan is None:
            continue
        if generation.status != "completed" or not jobs or generation.ended_at is None:
            broken.append(f"{generation.id}: undisturbed, and ended as {generation.status} ({generation.error_code})")
        elif (lag_s := generation.ended_at - jobs[0]["finished_at"]) > plan.cadence.max_interval_s + CALM_SLACK_S:
            broken.append(f"{generation.id}: completed {lag_s:.1f} s after the vendor's success")
    return broken


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
