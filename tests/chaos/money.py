"""I1, I2, I3, I9, I28: the ledger against itself, against the vendor's journal, and against the price table."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chaos.evidence import Entry, Evidence, Hold

_OF_THE_DATABASE = ("I1", "I2", "I3")


def i1(evidence: Evidence) -> list[str]:
    """At every hold, what each of its budgets had in use stayed within the limit: the journal replayed in order."""
    holds = {hold.generation_id: hold for hold in evidence.holds}
    used: dict[int, int] = defaultdict(int)
    broken: list[str] = []
    for entry in evidence.journal:
        if (hold := holds.get(entry.generation_id)) is None:
            broken.append(f"{entry.generation_id}: an entry without a hold")
            continue
        for window in hold.window_ids:
            used[window] += _moved(entry, hold)
            if entry.kind == "hold" and used[window] > evidence.limits[window]:
                broken.append(f"{entry.generation_id}: {used[window]} of {evidence.limits[window]} in window {window}")
    return broken + _stored(evidence, "I1")


def _moved(entry: Entry, hold: Hold) -> int:
    match entry.kind:
        case "hold" | "overrun" | "correction":
            return entry.amount_micros
        case "release":
            return -entry.amount_micros
        case "suspense_resolved":
            return entry.amount_micros - hold.amount_micros
        case _:
            return 0


def i2(evidence: Evidence) -> list[str]:
    """Post, release and suspense of a hold add up to it; nothing is overrun that was not posted whole."""
    broken: list[str] = []
    for hold in evidence.holds:
        amounts = _amounts_of(evidence, hold)
        parts = amounts["post"] + amounts["release"] + amounts["suspense"]
        if hold.state != "held" and parts != hold.amount_micros:
            broken.append(f"{hold.generation_id}: {parts} of {hold.amount_micros} micros are accounted for")
        if amounts["overrun"] and amounts["post"] != hold.amount_micros:
            broken.append(f"{hold.generation_id}: an overrun beside a post of {amounts['post']}")
    return broken + _stored(evidence, "I2")


def i3(evidence: Evidence) -> list[str]:
    """A hold is resolved at most once, and nothing is released that may have been sent."""
    broken: list[str] = []
    for hold in evidence.holds:
        kinds = [entry.kind for entry in evidence.journal if entry.generation_id == hold.generation_id]
        resolutions = kinds.count("suspense") + max(kinds.count("post"), kinds.count("release"))
        if resolutions > 1 or kinds.count("suspense_resolved") > kinds.count("suspense"):
            broken.append(f"{hold.generation_id}: resolved by {', '.join(kinds)}")
    known = _OF_THE_DATABASE[:2]
    return broken + [line for line in evidence.ledger if not line.startswith(known)]


def i9(evidence: Evidence) -> list[str]:
    """What the vendor charged and did not refund is booked; exactly that, where the outcome is known."""
    broken: list[str] = []
    for generation in evidence.generations:
        jobs, hold = evidence.jobs_of(generation), evidence.hold_of(generation.id)
        if generation.basis != "vendor_reported" and any(_charges_otherwise(job) for job in jobs):
            continue  # and does not say so: nobody can know
        paid = sum(job["charged_micros"] - job["refunded_micros"] for job in jobs)
        booked = hold.booked_micros if hold else 0
        if paid > booked:
            state = hold.state if hold else "no hold"
            broken.append(f"{generation.id}: the vendor charged {paid}, {booked} are booked ({state})")
        if jobs and hold and hold.state == "posted" and paid != booked:
            broken.append(f"{generation.id}: {booked} posted, the vendor charged {paid}")
    return broken


def _charges_otherwise(job: Mapping[str, Any]) -> bool:
    return any(fault.startswith("charge=") for fault in job["faults"])


def i28(evidence: Evidence) -> list[str]:
    """Every hold is the price that its plan pinned, and computing that price again gives the same."""
    plans = {generation.id: generation.plan for generation in evidence.generations}
    return [line for hold in evidence.holds for line in _prices(evidence, hold, plans[hold.generation_id])]


def _prices(evidence: Evidence, hold: Hold, plan: object) -> Iterator[str]:
    pinned = getattr(plan, "price", None)
    if pinned is None or (hold.amount_micros, hold.price_version) != (pinned.amount_micros, pinned.table_version):
        yield f"{hold.generation_id}: held {hold.amount_micros} ({hold.price_version}), pinned {pinned}"
    again = evidence.prices.get(hold.generation_id)
    if again != (hold.amount_micros, hold.price_version):
        yield f"{hold.generation_id}: held {hold.amount_micros} ({hold.price_version}), computed again {again}"


def _amounts_of(evidence: Evidence, hold: Hold) -> dict[str, int]:
    amounts: dict[str, int] = defaultdict(int)
    for entry in evidence.journal:
        if entry.generation_id == hold.generation_id:
            amounts[entry.kind] += entry.amount_micros
    return amounts


def _stored(evidence: Evidence, number: str) -> list[str]:
    """What the query over the whole database found of this invariant."""
    return [line for line in evidence.ledger if line.startswith(f"{number} ")]
